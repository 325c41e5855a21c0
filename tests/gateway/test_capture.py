"""Complete capture: each thing that the audit trail is to hold, tried through a real gateway, one test for each."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.gateway.conftest import SHOP
from tests.support import wire
from tests.support.gateway import Gateway, upstream_of, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer

POLICY: dict[str, Any] = {
    "access": [{"groups": ["engineering"], "connections": ["*"]}],
    "rules": [{
        "name": "destructive", "when": {"statements": ["truncate"]}, "action": "approve",
        "approvers": {"groups": ["dba"], "count": 1}, "expires": "15m",
    }],
}


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer) -> Iterator[Gateway]:
    with postgres.database("shop_capture", *SHOP) as shop:
        connections = {
            "shop": upstream_of(postgres, shop),
            "all": upstream_of(postgres, shop) | {"results": "all"},
            "some": upstream_of(postgres, shop) | {"results": "1KiB"},
            "none": upstream_of(postgres, shop) | {"results": "none"},
        }
        with Gateway(issuer, connections, policy=POLICY) as running:
            yield running


def one(gateway: Gateway, marker: str) -> dict[str, Any]:
    return gateway.wait_audited(marker)[0]


def noted(gateway: Gateway, kind: str, **fields: Any) -> dict[str, Any]:
    """The note of this kind with these fields."""
    def find() -> list[dict[str, Any]]:
        notes = [event for event in gateway.audit_jsonl() if event["event"] == "note"]
        return [note for note in notes if note["note"]["kind"] == kind and fields.items() <= note["note"].items()]

    found: list[dict[str, Any]] = wait_until(find, f"a note {kind}")
    return found[0]


def raw(gateway: Gateway, connection: str = "shop") -> wire.WireClient:
    client = wire.WireClient(gateway.port)
    client.login("alice", connection, gateway.token())
    return client


# ---------------------------------------------------------------- texts

def test_simple_and_multi_statement_text_with_every_tag(gateway: Gateway) -> None:
    text = "; ".join(["SELECT 1 /* hf-capture-simple */", *[f"SELECT {n}" for n in range(2, 41)]])
    with raw(gateway) as client:
        client.query(text)
    event = one(gateway, "hf-capture-simple")
    assert (event["kind"], event["sql"], event["outcome"], event["rows"]) == ("simple", text, "complete", 40)
    assert event["tag"].split("; ") == ["SELECT 1"] * 40


def test_oversized_text_in_full(gateway: Gateway) -> None:
    text = f"SELECT length('{'x' * 3_000_000}') /* hf-capture-oversized */"
    with raw(gateway) as client:
        assert wire.rows(client.query(text)) == [[b"3000000"]]
    assert one(gateway, "hf-capture-oversized")["sql"] == text
    with gateway.connect("shop") as db:
        db.execute("SELECT length(%s) /* hf-capture-parameter */", ("y" * 3_000_000,))
    assert one(gateway, "hf-capture-parameter")["parameters"] == ["y" * 3_000_000]


def test_text_in_another_encoding_keeps_its_bytes(gateway: Gateway) -> None:
    with raw(gateway) as client:
        client.query("SET client_encoding = 'LATIN1'")
        client.ask(wire.frame("Q", b"SELECT 'caf\xe9' /* hf-capture-latin */\0"))
    assert one(gateway, "hf-capture-latin")["sql"] == "SELECT 'caf\\xe9' /* hf-capture-latin */"


# ---------------------------------------------------------------- parameters

def test_parameters_in_text_and_binary(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        db.cursor().execute("SELECT %s::text /* hf-capture-text */", ("läuft",))
        db.cursor(binary=True).execute("SELECT %b::float8, %b::int8 /* hf-capture-binary */", (1.5, 7))
    event = one(gateway, "hf-capture-text")
    assert event["parameters"] == ["läuft"] and "parameter_bytes" not in event
    event = one(gateway, "hf-capture-binary")
    assert event["parameters"] == ["1.5", "7"]
    assert event["parameter_bytes"][0] == struct.pack("!d", 1.5).hex() and int(event["parameter_bytes"][1], 16) == 7


def test_binary_parameters_whose_types_only_the_server_knows(gateway: Gateway) -> None:
    """As asyncpg and pgx do it: Parse without types, Describe, then everything in binary; the names come once."""
    with raw(gateway) as client:
        client.ask(wire.parse("SELECT $1::int + 1 AS n, $2::bool AS b /* hf-capture-described */", "s"),
                   wire.describe_statement("s"), wire.SYNC)
        values = [struct.pack("!i", 41), b"\1"]
        client.ask(wire.bind(values, name="s", formats=[1], result_formats=[1]), wire.execute(), wire.SYNC)
    event = one(gateway, "hf-capture-described")
    assert (event["statement_name"], event["parameters"]) == ("s", ["41", "t"])
    assert event["parameter_bytes"] == ["00000029", "01"]
    columns = [{"name": "n", "oid": 23}, {"name": "b", "oid": 16}]
    assert event["results"] == [{"columns": columns, "rows": [["42", "t"]], "copy": "", "truncated": False}]


def test_binary_parameters_of_types_that_nobody_knows_are_their_bytes(gateway: Gateway) -> None:
    with raw(gateway) as client:
        client.ask(wire.parse("SELECT $1::int /* hf-capture-unknown */"), wire.bind([b"\0\0\0\7"], formats=[1]),
                   wire.execute(), wire.SYNC)
    event = one(gateway, "hf-capture-unknown")
    assert event["parameters"] == [{"oid": 0, "hex": "\\x00000007"}] and event["parameter_bytes"] == ["00000007"]


# ---------------------------------------------------------------- statements of every kind

def test_cursors_and_suspended_portals(gateway: Gateway) -> None:
    with gateway.connect("shop") as db, db.transaction():
        db.execute("DECLARE c CURSOR FOR SELECT id FROM orders ORDER BY id /* hf-capture-cursor */")
        db.execute("FETCH 5 FROM c /* hf-capture-fetch */")
        db.execute("CLOSE c /* hf-capture-close */")
    assert one(gateway, "hf-capture-cursor")["tag"] == "DECLARE CURSOR"
    assert (one(gateway, "hf-capture-fetch")["rows"], one(gateway, "hf-capture-fetch")["tag"]) == (5, "FETCH 5")
    assert one(gateway, "hf-capture-close")["tag"] == "CLOSE CURSOR"
    with raw(gateway) as client:
        client.ask(wire.parse("SELECT generate_series(1, 3) /* hf-capture-portal */"), wire.bind(portal=""),
                   wire.execute(limit=2), wire.execute(limit=2), wire.SYNC)
    events = gateway.wait_audited("hf-capture-portal", 2)
    assert [(e["outcome"], e["rows"], e["row_limit"]) for e in events] == [("suspended", 2, 2), ("complete", 1, 2)]


def test_function_calls_by_name(gateway: Gateway) -> None:
    with raw(gateway) as client:
        client.query("CREATE FUNCTION add_up(a int, b bigint) RETURNS bigint LANGUAGE sql AS 'SELECT a + b'")
        (found,) = wire.rows(client.query("SELECT 'add_up'::regproc::oid"))
        client.ask(wire.function_call(int(found[0] or b""), [b"40", b"2"]))
        client.ask(wire.function_call(177, [b"1", b"2"]))
    event = one(gateway, "add_up(a integer, b bigint)")
    assert event["kind"] == "function" and event["sql"].startswith(f"function call {int(found[0] or b'')}: public.")
    assert (event["parameters"], event["outcome"]) == (["40", "2"], "complete")
    assert one(gateway, "function call 177")["sql"] == "function call 177: pg_catalog.int4pl(integer, integer)"


def test_copy_with_rows_and_bytes(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        with db.cursor().copy("COPY scratch FROM STDIN /* hf-capture-in */") as copy:
            for part in (b"1\tone\n2\t", b"two\n", b"3\tthree\n"):
                copy.write(part)
        out = "COPY (SELECT 1, 2 UNION ALL SELECT 3, 4) TO STDOUT (FORMAT binary) /* hf-capture-out */"
        with db.cursor().copy(out) as copy:
            size = sum(len(bytes(part)) for part in copy)
        with db.cursor().copy("COPY (SELECT 'a' UNION ALL SELECT 'b') TO STDOUT /* hf-capture-rows */") as copy:
            assert b"".join(map(bytes, copy)) == b"a\nb\n"
    event = one(gateway, "hf-capture-in")
    assert (event["tag"], event["rows"], event["copy_bytes"]) == ("COPY 3", 3, 20)
    event = one(gateway, "hf-capture-out")
    assert (event["tag"], event["rows"]) == ("COPY 2", 2) and event["bytes"] >= size
    assert one(gateway, "hf-capture-rows")["results"][0]["copy"] == "a\nb\n"


def test_listen_and_what_is_notified(gateway: Gateway) -> None:
    with gateway.connect("shop") as db, gateway.connect("none") as silent:
        for session in (db, silent):
            session.execute("LISTEN news /* hf-capture-listen */")
        db.execute("NOTIFY news, 'the payload of hf-capture' /* hf-capture-notify */")
        silent.execute("SELECT 1")
        heard = wait_until(lambda: [n.payload for n in silent.notifies(timeout=1, stop_after=1)], "the notification")
    assert heard == ["the payload of hf-capture"]
    assert len(gateway.wait_audited("hf-capture-listen", 2)) == 2
    assert one(gateway, "hf-capture-notify")["tag"] == "NOTIFY"
    note = noted(gateway, "notification", payload="the payload of hf-capture")
    assert (note["note"]["channel"], note["user"], note["connection"]) == ("news", "alice@example.com", "shop")
    cut = noted(gateway, "notification", payload="", truncated=True)
    assert cut["connection"] == "none", "payloads are results: this connection keeps none"


def test_cancels(gateway: Gateway, postgres: PostgresServer) -> None:
    with raw(gateway) as client:
        client.send(wire.query("SELECT pg_sleep(30) /* hf-capture-cancel */"))
        wait_until(lambda: postgres.is_running("%hf-capture-cancel%"), "it runs")
        with wire.WireClient(gateway.port) as other:
            other.send(wire.cancel_request(*client.key))
            other.frames_until_end()
        assert wire.errors(client.frames_until("Z"))[0]["C"] == "57014"
    event = one(gateway, "hf-capture-cancel")
    assert (event["outcome"], event["error"]["sqlstate"]) == ("error", "57014")
    assert noted(gateway, "cancel_requested")["session"] == event["session"]


# ---------------------------------------------------------------- outcomes

def test_errors_with_all_fields(gateway: Gateway) -> None:
    body = """DO $$ BEGIN RAISE 'said %', repeat('z', 100000)
        USING DETAIL = 'the detail', HINT = 'the hint', ERRCODE = '22012',
        COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 'd', TABLE = 't', SCHEMA = 's'; END $$ /* hf-capture-error */"""
    with gateway.connect("shop") as db, pytest.raises(psycopg.errors.DivisionByZero):
        db.execute(body)
    error = one(gateway, "hf-capture-error")["error"]
    assert error["message"] == "said " + "z" * 100_000
    expected = {"sqlstate": "22012", "severity": "ERROR", "detail": "the detail", "hint": "the hint", "column": "c",
                "constraint": "k", "data_type": "d", "table": "t", "schema": "s", "routine": "exec_stmt_raise"}
    assert expected.items() <= error.items() and error["where"].startswith("PL/pgSQL function inline_code_block")


def test_errors_outside_of_statements(gateway: Gateway, postgres: PostgresServer) -> None:
    with raw(gateway) as client, postgres.connect() as admin:
        (found,) = wire.rows(client.query("SELECT pg_backend_pid()"))
        admin.execute("SELECT pg_terminate_backend(%s)", (int(found[0] or b""),))
        client.frames_until_end()
    error = noted(gateway, "server_error")["note"]["error"]
    assert (error["severity"], error["sqlstate"]) == ("FATAL", "57P01")


def test_duration_and_time_to_first_row(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        db.execute("SELECT repeat('x', 20000), pg_sleep(0.2) FROM generate_series(1, 3) /* hf-capture-first */")
        db.execute("UPDATE scratch SET txt = '' WHERE false /* hf-capture-rowless */")
    event = one(gateway, "hf-capture-first")
    assert 150_000 < event["first_row_us"] < event["duration_us"] - 150_000
    assert "first_row_us" not in one(gateway, "hf-capture-rowless")


# ---------------------------------------------------------------- results

@pytest.mark.parametrize(("connection", "kept"), [("none", 0), ("some", 9), ("all", 30_000)])
def test_results_by_connection(gateway: Gateway, connection: str, kept: int) -> None:
    with gateway.connect(connection) as db:
        db.execute(f"SELECT repeat('r', 90) AS part FROM generate_series(1, 30000) /* hf-capture-{connection} */")
    event = one(gateway, f"hf-capture-{connection}")
    assert event["rows"] == 30_000
    if not kept:
        assert event["results"] == []
        return
    (result,) = event["results"]
    assert result["columns"] == [{"name": "part", "oid": 25}]
    assert (len(result["rows"]), result["truncated"]) == (kept, connection == "some")
    assert set(map(tuple, result["rows"])) == {("r" * 90,)}


# ---------------------------------------------------------------- everything else that people do

def test_what_people_do_to_the_gateway(gateway: Gateway) -> None:
    with pytest.raises(psycopg.OperationalError):
        gateway.connect("shop", password="wrong")
    made = gateway.cli("secret", "create", "--user", "robot@example.com", "--ttl", "1h", "--group", "engineering")
    with gateway.connect("shop") as victim, gateway.admin() as api:
        live = {"live": "true"}
        session = wait_until(lambda: api.get("/sessions", params=live).json()["sessions"], "it is listed")[0]
        api.post(f"/sessions/{session['session']}/kill", json={"reason": "a test"}).raise_for_status()
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT 1")
    gateway.cli("secret", "revoke", made.stderr.split()[0])
    gateway.cli("audit", "search", "--limit", "1")
    _approve_something(gateway)
    gateway.policy["rules"][0]["expires"] = "10m"
    gateway.write()
    gateway.reload()
    wanted = {
        "credential_refused", "admin/secret_create", "kill", "admin/secret_revoke", "admin/audit_search", "policy",
        "approval_requested", "approval_vote", "approval_used", "session_start", "session_end",
    }

    def missing() -> set[str]:
        found = set()
        for event in gateway.audit_jsonl():
            operation = event.get("fields", {}).get("operation")
            found.add(f"admin/{operation}" if operation else event.get("action", event["event"]))
        return wanted - found

    wait_until(lambda: not missing(), f"all of it is recorded; {missing()} are not")


def _approve_something(gateway: Gateway) -> None:
    with raw(gateway) as client:
        client.send(wire.query("TRUNCATE scratch /* hf-capture-approved */"))
        asked = gateway.wait_approval("hf-capture-approved")
        gateway.decide(asked["id"], "approve", "bob").raise_for_status()
        client.frames_until("Z")
    assert one(gateway, "hf-capture-approved")["verdict"] == "approve"
