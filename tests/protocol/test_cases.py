"""Protocol cases that need more than one conversation: logins, cancels, servers that go away, sizes, storms.

`cases.py` says which case each test stands for.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.protocol.stage import USER
from tests.support import wire
from tests.support.dual import READY, Conversation, End, difference, hear, reported
from tests.support.gateway import Gateway, wait_until
from tests.support.postgres import PostgresServer

EXCHANGE = (
    wire.parse("SELECT id, label FROM items WHERE id < $1 ORDER BY id") + wire.bind([b"4"], result_formats=[1, 0])
    + wire.describe_portal() + wire.execute() + wire.SYNC
)


@pytest.fixture
def client(dual_gateway: Gateway) -> Iterator[wire.WireClient]:
    with wire.WireClient(dual_gateway.port, timeout=20) as one:
        one.login("alice", "plain", dual_gateway.token())
        yield one


# ---------------------------------------------------------------- login

STARTUPS: dict[str, dict[str, str]] = {
    "options": {"options": "-c DateStyle=German -cTimeZone=Asia/Tokyo --IntervalStyle=iso_8601 -c work_mem=5MB"},
    "escaped options": {"options": r"""-c search_path="a\ b",x  -c  application_name=x\ y"""},
    "quotes and backslashes": {"search_path": '"a\'b", "c""d", "e\\f"', "application_name": "it's \\ \"x\""},
    "empty values": {"search_path": "", "application_name": ""},
    "settings of their own": {"DateStyle": "SQL, DMY", "TimeZone": "America/New_York", "extra_float_digits": "3"},
    "encoding": {"client_encoding": "LATIN1"},
    "encoding, as a driver writes it": {"client_encoding": "'utf-8'"},
}
# What the gateway sets of its own accord is left out.
SHOWN = """SELECT name, setting FROM pg_settings WHERE source IN ('client', 'database user')
           AND name NOT IN ('application_name', 'standard_conforming_strings') ORDER BY name"""


@pytest.mark.parametrize("name", STARTUPS)
def test_startup_settings_arrive_as_they_are(
    postgres: PostgresServer, dual_database: str, dual_gateway: Gateway, name: str
) -> None:
    steps = (wire.query(SHOWN), READY, wire.query("SHOW search_path"), READY)
    server = hear(postgres.port, USER, dual_database, "", steps, **STARTUPS[name])
    gateway = hear(dual_gateway.port, "alice", "plain", dual_gateway.token(), steps, **STARTUPS[name])
    assert not difference(server, gateway)
    assert reported(gateway.login) == reported(server.login)


@pytest.mark.parametrize("startup", [{"DateStyle": "nonsense"}, {"nowhere": "1"}, {"options": "-c work_mem=x"}])
def test_settings_that_the_server_refuses_are_its_own_error(
    postgres: PostgresServer, dual_database: str, dual_gateway: Gateway, startup: dict[str, str]
) -> None:
    said = []
    for port, user, database in ((postgres.port, USER, dual_database), (dual_gateway.port, "alice", "plain")):
        with wire.WireClient(port, timeout=20) as one:
            one.send(wire.startup(user=user, database=database, **startup))
            frames = one.frames_until("R", "E")
            if frames[-1] == ("R", b"\0\0\0\3"):
                one.send(wire.frame("p", dual_gateway.token().encode() + b"\0"))
            fields = wire.errors([*frames, *one.frames_until_end()])[0]
            said.append((fields["V"], fields["C"], fields["M"]))
    assert said[0] == said[1]


@pytest.mark.parametrize("first", [wire.frame("p", b"secret\0"), wire.query("SELECT 1"), wire.SYNC, wire.TERMINATE])
def test_messages_before_the_startup_packet_are_no_session(dual_gateway: Gateway, first: bytes) -> None:
    with wire.WireClient(dual_gateway.port, timeout=20) as one:
        one.send(first + wire.startup(user="alice", database="plain"))
        with contextlib.suppress(OSError):
            one.socket.shutdown(socket.SHUT_WR)
        assert not [item for item in one.frames_until_end() if item.kind in "RZ"]


@pytest.mark.parametrize("size", [1, 1023, 1024, 8192, 32_768, 65_000])
def test_passwords_of_any_size_are_read_whole(dual_gateway: Gateway, size: int) -> None:
    for chunk in (7_000, 1 << 20):
        with wire.WireClient(dual_gateway.port, timeout=20) as one:
            one.send(wire.startup(user="alice", database="plain"))
            assert one.read_frame().kind == "R"
            password = wire.frame("p", b"x" * size + b"\0")
            one.send_chunks(password[at : at + chunk] for at in range(0, len(password), chunk))
            fields = wire.errors(one.frames_until_end())[-1]
            assert (fields["V"], fields["C"]) in {("FATAL", "28P01"), ("FATAL", "28000"), ("FATAL", "08P01")}, fields


def test_a_password_beyond_the_protocols_limit_is_refused_unread(dual_gateway: Gateway) -> None:
    with wire.WireClient(dual_gateway.port, timeout=20) as one:
        one.send(wire.startup(user="alice", database="plain"))
        assert one.read_frame().kind == "R"
        one.send(b"p" + struct.pack("!I", 65_536 + 4))
        assert wire.errors(one.frames_until_end())[-1]["C"] == "08P01"


def test_a_login_tries_the_upstream_once(postgres: PostgresServer, dual_gateway: Gateway) -> None:
    """A password that the server does not take is not tried again: that would lock the account that all share."""
    size = postgres.log.stat().st_size
    with wire.WireClient(dual_gateway.port, timeout=20) as one:
        one.send(wire.startup(user="alice", database="bad-password"))
        one.read_frame()
        one.send(wire.frame("p", dual_gateway.token().encode() + b"\0"))
        assert wire.errors(one.frames_until_end())[-1]["V"] == "FATAL"
    assert postgres.log_text(size).count("password authentication failed") == 1


def test_first_logins_of_one_person_do_not_race(dual_gateway: Gateway) -> None:
    token = dual_gateway.issuer.mint("newcomer", groups=["engineering"])
    heard: list[str] = []

    def login() -> None:
        found = hear(dual_gateway.port, "newcomer", "beside", token, (wire.query("SELECT 1"), READY))
        heard.append(found.told())

    threads = [threading.Thread(target=login) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert heard == ["TDCZ"] * 20


# ---------------------------------------------------------------- cancel

SLEEP = "SELECT pg_sleep(30)"


def cancel(port: int, pid: int, secret: bytes) -> None:
    """A CancelRequest, and the wait for the end of its connection that libpq does too."""
    with wire.WireClient(port, timeout=20) as one:
        one.send(wire.cancel_request(pid, secret))
        assert one.frames_until_end() == []


@pytest.mark.parametrize("protocol", [wire.PROTOCOL_3_0, wire.PROTOCOL_3_2])
def test_keys_have_the_protocols_length_and_work(
    dual_gateway: Gateway, postgres: PostgresServer, protocol: int
) -> None:
    with wire.WireClient(dual_gateway.port, timeout=20) as one:
        one.login("alice", "plain", dual_gateway.token(), protocol=protocol)
        pid, secret = one.key
        assert len(secret) == 4 if protocol == wire.PROTOCOL_3_0 else 4 <= len(secret) <= 256
        one.send(wire.query(SLEEP))
        wait_until(lambda: postgres.is_running(f"{SLEEP}%"), "the query runs")
        # Right process, wrong secret; a secret cut short: nothing happens.
        cancel(dual_gateway.port, pid, bytes(b ^ 1 for b in secret))
        cancel(dual_gateway.port, pid, b"\0" * 4)
        assert postgres.is_running(f"{SLEEP}%")
        cancel(dual_gateway.port, pid, secret)
        assert wire.errors(one.frames_until("Z"))[0]["C"] == "57014"
        assert wire.rows(one.query("SELECT 1")) == [[b"1"]]


def test_cancel_of_an_idle_session_hits_nothing(dual_gateway: Gateway, client: wire.WireClient) -> None:
    for _ in range(3):
        cancel(dual_gateway.port, *client.key)
        assert wire.rows(client.query("SELECT 1")) == [[b"1"]]
    frames = client.ask(EXCHANGE)
    assert not wire.errors(frames)


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT i, repeat('x', 20000) FROM generate_series(1, 1000000) i) TO STDOUT",
        "SELECT i, repeat('x', 20000) FROM generate_series(1, 1000000) i",
        "SELECT repeat('x', 1000000) FROM generate_series(1, 100000) i",
    ],
)
def test_cancel_in_the_middle_of_a_result(dual_gateway: Gateway, client: wire.WireClient, sql: str) -> None:
    client.send(wire.query(sql))
    client.frames_until("d", "D")
    canceller = threading.Thread(target=cancel, args=(dual_gateway.port, *client.key))
    canceller.start()
    frames = client.frames_until("Z")
    canceller.join(20)
    assert [item["C"] for item in wire.errors(frames)] == ["57014"]
    assert wire.rows(client.query("SELECT 1")) == [[b"1"]]


def test_cancel_of_a_pipeline_cancels_what_runs(
    dual_gateway: Gateway, postgres: PostgresServer, client: wire.WireClient
) -> None:
    run = wire.parse(SLEEP) + wire.bind() + wire.execute()
    client.send(run, run, wire.SYNC, wire.query("SELECT 1"))
    wait_until(lambda: postgres.is_running(f"{SLEEP}%"), "the query runs")
    cancel(dual_gateway.port, *client.key)
    assert [item.kind for item in client.frames_until("Z")] == ["1", "2", "E", "Z"]
    assert wire.rows(client.frames_until("Z")) == [[b"1"]]


# ---------------------------------------------------------------- every cut

@pytest.mark.parametrize("way", ["plain", "beside"])
def test_an_exchange_cut_at_every_byte(dual_gateway: Gateway, way: str) -> None:
    with wire.WireClient(dual_gateway.port, timeout=20) as one:
        one.login("alice", way, dual_gateway.token())
        expected = one.ask(EXCHANGE)
        for at in range(1, len(EXCHANGE)):
            one.send_chunks((EXCHANGE[:at], EXCHANGE[at:]))
            assert one.frames_until("Z") == expected, f"cut at {at}"


def test_sizes_about_those_of_buffers(client: wire.WireClient) -> None:
    """Statement, parameter and name around the sizes of buffers in gateway and server: minus one, exact, plus one."""
    for power in (12, 13, 16, 17, 18, 20):
        for size in (2**power - 1, 2**power, 2**power + 1):
            frames = client.ask(
                wire.parse("SELECT length($1::text)"), wire.bind([b"x" * size]), wire.execute(), wire.SYNC)
            assert wire.rows(frames) == [[str(size).encode()]]
            assert wire.rows(client.query(f"SELECT length('{'x' * size}')")) == [[str(size).encode()]]


def test_a_pipeline_of_ten_megabytes(dual_gateway: Gateway) -> None:
    """More than all buffers on the way, both ways at once: no direction may wait for the other."""
    one = wire.parse("SELECT $1::text") + wire.bind([b"x" * 100_000]) + wire.execute()
    heard = hear(dual_gateway.port, "alice", "plain", dual_gateway.token(), (one * 100 + wire.SYNC, READY))
    assert heard.told() == "12DC" * 100 + "Z"
    assert all(len(item.body) == 100_006 for item in heard.frames if item.kind == "D")


# ---------------------------------------------------------------- servers and clients that go away

def test_a_backend_that_is_terminated(postgres: PostgresServer, dual_database: str, dual_gateway: Gateway) -> None:
    """Idle, in a transaction, in the middle of a statement: one FATAL 57P01, then the end, as without a gateway."""
    for before, busy in ((wire.query("SELECT 1"), False), (wire.query("BEGIN"), False), (wire.query(SLEEP), True)):
        told = []
        for port, user, database in ((postgres.port, USER, dual_database), (dual_gateway.port, "alice", "plain")):
            one = Conversation(port)
            with contextlib.closing(one):
                one.login(user, database, dual_gateway.token())
                one.send(before)
                if busy:
                    wait_until(lambda: postgres.is_running(f"{SLEEP}%"), "the query runs")
                else:
                    one.until("Z", 1, 0)
                with postgres.connect() as db:
                    ended = db.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND datname = %s",
                        (USER, dual_database)).fetchall()
                    assert ended == [(True,)]
                frames, torn = one.hold((End.STAYS,))
                told.append(([item.kind for item in frames], wire.errors(frames), torn))
                wait_until(lambda: sessions_in(postgres, dual_database) == 0, "the session is gone")
        assert told[0] == told[1]
        assert [fields["C"] for fields in told[1][1]] == ["57P01"]


def sessions_in(postgres: PostgresServer, database: str) -> int:
    """Sessions of the scenarios' role in the server."""
    with postgres.connect() as db:
        row = db.execute(
            "SELECT count(*)::int FROM pg_stat_activity WHERE usename = %s AND datname = %s", (USER, database),
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_storm_of_resets_leaves_nothing(postgres: PostgresServer, dual_database: str, dual_gateway: Gateway) -> None:
    token = dual_gateway.token()
    for number in range(60):
        hear(dual_gateway.port, "alice", "plain", token, (
            wire.query("BEGIN; SELECT repeat('x', 100000) FROM generate_series(1, 100)"),
            *((READY,) if number % 2 else ()), End.RESET))
    wait_until(lambda: sessions_in(postgres, dual_database) == 0, "every session is gone from the server")
    wait_until(lambda: dual_gateway.metrics()["hoopfast_sessions"] == 0, "and from the gateway")


# ---------------------------------------------------------------- sizes

def anonymous_kb(gateway: Gateway) -> int:
    """Private memory of all workers; the journal's mapped files are not in it."""
    total = 0
    for worker in gateway.workers():
        for line in Path(f"/proc/{worker.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                total += int(line.split()[1])
    return total


def test_giant_messages_cost_no_memory_for_long(dual_gateway: Gateway) -> None:
    with wire.WireClient(dual_gateway.port, timeout=60) as one:
        one.login("alice", "plain", dual_gateway.token())
        one.query("SELECT 1")
        before = anonymous_kb(dual_gateway)
        one.send(wire.query("SELECT repeat('x', 60000000)"))
        frames = one.frames_until("D")
        assert len(frames[-1].body) == 60_000_006
        assert anonymous_kb(dual_gateway) - before < 8_192, "a row is not stored on its way"
        one.frames_until("Z")
        for _ in range(3):
            value = b"x" * 30_000_000
            frames = one.ask(wire.parse("SELECT length($1::text)"), wire.bind([value]), wire.execute(), wire.SYNC)
            assert wire.rows(frames) == [[b"30000000"]]
        assert anonymous_kb(dual_gateway) - before < 16_384, "and a parameter is given back"


def test_resets_in_the_middle_of_a_giant_row_leak_nothing(dual_gateway: Gateway) -> None:
    token = dual_gateway.token()
    steps = (wire.query("SELECT repeat('x', 20000000)"), End.RESET)
    for _ in range(4):
        hear(dual_gateway.port, "alice", "plain", token, steps)
    before = anonymous_kb(dual_gateway)
    for _ in range(20):
        hear(dual_gateway.port, "alice", "plain", token, steps)
    wait_until(lambda: anonymous_kb(dual_gateway) - before < 4_096, "memory is where it was")


def test_a_client_that_never_reads_is_let_go_of_when_it_leaves(
    postgres: PostgresServer, dual_database: str, dual_gateway: Gateway
) -> None:
    before = anonymous_kb(dual_gateway)
    one = Conversation(dual_gateway.port)
    with contextlib.closing(one):
        one.login("alice", "plain", dual_gateway.token())
        one.send(wire.query("SELECT repeat('x', 10000) FROM generate_series(1, 100000)"))
        wait_until(lambda: waits_for_the_client(postgres, dual_database), "the server waits for its client")
        assert anonymous_kb(dual_gateway) - before < 8_192
    wait_until(lambda: sessions_in(postgres, dual_database) == 0, "the session is gone from the server")


def waits_for_the_client(postgres: PostgresServer, database: str) -> bool:
    with postgres.connect() as db:
        row = db.execute(
            "SELECT FROM pg_stat_activity WHERE datname = %s AND usename = %s AND wait_event = 'ClientWrite'",
            (database, USER)).fetchone()
    return row is not None


def test_fast_queries_beside_a_giant_copy(dual_gateway: Gateway) -> None:
    """One session's gigabytes delay nobody: the median of small queries stays in the milliseconds."""
    heavy = Conversation(dual_gateway.port)
    stop = threading.Event()

    def read() -> None:
        heavy.send(wire.query("COPY (SELECT repeat('x', 30000) FROM generate_series(1, 10000000)) TO STDOUT"))
        while not stop.is_set():
            heavy.until("d", 1, len(heavy.frames))
            heavy.frames.clear()

    with contextlib.closing(heavy):
        heavy.login("alice", "plain", dual_gateway.token())
        reader = threading.Thread(target=read)
        reader.start()
        with dual_gateway.connect("plain") as db:
            times = []
            for _ in range(200):
                began = time.monotonic()
                db.execute("SELECT 1")
                times.append(time.monotonic() - began)
        stop.set()
        reader.join(20)
    assert sorted(times)[100] < 0.1, "on a machine with nothing else to do it is half a millisecond"


# ---------------------------------------------------------------- other sessions

def test_notifications_from_elsewhere_arrive_in_idle_and_in_busy_sessions(dual_gateway: Gateway) -> None:
    one = Conversation(dual_gateway.port)
    with contextlib.closing(one), psycopg.connect(dual_gateway.dsn("plain"), autocommit=True) as speaker:
        one.login("alice", "plain", dual_gateway.token())
        one.send(wire.query("LISTEN a"))
        at = one.until("Z", 1, 0)
        speaker.execute("NOTIFY a, 'idle'")
        at = one.until("A", 1, at)
        one.send(wire.query("COPY arrivals FROM STDIN") + wire.copy_data(b"1\tx\n"))
        at = one.until("G", 1, at)
        speaker.execute("NOTIFY a, 'busy'")
        one.send(wire.copy_fail("enough"))
        at = one.until("Z", 1, at)
        one.send(wire.SYNC)
        one.until("Z", 1, at)
        assert [item.body[4:] for item in one.frames if item.kind == "A"] == [b"a\0idle\0", b"a\0busy\0"]
