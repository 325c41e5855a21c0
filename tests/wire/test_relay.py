"""The relay between a scripted client and a scripted server, in three deliveries: order, verdicts, masks, journal."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from hoopfast import _wire, model
from tests.support import wire
from tests.support.deliveries import Delivery, deliveries
from tests.support.relay import (
    READY,
    Pair,
    RelayBench,
    allow,
    complete,
    error,
    expect,
    nothing,
    read_exactly,
    read_frames,
    row,
    row_description,
    send,
)

REFUSED = b"hoopfast_refused_this_statement"
REFUSAL = error("42501", "rule no-grants refuses this")
PARSED, BOUND, CLOSED, NO_DATA = b"1\0\0\0\x04", b"2\0\0\0\x04", b"3\0\0\0\x04", b"n\0\0\0\x04"
READY_IN_TRANSACTION = b"Z\0\0\0\x05T"


def deny(bench: RelayBench, event: tuple[Any, ...]) -> None:
    bench.relay.decide(event[1], event[2], model.ACTION_DENY, 0, label=b'{"verdict":"deny"}', error=REFUSAL)


def deny_drops(bench: RelayBench, event: tuple[Any, ...]) -> None:
    (deny if b"drop" in event[5] else allow)(bench, event)


@deliveries
def test_simple_query_passes_both_ways_and_is_recorded(tmp_path: Path, delivery: Delivery) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        query = wire.query("select 1 as one")
        answer = row_description(("one", 0, 0, 23, 0)) + row(b"1") + complete("SELECT 1") + READY
        send(pair.client, delivery(query))
        expect(pair.upstream, query)
        send(pair.upstream, delivery(answer))
        expect(pair.client, answer)
        bench.wait(lambda: bench.records_of(model.KIND_OUTCOME), "an outcome record")
        statement = bench.records_of(model.KIND_STATEMENT)[0]
        assert statement.payload.endswith(b"select 1 as one")
        results = b"".join(r.payload[8:] for r in bench.records_of(model.KIND_RESULT))
        assert results == answer[: -len(complete("SELECT 1") + READY)]
        outcome = bench.records_of(model.KIND_OUTCOME)[0].payload
        intent, rows, _, _, _, how, status, tag = struct.unpack_from("<QQQQqBBH", outcome)
        assert intent == bench.records_of(model.KIND_QUERY)[0].sequence
        assert (rows, chr(how), chr(status), outcome[44 : 44 + tag]) == (1, "C", "I", b"SELECT 1")


@deliveries
def test_extended_query_with_named_statement(tmp_path: Path, delivery: Delivery) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        first = wire.parse("select $1::int", "s1", [23]) + wire.bind([b"5"], name="s1") + wire.execute() + wire.SYNC
        send(pair.client, delivery(first))
        expect(pair.upstream, first)
        answer = PARSED + BOUND + row(b"5") + complete("SELECT 1") + READY
        send(pair.upstream, delivery(answer))
        expect(pair.client, answer)
        again = wire.bind([b"6"], name="s1") + wire.execute() + wire.SYNC
        send(pair.client, delivery(again))
        expect(pair.upstream, again)
        answer = BOUND + row(b"6") + complete("SELECT 1") + READY
        send(pair.upstream, delivery(answer))
        expect(pair.client, answer)
        assert len(bench.of_kind("verdict")) == 1
        bench.wait(lambda: len(bench.records_of(model.KIND_OUTCOME)) == 2, "two outcomes")
        assert len(bench.records_of(model.KIND_STATEMENT)) == 1
        assert [len(bench.records_of(k)) for k in (model.KIND_PARSE, model.KIND_BIND, model.KIND_EXECUTE)] == [1, 2, 2]


def test_nothing_goes_upstream_before_the_verdict(tmp_path: Path) -> None:
    with RelayBench(tmp_path, decide=lambda bench, event: None) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("select 1") + wire.query("select 2"))
        bench.wait(lambda: bench.of_kind("verdict"), "the question")
        nothing(pair.upstream)
        assert not bench.records_of(model.KIND_QUERY)
        allow(bench, bench.of_kind("verdict")[0])
        expect(pair.upstream, wire.query("select 1"))
        pair.upstream.sendall(complete("SELECT 1") + READY)
        expect(pair.client, complete("SELECT 1") + READY)
        bench.wait(lambda: len(bench.of_kind("verdict")) == 2, "the second question")


@deliveries
def test_refused_query_gets_the_servers_state(tmp_path: Path, delivery: Delivery) -> None:
    with RelayBench(tmp_path, decide=deny) as bench:
        pair = bench.session()
        send(pair.client, delivery(wire.query("drop table x")))
        expect(pair.upstream, wire.frame("Q", REFUSED + b"\0"))
        send(pair.upstream, delivery(error("42601", "syntax error at or near hoopfast") + b"Z\0\0\0\x05E"))
        expect(pair.client, REFUSAL + b"Z\0\0\0\x05E")
        assert bench.counter("statements_deny") == 1
        outcome = bench.records_of(model.KIND_OUTCOME)[0].payload
        assert chr(outcome[40]) == "D"
        assert b"rule no-grants" in outcome


@deliveries
def test_refused_parse_in_a_pipeline_is_an_error_at_that_point(tmp_path: Path, delivery: Delivery) -> None:
    with RelayBench(tmp_path, decide=deny_drops) as bench:
        pair = bench.session()
        before = wire.parse("select 1") + wire.bind() + wire.execute()
        refused = wire.parse("drop table x", "d") + wire.bind(name="d") + wire.execute()
        after = wire.parse("select 2") + wire.bind() + wire.execute() + wire.SYNC
        send(pair.client, delivery(before + refused + after))
        expect(pair.upstream, before + wire.parse(REFUSED.decode(), "d") + wire.SYNC)
        send(pair.upstream, delivery(PARSED + BOUND + complete("SELECT 1") + error("42601", "syntax error") + READY))
        expect(pair.client, PARSED + BOUND + complete("SELECT 1") + REFUSAL + READY)
        # The session is in step: the next statement works.
        pair.client.sendall(before + wire.SYNC)
        expect(pair.upstream, before + wire.SYNC)


@deliveries
def test_server_error_skips_to_sync(tmp_path: Path, delivery: Delivery) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        pair.client.sendall(wire.parse("select 1/0") + wire.bind() + wire.execute())
        expect(pair.upstream, wire.parse("select 1/0") + wire.bind() + wire.execute())
        answer = PARSED + BOUND + error("22012", "division by zero")
        send(pair.upstream, delivery(answer))
        expect(pair.client, answer)
        # What follows until Sync is ignored by the server, and needs no verdict from us.
        pair.client.sendall(wire.parse("select 3") + wire.bind() + wire.execute() + wire.SYNC)
        expect(pair.upstream, wire.SYNC)
        pair.upstream.sendall(READY)
        expect(pair.client, READY)
        assert [event[5] for event in bench.of_kind("verdict")] == [b"select 1/0"]


def test_failed_parse_frees_the_name(tmp_path: Path) -> None:
    with RelayBench(tmp_path, decide=deny_drops) as bench:
        pair = bench.session()
        pair.client.sendall(wire.parse("select 1", "s") + wire.SYNC)
        expect(pair.upstream, wire.parse("select 1", "s") + wire.SYNC)
        pair.upstream.sendall(PARSED + READY)
        expect(pair.client, PARSED + READY)
        # A second Parse of the name fails (42P05): the first statement stays in force.
        pair.client.sendall(wire.parse("select 2", "s") + wire.SYNC)
        expect(pair.upstream, wire.parse("select 2", "s") + wire.SYNC)
        pair.upstream.sendall(error("42P05", 'prepared statement "s" already exists') + READY)
        read_frames(pair.client, until="Z")
        pair.client.sendall(wire.bind(name="s") + wire.execute() + wire.SYNC)
        expect(pair.upstream, wire.bind(name="s") + wire.execute() + wire.SYNC)
        pair.upstream.sendall(BOUND + complete("SELECT 1") + READY)
        read_frames(pair.client, until="Z")
        bench.wait(lambda: bench.records_of(model.KIND_BIND), "a bind record")
        bound = struct.unpack_from("<Q", bench.records_of(model.KIND_BIND)[0].payload)[0]
        texts = {
            struct.unpack_from("<Q", r.payload)[0]: r.payload for r in bench.records_of(model.KIND_STATEMENT)
        }
        assert texts[bound].endswith(b"select 1")


def test_verdicts_are_shared_by_sessions_of_a_context(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        bench.relay.define_context(2, [], [])
        for context in (1, 1, 2):
            pair = bench.session(context)
            pair.client.sendall(wire.query("select 1"))
            expect(pair.upstream, wire.query("select 1"))
        assert [event[4] for event in bench.of_kind("verdict")] == [1, 2]
        assert bench.counter("cache_hits") == 1


def test_ask_parks_at_bind_with_the_parameters(tmp_path: Path) -> None:
    def ask(bench: RelayBench, event: tuple[Any, ...]) -> None:
        if event[3] == "P":
            bench.relay.decide(event[1], event[2], model.ACTION_ASK, 0, label=b"{}")

    with RelayBench(tmp_path, decide=ask) as bench:
        pair = bench.session()
        message = wire.parse("delete from t where id = $1") + wire.bind([b"7"]) + wire.execute() + wire.SYNC
        pair.client.sendall(message)
        expect(pair.upstream, wire.parse("delete from t where id = $1"))
        bench.wait(lambda: len(bench.of_kind("verdict")) == 2, "the question at Bind")
        event = bench.of_kind("verdict")[1]
        assert event[3] == "B"
        assert event[7] == wire.bind([b"7"])[5:]
        nothing(pair.upstream)
        bench.relay.notice(pair.session, b"N\0\0\0\x05\0")
        expect(pair.client, b"N\0\0\0\x05\0")
        bench.relay.decide(event[1], event[2], model.ACTION_ALLOW, 0, label=b'{"approved":true}', cache=False)
        expect(pair.upstream, wire.bind([b"7"]) + wire.execute() + wire.SYNC)
        # Once: the same text asks again.
        pair.upstream.sendall(PARSED + BOUND + complete("DELETE 1") + READY)
        read_frames(pair.client, until="Z")
        pair.client.sendall(wire.bind([b"8"]) + wire.execute() + wire.SYNC)
        bench.wait(lambda: len(bench.of_kind("verdict")) == 3, "a new question")
        assert bench.of_kind("verdict")[2][3] == "B"


def test_client_that_leaves_while_parked_withdraws(tmp_path: Path) -> None:
    with RelayBench(tmp_path, decide=lambda bench, event: None) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("drop database x"))
        bench.wait(lambda: bench.of_kind("verdict"), "the question")
        pair.client.close()
        bench.wait(lambda: bench.of_kind("withdrawn") and bench.of_kind("closed"), "withdrawal")
        assert bench.of_kind("closed")[0] == ("closed", 1, "client")


def tcp_session(bench: RelayBench) -> tuple[socket.socket, socket.socket]:
    """As bench.session(), over TCP: there a client that sends no more is not one that has gone."""
    ends = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(2):
            ours = socket.create_connection(listener.getsockname())
            ours.settimeout(10)
            theirs, _ = listener.accept()
            theirs.setblocking(False)
            ends.append((ours, theirs))
    bench.sessions += 1
    bench.relay.adopt(bench.sessions, 1, ends[0][1].detach(), None, ends[1][1].detach(), None, start_record=b"{}")
    return ends[0][0], ends[1][0]


def test_half_closed_while_judged_still_gets_its_answer(tmp_path: Path) -> None:
    with RelayBench(tmp_path, decide=lambda bench, event: None) as bench:
        client, upstream = tcp_session(bench)
        with client, upstream:
            client.sendall(wire.query("select 1") + wire.query("select 2"))
            bench.wait(lambda: bench.of_kind("verdict"), "the question")
            client.shutdown(socket.SHUT_WR)
            nothing(upstream)
            for number in (1, 2):
                bench.wait(lambda n=number: len(bench.of_kind("verdict")) == n, "a question")
                allow(bench, bench.of_kind("verdict")[-1])
                expect(upstream, wire.query(f"select {number}"))
                upstream.sendall(complete("SELECT 1") + READY)
                expect(client, complete("SELECT 1") + READY)
            assert upstream.recv(100) == b"", "and then the server hears of it"
            assert not bench.of_kind("withdrawn")


def test_half_closed_while_held_for_approval_withdraws(tmp_path: Path) -> None:
    with RelayBench(tmp_path, decide=lambda bench, event: None) as bench:
        for late in (False, True):
            client, upstream = tcp_session(bench)
            with client, upstream:
                client.sendall(wire.query("drop table x"))
                bench.wait(lambda: len(bench.of_kind("verdict")) == bench.sessions, "the question")
                if late:
                    client.shutdown(socket.SHUT_WR)
                    nothing(upstream)
                bench.relay.notice(bench.sessions, b"N\0\0\0\4")
                if not late:
                    expect(client, b"N\0\0\0\4")
                    client.shutdown(socket.SHUT_WR)
                bench.wait(lambda: len(bench.of_kind("withdrawn")) == bench.sessions, "withdrawal")
                bench.wait(lambda: len(bench.of_kind("closed")) == bench.sessions, "the end")


@deliveries
@pytest.mark.parametrize("read_in_copy", [True, False])
def test_syncs_about_a_failing_copy(tmp_path: Path, delivery: Delivery, read_in_copy: bool) -> None:
    """Only the server knows whether it read a Sync before or after the row that it did not like."""
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        begin = wire.parse("copy t from stdin") + wire.bind() + wire.execute() + wire.FLUSH
        expect_sent(pair, begin, delivery)
        pair.upstream.sendall(b"1\0\0\0\4" + b"2\0\0\0\4" + b"G\0\0\0\x07\0\0\0")
        read_frames(pair.client, until="G")
        data = wire.copy_data(b"x") + wire.SYNC + wire.copy_data(b"y") + wire.SYNC + wire.COPY_DONE + wire.SYNC
        expect_sent(pair, data, delivery)
        pair.upstream.sendall(error("22P02", "no") + (READY if read_in_copy else READY * 2))
        read_frames(pair.client, until="E")
        expect(pair.client, READY if read_in_copy else READY * 2)
        expect_sent(pair, wire.parse("select 1") + wire.bind() + wire.execute() + wire.SYNC, delivery)
        # The answer to the last Sync of before may come as late as this.
        pair.upstream.sendall(READY + b"1\0\0\0\4" + b"2\0\0\0\4" + complete("SELECT 1") + READY)
        assert [item.kind for item in read_frames(pair.client, until="C")] == ["Z", "1", "2", "C"]
        expect(pair.client, READY)
        pair.client.sendall(wire.query("select 2"))
        expect(pair.upstream, wire.query("select 2"))


def expect_sent(pair: Pair, data: bytes, delivery: Delivery) -> None:
    send(pair.client, delivery(data))
    expect(pair.upstream, data)


@deliveries
def test_copy_in_ignores_syncs_before_copy_done(tmp_path: Path, delivery: Delivery) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        begin = wire.parse("copy t from stdin") + wire.bind() + wire.execute() + wire.SYNC
        pair.client.sendall(begin)
        expect(pair.upstream, begin)
        started = PARSED + BOUND + b"G\0\0\0\x07\0\0\0"
        send(pair.upstream, delivery(started))
        expect(pair.client, started)
        data = wire.frame("d", b"1\tx\n") + wire.frame("d", b"2\ty\n") + wire.frame("c") + wire.SYNC
        send(pair.client, delivery(data))
        expect(pair.upstream, data)
        send(pair.upstream, delivery(complete("COPY 2") + READY))
        expect(pair.client, complete("COPY 2") + READY)
        bench.wait(lambda: bench.records_of(model.KIND_OUTCOME), "outcome")
        assert struct.unpack_from("<QQQQ", bench.records_of(model.KIND_OUTCOME)[0].payload)[3] == 8
        pair.client.sendall(wire.query("select 1"))
        expect(pair.upstream, wire.query("select 1"))


MASKS = [(model.MASK_REDACT, 0, b"", b""), (model.MASK_PARTIAL, 2, b"", b"")]
COLUMNS = [(500, 2, 0), (500, 3, 1)]


def masked_bench(tmp_path: Path, flags: int = model.FLAG_TOUCHED, zero_origin: int = 0) -> RelayBench:
    def decide(bench: RelayBench, event: tuple[Any, ...]) -> None:
        bench.relay.decide(
            event[1], event[2], model.ACTION_ALLOW, flags, label=b"{}", zero_origin=zero_origin
        )

    bench = RelayBench(tmp_path, decide=decide)
    bench.relay.define_context(7, MASKS, COLUMNS)
    return bench


CUSTOMERS = row_description(("id", 500, 1, 23, 0), ("ssn", 500, 2, 25, 0), ("card", 500, 3, 25, 0))


@deliveries
def test_rows_are_masked_by_origin(tmp_path: Path, delivery: Delivery) -> None:
    with masked_bench(tmp_path) as bench:
        pair = bench.session(7)
        pair.client.sendall(wire.query("select * from customers"))
        expect(pair.upstream, wire.query("select * from customers"))
        rows = row(b"1", b"078-05-1120", b"4111222233334444") + row(b"2", None, b"12")
        send(pair.upstream, delivery(CUSTOMERS + rows + complete("SELECT 2") + READY))
        expect(
            pair.client,
            CUSTOMERS + row(b"1", b"***", b"**************44") + row(b"2", None, b"*2") + complete("SELECT 2") + READY,
        )
        recorded = b"".join(r.payload for r in bench.records())
        assert b"078-05-1120" not in recorded
        assert bench.counter("masked_cells") == 3


@deliveries
def test_execute_without_describe_gets_one_of_ours(tmp_path: Path, delivery: Delivery) -> None:
    with masked_bench(tmp_path) as bench:
        pair = bench.session(7)
        first, last = wire.parse("select * from customers", "s") + wire.bind(name="s"), wire.execute() + wire.SYNC
        send(pair.client, delivery(first + last))
        expect(pair.upstream, first + wire.describe_portal() + last)
        rows = row(b"1", b"078-05-1120", b"4111")
        send(pair.upstream, delivery(PARSED + BOUND + CUSTOMERS + rows + complete("SELECT 1") + READY))
        expect(pair.client, PARSED + BOUND + row(b"1", b"***", b"**11") + complete("SELECT 1") + READY)


@deliveries
def test_described_statement_masks_in_the_formats_of_bind(tmp_path: Path, delivery: Delivery) -> None:
    with masked_bench(tmp_path) as bench:
        pair = bench.session(7)
        pair.client.sendall(wire.parse("select * from customers", "s") + wire.describe_statement("s") + wire.SYNC)
        expect(pair.upstream, wire.parse("select * from customers", "s") + wire.describe_statement("s") + wire.SYNC)
        described = PARSED + b"t\0\0\0\x06\0\0" + CUSTOMERS + READY
        send(pair.upstream, delivery(described))
        expect(pair.client, described)
        pair.client.sendall(wire.bind(name="s", result_formats=[1]) + wire.execute() + wire.SYNC)
        expect(pair.upstream, wire.bind(name="s", result_formats=[1]) + wire.execute() + wire.SYNC)
        send(pair.upstream, delivery(BOUND + row(b"\0\0\0\1", b"secret", b"4111") + complete("SELECT 1") + READY))
        expect(pair.client, BOUND + row(b"\0\0\0\1", b"***", b"**11") + complete("SELECT 1") + READY)


VIEW = [(900, 1, 500, 1), (900, 2, 500, 2), (900, 3, 500, 3)]


def sending(tmp_path: Path, sent: bytes, types: bytes = b"", zero_origin: int = 0) -> RelayBench:
    """A front that puts another text in place of every one."""
    def decide(bench: RelayBench, event: tuple[Any, ...]) -> None:
        bench.relay.decide(event[1], event[2], model.ACTION_ALLOW, model.FLAG_TOUCHED, label=b"{}", sent=sent,
                           sent_types=types, zero_origin=zero_origin)

    bench = RelayBench(tmp_path, decide=decide)
    bench.relay.define_context(7, MASKS, [*COLUMNS, (900, 2, 0), (900, 3, 1)], aliases=VIEW)
    return bench


@deliveries
def test_a_verdict_may_have_another_text_sent(tmp_path: Path, delivery: Delivery) -> None:
    """Its columns are those of the table again when they reach the client; the journal keeps what came."""
    sent = b"select * from view"
    view = row_description(("id", 900, 1, 23, 0), ("ssn", 900, 2, 25, 0), ("card", 900, 3, 25, 0), ("n", 0, 0, 23, 0))
    table = row_description(("id", 500, 1, 23, 0), ("ssn", 500, 2, 25, 0), ("card", 500, 3, 25, 0), ("n", 0, 0, 23, 0))
    with sending(tmp_path, sent, zero_origin=1) as bench:
        pair = bench.session(7)
        for _ in range(2):              # the second time from the cache
            send(pair.client, delivery(wire.query("select * from customers where id = 1")))
            expect(pair.upstream, wire.query(sent.decode()))
            send(pair.upstream, delivery(view + row(b"1", b"***", b"**11", b"5") + complete("SELECT 1") + READY))
            expect(pair.client, table + row(b"1", b"***", b"**11", b"5") + complete("SELECT 1") + READY)
        assert len(bench.of_kind("verdict")) == 1
        texts = b"".join(r.payload for r in bench.records_of(model.KIND_STATEMENT))
        assert b"from customers where id = 1" in texts
        assert sent not in texts


@deliveries
def test_another_text_goes_with_its_types_and_the_clients_name(tmp_path: Path, delivery: Delivery) -> None:
    types = struct.pack("!II", 23, 25)
    with sending(tmp_path, b"select $1, $2", types) as bench:
        pair = bench.session(7)
        pair.client.sendall(wire.parse("select ssn from customers where id = $1 and ssn = $2", "mine") + wire.SYNC)
        body = b"mine\0select $1, $2\0\0\2" + types
        expect(pair.upstream, b"P" + struct.pack("!I", len(body) + 4) + body + wire.SYNC)
        send(pair.upstream, delivery(PARSED + READY))
        expect(pair.client, PARSED + READY)
        # Another literal is another text: nothing is rewritten by a template.
        pair.client.sendall(wire.query("select ssn from customers where id = 1"))
        expect(pair.upstream, wire.query("select $1, $2"))
        pair.upstream.sendall(complete("SELECT 0") + READY)
        expect(pair.client, complete("SELECT 0") + READY)
        pair.client.sendall(wire.query("select ssn from customers where id = 2"))
        expect(pair.upstream, wire.query("select $1, $2"))
        pair.upstream.sendall(complete("SELECT 0") + READY)
        expect(pair.client, complete("SELECT 0") + READY)
        assert len(bench.of_kind("verdict")) == 3


@pytest.mark.parametrize("more", [
    {"sent": b"a\0b"}, {"sent": b"a", "sent_types": b"abc"}, {"sent_types": b"abcd"}, {"sent": b"x" * (17 << 20)},
])
def test_a_text_that_cannot_be_sent_is_an_error(tmp_path: Path, more: dict[str, bytes]) -> None:
    with RelayBench(tmp_path) as bench, pytest.raises(ValueError, match="decide"):
        bench.relay.decide(1, 1, model.ACTION_ALLOW, 0, label=b"{}", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "description"),
    [
        (0, CUSTOMERS),                                                                     # clean, yet a masked column
        (model.FLAG_TOUCHED, row_description(("ssn", 0, 0, 25, 0))),                        # an expression too many
        (model.FLAG_TOUCHED, row_description(("c", 500, 0, 600, 0))),                       # a whole row
    ],
)
def test_contradictions_end_the_session(tmp_path: Path, flags: int, description: bytes) -> None:
    with masked_bench(tmp_path, flags) as bench:
        pair = bench.session(7)
        pair.client.sendall(wire.query("select something"))
        expect(pair.upstream, wire.query("select something"))
        pair.upstream.sendall(description + row(b"078-05-1120") + complete("SELECT 1") + READY)
        frames = read_frames(pair.client, until="E")
        assert wire.error_fields(frames[-1].body)["S"] == "FATAL"
        assert pair.client.recv(100) == b""
        pair.client.close()
        bench.wait(lambda: bench.of_kind("closed"), "the end")
        assert bench.of_kind("closed")[0][2] == "contradiction"


def test_row_that_does_not_fit_its_description_ends_the_session(tmp_path: Path) -> None:
    for n, bad in enumerate((row(b"1", b"078-05-1120"), row(b"1", b"x", b"y", b"z"), row(b"1", b"x", b"y")[:-1])):
        directory = tmp_path / str(n)
        directory.mkdir()
        with masked_bench(directory) as bench:
            pair = bench.session(7)
            pair.client.sendall(wire.query("select * from customers"))
            expect(pair.upstream, wire.query("select * from customers"))
            frame = bytearray(bad)
            frame[1:5] = struct.pack("!I", len(bad) - 1)
            pair.upstream.sendall(CUSTOMERS + bytes(frame) + complete("SELECT 1") + READY)
            assert [f.kind for f in read_frames(pair.client, until="E")] == ["T", "E"]


@pytest.mark.parametrize("simple", [True, False])
def test_rows_without_a_description_end_the_session(tmp_path: Path, simple: bool) -> None:
    with masked_bench(tmp_path) as bench:
        pair = bench.session(7)
        message = wire.query("select ssn from customers") if simple else (
            wire.parse("select ssn from customers") + wire.bind() + wire.describe_portal() + wire.execute() + wire.SYNC
        )
        pair.client.sendall(message)
        expect(pair.upstream, message)
        before = b"" if simple else PARSED + BOUND + NO_DATA
        pair.upstream.sendall(before + row(b"078-05-1120") + complete("SELECT 1") + READY)
        frames = read_frames(pair.client, until="E")
        assert "D" not in [frame.kind for frame in frames]
        pair.client.close()
        bench.wait(lambda: bench.of_kind("closed"), "the end")
        assert bench.of_kind("closed")[0][2] == "contradiction"


def test_errors_of_touched_statements_lose_their_values(tmp_path: Path) -> None:
    with masked_bench(tmp_path) as bench:
        pair = bench.session(7)
        pair.client.sendall(wire.query("select ssn from customers"))
        expect(pair.upstream, wire.query("select ssn from customers"))
        pair.upstream.sendall(
            error("22P02", 'invalid input syntax: "078-05-1120"', D="078-05-1120", W="078-05-1120") + READY
        )
        fields = wire.error_fields(read_frames(pair.client, until="E")[0].body)
        assert fields["C"] == "22P02"
        assert set(fields) == {"S", "V", "C", "M"}
        assert "078" not in str(fields)


def test_probe_describes_without_showing(tmp_path: Path) -> None:
    def decide(bench: RelayBench, event: tuple[Any, ...]) -> None:
        bench.relay.probe(event[1], event[2], event[5])

    with RelayBench(tmp_path, decide=decide) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("select 1"))
        sent = wire.parse("select 1", "hoopfast_probe") + wire.describe_statement("hoopfast_probe")
        expect(pair.upstream, sent + wire.close_statement("hoopfast_probe") + wire.SYNC)
        pair.upstream.sendall(PARSED + b"t\0\0\0\x06\0\0" + CUSTOMERS + CLOSED + READY_IN_TRANSACTION)
        bench.wait(lambda: bench.of_kind("probe"), "the probe's answer")
        assert bench.of_kind("probe")[0] == ("probe", 1, 1, b"t\0\0\0\x06\0\0" + CUSTOMERS)
        nothing(pair.client)
        allow(bench, bench.of_kind("verdict")[0])
        expect(pair.upstream, wire.query("select 1"))


def test_failed_probe_of_a_parse_is_the_parses_own_error(tmp_path: Path) -> None:
    def decide(bench: RelayBench, event: tuple[Any, ...]) -> None:
        bench.relay.probe(event[1], event[2], event[5])

    with RelayBench(tmp_path, decide=decide) as bench:
        pair = bench.session()
        pair.client.sendall(wire.parse("select nope") + wire.bind() + wire.execute() + wire.SYNC)
        sent = wire.parse("select nope", "hoopfast_probe") + wire.describe_statement("hoopfast_probe")
        expect(pair.upstream, sent + wire.close_statement("hoopfast_probe") + wire.FLUSH)
        failure = error("42703", 'column "nope" does not exist')
        pair.upstream.sendall(failure)
        bench.wait(lambda: bench.of_kind("probe"), "the probe's answer")
        event = bench.of_kind("verdict")[0]
        assert bench.of_kind("probe")[0][3] == failure
        bench.relay.decide(event[1], event[2], model.ACTION_DENY, 0, label=b"{}", error=failure, cache=False)
        expect(pair.client, failure)
        expect(pair.upstream, wire.SYNC)
        pair.upstream.sendall(READY)
        expect(pair.client, READY)


def test_names_given_by_sql_lose_the_old_verdict(tmp_path: Path) -> None:
    def decide(bench: RelayBench, event: tuple[Any, ...]) -> None:
        flags = model.FLAG_NAMES if event[5].startswith(b"deallocate") else 0
        bench.relay.decide(event[1], event[2], model.ACTION_ALLOW, flags, label=b"{}")

    with RelayBench(tmp_path, decide=decide) as bench:
        pair = bench.session()
        pair.client.sendall(wire.parse("select 1", "s") + wire.SYNC)
        expect(pair.upstream, wire.parse("select 1", "s") + wire.SYNC)
        pair.upstream.sendall(PARSED + READY)
        expect(pair.client, PARSED + READY)
        pair.client.sendall(wire.query("deallocate s; prepare s as select ssn from customers"))
        expect(pair.upstream, wire.query("deallocate s; prepare s as select ssn from customers"))
        pair.upstream.sendall(complete("DEALLOCATE") + complete("PREPARE") + READY)
        read_frames(pair.client, until="Z")
        pair.client.sendall(wire.bind(name="s") + wire.execute() + wire.SYNC)
        bench.wait(lambda: len(bench.of_kind("verdict")) == 3, "a verdict on what the name now means")
        assert bench.of_kind("verdict")[2][5] == b'EXECUTE "s"'


def test_malformed_client_bytes_end_only_that_session(tmp_path: Path) -> None:
    cases = (b"\0\0\0\0\4", b"Z\0\0\0\x05I", b"Q\0\0\0\3", b"Q\xff\xff\xff\xff", b"S\0\0\x27\x11", b"\x7fELF\x02\x01")
    with RelayBench(tmp_path) as bench:
        healthy = bench.session()
        for bytes_ in cases:
            pair = bench.session()
            pair.client.sendall(bytes_)
            fields = wire.error_fields(read_frames(pair.client, until="E")[0].body)
            assert (fields["S"], fields["C"]) == ("FATAL", "08P01")
            assert pair.client.recv(100) == b""
        healthy.client.sendall(wire.query("select 1"))
        expect(healthy.upstream, wire.query("select 1"))


def test_malformed_bytes_behind_a_statement_wait_for_its_answer(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("select 1") + b"y\0\0\0\4" + wire.query("select 2"))
        expect(pair.upstream, wire.query("select 1") + wire.FLUSH)
        assert pair.upstream.recv(100) == b"", "the server learns that no more comes"
        nothing(pair.client)
        pair.upstream.sendall(complete("SELECT 1") + READY)
        pair.upstream.close()
        frames = read_frames(pair.client, until="E")
        assert [item.kind for item in frames] == ["C", "Z", "E"]
        assert wire.error_fields(frames[-1].body)["M"] == "invalid frontend message type 121"
        assert pair.client.recv(100) == b""


@pytest.mark.parametrize(
    "bad",
    [
        wire.frame("Q", b"select 1"), wire.frame("Q", b"select 1\0x\0"), wire.frame("P", b"s\0select 1\0\0\x05"),
        wire.frame("P", b"s"), wire.frame("B", b"\0"), wire.frame("E", b"\0\0"), wire.frame("D", b"X\0"),
        wire.frame("C", b"S"), wire.frame("F", b"\0"),
    ],
)
def test_malformed_messages_get_an_error_and_the_session_lives(tmp_path: Path, bad: bytes) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        pair.client.sendall(bad + (wire.SYNC if bad[:1] not in (b"Q", b"F") else b""))
        read_exactly(pair.upstream, 5)
        pair.upstream.sendall(error("42601", "syntax error") + READY)
        frames = read_frames(pair.client, until="Z")
        assert wire.error_fields(frames[0].body)["C"] == "08P01"


def test_half_sent_message_never_reaches_the_server(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("drop table x")[:-3])
        pair.client.shutdown(socket.SHUT_WR)
        assert pair.upstream.recv(100) in (b"", wire.TERMINATE)


def test_journal_without_room_stops_statements_and_goes_on(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        bench.wait(lambda: bench.sequence >= 3, "the first segments")
        bench.give_segments = False
        text = "select '" + "x" * 100_000 + "'"
        sent = 0
        pair.upstream.settimeout(0.3)
        with pytest.raises(TimeoutError):
            for n in range(100):
                pair.client.sendall(wire.query(f"{text} -- {n}"))
                read_exactly(pair.upstream, len(wire.query(f"{text} -- {n}")))
                pair.upstream.sendall(complete("SELECT 1") + READY)
                read_frames(pair.client, until="Z")
                sent = n
        assert bench.counter("journal_stalls") >= 1
        pair.upstream.settimeout(5)
        bench.give_segments = True
        for _ in range(4):
            bench.add_segment()
        expect(pair.upstream, wire.query(f"{text} -- {sent + 1}"))
        assert len(bench.records_of(model.KIND_QUERY)) == sent + 2


def test_large_statement_is_recorded_in_pieces(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        message = wire.query("select '" + "y" * 3_000_000 + "'")
        pair.client.settimeout(20)
        pair.client.sendall(message)
        expect(pair.upstream, message)
        pair.upstream.sendall(complete("SELECT 1") + READY)
        read_frames(pair.client, until="Z")
        bench.wait(lambda: bench.records_of(model.KIND_OUTCOME), "outcome")
        pieces = bench.records_of(model.KIND_STATEMENT)
        assert sum(len(r.payload) for r in pieces) > 3_000_000


def test_oversized_statement_is_refused_and_the_session_lives(tmp_path: Path) -> None:
    with RelayBench(tmp_path, statement_max=10_000) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("select '" + "y" * 50_000 + "'") + wire.query("select 1"))
        expect(pair.upstream, wire.frame("Q", REFUSED + b"\0"))
        pair.upstream.sendall(error("42601", "syntax error") + READY)
        assert wire.error_fields(read_frames(pair.client, until="Z")[0].body)["C"] == "54000"
        expect(pair.upstream, wire.query("select 1"))


def test_oversized_statement_is_answered_when_it_is_whole(tmp_path: Path) -> None:
    """As by the server: psycopg2 with a wait callback hangs when the answer is there before it has sent everything."""
    message = wire.query("select '" + "y" * 500_000 + "'")
    with RelayBench(tmp_path, statement_max=10_000) as bench:
        pair, other = bench.session(), bench.session()
        pair.client.sendall(message[:-1])
        for _ in range(2):                      # the relay has had its turns when these are through
            other.client.sendall(wire.query("select 1"))
            expect(other.upstream, wire.query("select 1"))
            other.upstream.sendall(complete("SELECT 1") + READY)
            read_frames(other.client, until="Z")
        assert select.select([pair.upstream, pair.client], [], [], 0.05)[0] == []
        pair.client.sendall(message[-1:])
        expect(pair.upstream, wire.frame("Q", REFUSED + b"\0"))
        pair.upstream.sendall(error("42601", "syntax error") + READY)
        assert wire.error_fields(read_frames(pair.client, until="Z")[0].body)["C"] == "54000"


def test_slow_reader_holds_up_nobody_but_itself(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        slow, quick = bench.session(), bench.session()
        slow.client.sendall(wire.query("select big"))
        expect(slow.upstream, wire.query("select big"))
        slow.upstream.sendall(row_description(("a", 1, 1, 25, 0)))
        slow.upstream.setblocking(False)
        sent = 0
        chunk = row(b"z" * 60_000)
        with pytest.raises(BlockingIOError):
            for _ in range(10_000):
                sent += slow.upstream.send(chunk)
        assert sent < 8_000_000
        quick.client.sendall(wire.query("select 1"))
        expect(quick.upstream, wire.query("select 1"))


def test_kill_says_why(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        reason = error("57P01", "your access was revoked", severity="FATAL")
        bench.relay.kill(pair.session, reason)
        expect(pair.client, reason)
        assert pair.client.recv(10) == b""
        expect(pair.upstream, wire.TERMINATE)


def test_kill_when_idle_waits_for_the_transaction(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("begin"))
        expect(pair.upstream, wire.query("begin"))
        pair.upstream.sendall(complete("BEGIN") + READY_IN_TRANSACTION)
        read_frames(pair.client, until="Z")
        reason = error("57P01", "the gateway restarts", severity="FATAL")
        bench.relay.kill(pair.session, reason, when_idle=True)
        nothing(pair.client)
        pair.client.sendall(wire.query("commit"))
        expect(pair.upstream, wire.query("commit"))
        pair.upstream.sendall(complete("COMMIT") + READY)
        expect(pair.client, complete("COMMIT") + READY + reason)


def test_cancel_only_while_something_runs(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        bench.relay.cancel(pair.session)
        pair.client.sendall(wire.query("select pg_sleep(9)"))
        expect(pair.upstream, wire.query("select pg_sleep(9)"))
        assert not bench.of_kind("cancel")
        bench.relay.cancel(pair.session)
        bench.wait(lambda: bench.of_kind("cancel"), "permission to cancel")
        # Until the cancel has been delivered nothing new goes upstream: it must not hit the next statement.
        pair.upstream.sendall(error("57014", "canceling statement due to user request") + READY)
        read_frames(pair.client, until="Z")
        pair.client.sendall(wire.query("select 2"))
        nothing(pair.upstream)
        bench.relay.cancel_done(pair.session)
        expect(pair.upstream, wire.query("select 2"))


def test_lost_upstream_is_reported_and_the_outcome_is_unknown(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("select pg_sleep(9)"))
        expect(pair.upstream, wire.query("select pg_sleep(9)"))
        pair.upstream.close()
        fields = wire.error_fields(read_frames(pair.client, until="E")[0].body)
        assert (fields["S"], fields["C"]) == ("FATAL", "08006")
        pair.client.close()
        bench.wait(lambda: bench.of_kind("closed"), "the end")
        assert chr(bench.records_of(model.KIND_OUTCOME)[0].payload[40]) == "X"


def test_a_server_that_dies_in_a_row(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("select 1"))
        expect(pair.upstream, wire.query("select 1"))
        half = row_description(("a", 1, 1, 25, 0)) + row(b"x" * 1000)[:-7]
        pair.upstream.sendall(half)
        expect(pair.client, half)
        pair.upstream.close()
        assert pair.client.recv(100) == b"", "neither a whole row nor a message in the place of its rest"


def test_a_policy_change_reaches_prepared_statements(tmp_path: Path) -> None:
    def decide(bench: RelayBench, event: tuple[Any, ...]) -> None:
        flags = model.FLAG_TOUCHED if event[4] == 7 else 0
        bench.relay.decide(event[1], event[2], model.ACTION_ALLOW, flags, label=b"{}")

    with RelayBench(tmp_path, decide=decide) as bench:
        bench.relay.define_context(7, MASKS, COLUMNS)
        pair = bench.session(1)
        first = wire.parse("select * from customers", "s") + wire.describe_statement("s")
        again = wire.bind(name="s") + wire.execute() + wire.SYNC
        pair.client.sendall(first + again)
        expect(pair.upstream, first + again)
        plain = row(b"1", b"078-05-1120", b"4111")
        pair.upstream.sendall(PARSED + b"t\0\0\0\x06\0\0" + CUSTOMERS + BOUND + plain + complete("SELECT 1") + READY)
        assert plain in b"".join(wire.frame(f.kind, f.body) for f in read_frames(pair.client, until="Z"))
        bench.relay.set_context(pair.session, 7)
        pair.client.sendall(again)
        expect(pair.upstream, wire.bind(name="s") + wire.describe_portal() + wire.execute() + wire.SYNC)
        pair.upstream.sendall(BOUND + CUSTOMERS + plain + complete("SELECT 1") + READY)
        expect(pair.client, BOUND + row(b"1", b"***", b"**11") + complete("SELECT 1") + READY)
        bench.relay.drop_context(1)
        pair.client.sendall(again)
        expect(pair.upstream, again)


def test_rows_under_way_keep_the_masks_they_started_with(tmp_path: Path) -> None:
    with masked_bench(tmp_path) as bench:
        bench.relay.define_context(8, [], [])
        pair = bench.session(7)
        pair.client.sendall(wire.query("select * from customers"))
        expect(pair.upstream, wire.query("select * from customers"))
        pair.upstream.sendall(CUSTOMERS)
        expect(pair.client, CUSTOMERS)
        bench.relay.set_context(pair.session, 8)
        bench.relay.drop_context(7)
        pair.upstream.sendall(row(b"1", b"078-05-1120", b"4111") + complete("SELECT 1") + READY)
        expect(pair.client, row(b"1", b"***", b"**11") + complete("SELECT 1") + READY)


@pytest.mark.parametrize(
    ("context", "name", "value", "lives"),
    [
        (1, "standard_conforming_strings", "off", False), (1, "client_encoding", "SJIS", False),
        (1, "client_encoding", "LATIN9", True), (7, "client_encoding", "LATIN9", False),
        (7, "client_encoding", "UTF8", True), (7, "TimeZone", "UTC", True),
    ],
)
def test_settings_that_change_how_sql_reads_end_the_session(
    tmp_path: Path, context: int, name: str, value: str, lives: bool
) -> None:
    with RelayBench(tmp_path) as bench:
        bench.relay.define_context(7, MASKS, COLUMNS)
        pair = bench.session(context)
        status = wire.frame("S", f"{name}\0{value}\0".encode())
        pair.upstream.sendall(status)
        if lives:
            expect(pair.client, status)
        else:
            assert wire.error_fields(read_frames(pair.client, until="E")[0].body)["C"] == "0A000"


def test_idle_sessions_end_outside_of_transactions_only(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        idle, busy = bench.session(), bench.session()
        busy.client.sendall(wire.query("begin"))
        expect(busy.upstream, wire.query("begin"))
        busy.upstream.sendall(complete("BEGIN") + READY_IN_TRANSACTION)
        read_frames(busy.client, until="Z")
        bench.relay.set_idle_timeout(0.2)
        assert wire.error_fields(read_frames(idle.client, until="E")[0].body)["C"] == "57P01"
        nothing(busy.client, 0.6)


@deliveries
def test_durable_journal_syncs_before_it_forwards(tmp_path: Path, delivery: Delivery) -> None:
    with RelayBench(tmp_path, durable=True) as bench:
        pair = bench.session()
        for _ in range(3):
            send(pair.client, delivery(wire.query("select 1") + wire.query("select 2")))
            expect(pair.upstream, wire.query("select 1") + wire.query("select 2"))
            answer = complete("SELECT 1") + READY
            send(pair.upstream, delivery(answer + answer))
            expect(pair.client, answer + answer)


def test_killing_a_busy_session_cancels_its_statement(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("select pg_sleep(600)"))
        expect(pair.upstream, wire.query("select pg_sleep(600)"))
        bench.relay.kill(pair.session, error("57P01", "your access was revoked", severity="FATAL"))
        read_frames(pair.client, until="E")
        pair.client.close()
        bench.wait(lambda: bench.of_kind("closed"), "the end")
        assert [event[0] for event in bench.events if event[0] in ("cancel", "closed")] == ["cancel", "closed"]


def test_vocabulary_of_core_and_model_agree() -> None:
    for name, value in _wire.VOCABULARY.items():
        assert getattr(model, name) == value, name
    assert len(model.COUNTERS) == _wire.COUNTER_COUNT


def test_start_and_end_are_recorded(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        pair.client.sendall(wire.TERMINATE)
        expect(pair.upstream, wire.TERMINATE)
        pair.upstream.close()
        pair.client.close()
        bench.wait(lambda: bench.of_kind("closed"), "the end")
        start = bench.records_of(model.KIND_SESSION_START)[0]
        assert json.loads(start.payload) == {"session": 1}
        assert bench.records_of(model.KIND_SESSION_END)[0].payload == b"\x06client"


def test_a_client_that_never_reads_is_held(tmp_path: Path) -> None:
    """Answers that nobody takes are not remembered without end; when they come, everything goes on."""
    syncs, most = 300_000, 16384 + 2 * (262144 // 5)
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        sender = threading.Thread(target=pair.client.sendall, args=(wire.SYNC * syncs,), daemon=True)
        sender.start()
        reached = 0
        while select.select([pair.upstream], [], [], 0.5)[0]:
            reached += len(pair.upstream.recv(65536))
        assert reached // 5 <= most, "the relay reads on although nothing is answered"
        assert sender.is_alive()
        taken = threading.Thread(target=read_exactly, args=(pair.client, syncs * len(READY)), daemon=True)
        taken.start()
        answered = 0
        while answered < syncs:
            pair.upstream.sendall(READY * (reached // 5 - answered))
            answered = reached // 5
            if answered < syncs:
                reached += len(pair.upstream.recv(65536))
        taken.join(10)
        sender.join(10)
        assert not taken.is_alive()
        assert not sender.is_alive()


def test_prepared_statements_have_a_limit(tmp_path: Path) -> None:
    """Their texts are kept as long as they may be bound; a session that makes no end of them is told to stop."""
    with RelayBench(tmp_path, message_max=1 << 20) as bench:
        pair = bench.session()
        filler = "x" * 100_000
        for number in range(10):
            message = wire.parse(f"select {number} /* {filler} */", f"s{number}") + wire.SYNC
            pair.client.sendall(message)
            expect(pair.upstream, message)
            pair.upstream.sendall(PARSED + READY)
            expect(pair.client, PARSED + READY)
        pair.client.sendall(wire.parse(f"select 11 /* {filler} */", "s11") + wire.SYNC)
        read_frames(pair.upstream, until="S")
        pair.upstream.sendall(error("42601", "syntax error") + READY)
        refused = read_frames(pair.client, until="Z")
        assert [wire.error_fields(item.body)["C"] for item in refused if item.kind == "E"] == ["54000"]
        # Room for another one as soon as one is closed.
        closing = wire.close_statement("s3") + wire.SYNC
        pair.client.sendall(closing)
        expect(pair.upstream, closing)
        pair.upstream.sendall(CLOSED + READY)
        expect(pair.client, CLOSED + READY)
        message = wire.parse(f"select 11 /* {filler} */", "s11") + wire.SYNC
        pair.client.sendall(message)
        expect(pair.upstream, message)


def test_large_queries_that_nobody_waits_for_are_held(tmp_path: Path) -> None:
    """Their texts are kept until they are answered: a quarter of the largest message, and the one that exceeds it."""
    queries = [wire.query(f"select {number} /* {'x' * 100_000} */") for number in range(14)]
    with RelayBench(tmp_path, message_max=1 << 20) as bench:
        pair = bench.session()
        sender = threading.Thread(target=pair.client.sendall, args=(b"".join(queries),), daemon=True)
        sender.start()
        for each in queries[:3]:
            expect(pair.upstream, each)
        # What had come together with them may follow: a receive buffer has room for two more.
        early = b""
        while select.select([pair.upstream], [], [], 0.3)[0]:
            early += pair.upstream.recv(65536)
        assert len(early) <= 2 * len(queries[0])
        pair.upstream.sendall((complete("SELECT 1") + READY) * 3)
        for each in queries[3:]:
            if len(early) < len(each):
                early += read_exactly(pair.upstream, len(each) - len(early))
            assert early[: len(each)] == each
            early = early[len(each):]
            pair.upstream.sendall(complete("SELECT 1") + READY)
        sender.join(10)
        assert not sender.is_alive()
