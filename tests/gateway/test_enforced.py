"""Enforced mode on a real server: what `provision` writes and finds, and what people get who log in with its role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.gateway.conftest import CANARIES, SHOP, SHOP_POLICY
from tests.support import wire
from tests.support.enforced import ENFORCED, SCHEMA, apply, provision, remove
from tests.support.gateway import Gateway, upstream_of, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import MASKED_ROLE, PASSWORD, PostgresServer

pytestmark = pytest.mark.server
DATABASE = "enforced"
POLICY = SHOP_POLICY | {"rules": [], "access": [{"groups": ["engineering"], "connections": ["shop"]}]}


@pytest.fixture(scope="module")
def enforced(postgres: PostgresServer, issuer: TestIssuer) -> Iterator[Gateway]:
    with postgres.connect() as db:
        db.execute(sql.SQL("CREATE DATABASE {} OWNER app").format(sql.Identifier(DATABASE)))
    try:
        with postgres.connect(DATABASE) as db:
            db.execute("SET ROLE app")
            for statement in SHOP:
                db.execute(statement)  # type: ignore[call-overload]  # text of our own
            db.execute("GRANT SELECT ON customers TO PUBLIC")
        gateway = Gateway(issuer, {"shop": upstream_of(postgres, DATABASE) | ENFORCED}, policy=POLICY)
        assert {one["problem"] for one in drift(gateway)} == {"does not exist"}
        apply(postgres, gateway, "shop", DATABASE)
        with gateway:
            yield gateway
    finally:
        with postgres.connect() as db:
            db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
        remove(postgres)


def drift(gateway: Gateway) -> list[dict[str, Any]]:
    made = provision(gateway, "shop", "--check", "--json")
    found: list[dict[str, Any]] = json.loads(made.stdout)
    assert made.exit_code == int(bool(found)), made.output
    return found


def connect(gateway: Gateway) -> psycopg.Connection[Any]:
    return gateway.connect("shop")


def test_the_role_itself_may_not_read_hidden_columns(enforced: Gateway, postgres: PostgresServer) -> None:
    with psycopg.connect(host="127.0.0.1", port=postgres.port, dbname=DATABASE, user=MASKED_ROLE, password=PASSWORD,
                         autocommit=True) as db:
        assert db.execute("SELECT name FROM customers ORDER BY id").fetchall() == [("Ada",), ("Bo",), ("Cy",)]
        for text in ("SELECT ssn FROM customers", "SELECT * FROM customers", "SELECT c::text FROM customers c",
                     "SELECT 1 FROM customers WHERE ssn LIKE '0%'", "DELETE FROM customers RETURNING ssn",
                     "UPDATE customers SET note = ssn", "COPY customers TO STDOUT", f"TABLE {SCHEMA}.key",
                     "ALTER TABLE customers DISABLE TRIGGER ALL", "CREATE TABLE public.copy (x int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(text)  # type: ignore[call-overload]
        seen = str(db.execute("SELECT * FROM pg_stats").fetchall()) + str(
            db.execute(f'SELECT * FROM {SCHEMA}."public.customers"').fetchall())
        assert not [canary for canary in CANARIES if canary in seen and canary != "98765.43"]


def test_the_script_runs_again_and_finds_nothing_to_do(enforced: Gateway, postgres: PostgresServer) -> None:
    first = apply(postgres, enforced, "shop", DATABASE)
    assert drift(enforced) == []
    assert apply(postgres, enforced, "shop", DATABASE) == first
    shown = provision(enforced, "shop", "--check")
    assert "as enforced mode needs it" in shown.stdout


# What somebody does, how it is undone, and what `--check` says of it.
CHANGES = (
    (f"GRANT SELECT (ssn) ON customers TO {MASKED_ROLE}", f"REVOKE SELECT (ssn) ON customers FROM {MASKED_ROLE}",
     "may read column ssn"),
    ("GRANT DELETE, TRUNCATE ON scratch TO PUBLIC", "REVOKE DELETE, TRUNCATE ON scratch FROM PUBLIC", "may TRUNCATE"),
    (f"GRANT app_md5 TO {MASKED_ROLE}", f"REVOKE app_md5 FROM {MASKED_ROLE}", "belongs to another role"),
    (f"ALTER ROLE {MASKED_ROLE} BYPASSRLS", f"ALTER ROLE {MASKED_ROLE} NOBYPASSRLS", "has BYPASSRLS"),
    (f"REVOKE SELECT (name) ON customers FROM {MASKED_ROLE}", f"GRANT SELECT (name) ON customers TO {MASKED_ROLE}",
     "cannot read column name"),
    ("CREATE FUNCTION tell() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT ssn FROM customers'",
     "DROP FUNCTION tell", "may call it"),
    ("CREATE TABLE newer (id int); GRANT SELECT ON newer TO app", "DROP TABLE newer", "cannot SELECT"),
    ("ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO PUBLIC",
     "ALTER DEFAULT PRIVILEGES FOR ROLE app REVOKE SELECT ON TABLES FROM PUBLIC", "new tables could be read"),
    (f"GRANT CREATE ON SCHEMA public TO {MASKED_ROLE}", f"REVOKE CREATE ON SCHEMA public FROM {MASKED_ROLE}",
     "may create objects"),
    (f"CREATE VIEW {SCHEMA}.other AS SELECT 1 AS one", f"DROP VIEW {SCHEMA}.other", "of no use any more"),
)


def test_check_finds_what_is_different(enforced: Gateway, postgres: PostgresServer) -> None:
    with postgres.connect(DATABASE) as db:
        for change, _, _ in CHANGES:
            db.execute(change)  # type: ignore[call-overload]  # text of our own
        try:
            problems = [one["problem"] for one in drift(enforced)]
        finally:
            for _, back, _ in CHANGES:
                db.execute(back)  # type: ignore[call-overload]
    assert not [words for _, _, words in CHANGES if not any(words in problem for problem in problems)], problems
    assert drift(enforced) == []


def test_a_masking_view_that_shows_more_is_found(enforced: Gateway, postgres: PostgresServer) -> None:
    view = f'{SCHEMA}."public.customers"'
    with postgres.connect(DATABASE) as db:
        row = db.execute("SELECT pg_get_viewdef(%s::regclass)", [view]).fetchone()
        assert row is not None
        shown = "CASE WHEN ssn = '' THEN ssn ELSE ssn END"
        text = row[0].replace("'***'::text", shown, 1) if "'***'::text" in row[0] else row[0]
        assert text != row[0]
        db.execute(f"CREATE OR REPLACE VIEW {view} AS {text}")  # type: ignore[call-overload]
    assert [one["problem"] for one in drift(enforced)] == ["is not what the policy and its table ask for"]
    apply(postgres, enforced, "shop", DATABASE)
    assert drift(enforced) == []


def test_people_see_what_they_see_without_it(enforced: Gateway) -> None:
    with connect(enforced) as db:
        rows = db.execute(
            "SELECT id, ssn, card, email, salary, phone, badge, city FROM customers ORDER BY id").fetchall()
        assert rows[0][:6] == (1, "***", "************1486", "c***@example.org", None, "+00 000")
        assert rows[0][6] == rows[1][6] != 193584726
        assert rows[2] == (3, None, None, None, None, None, None, "Oslo")
        assert db.execute("SELECT current_user").fetchone() == (MASKED_ROLE,)


def test_comparisons_find_the_true_rows(enforced: Gateway) -> None:
    with connect(enforced) as db:
        assert db.execute("SELECT id FROM customers WHERE ssn = '078-05-1120'").fetchall() == [(2,)]
        assert db.execute("SELECT * FROM customers WHERE ssn = %s", ["078-05-1120"]).fetchall()[0][:2] == (2, "Bo")
        assert db.execute("SELECT id FROM customers WHERE salary = 98765.430 ORDER BY id").fetchall() == [(1,), (2,)]
        assert db.execute("SELECT id FROM customers WHERE badge = ANY (%s) ORDER BY id", [[193584726]]).fetchall() == [
            (1,), (2,)]
        assert db.execute("SELECT id FROM customers WHERE NOT ssn = '078-05-1120'").fetchall() == [(1,)]
        assert db.execute("SELECT a.id, b.id FROM customers a JOIN customers b ON a.card = b.card AND a.id < b.id"
                          ).fetchall() == [(1, 2)]
        with db.transaction(force_rollback=True):
            found = db.execute("UPDATE customers SET note = 'n' WHERE ssn = '078-05-1120' RETURNING id, ssn").fetchall()
            assert found == [(2, None)]
            db.execute("DELETE FROM orders WHERE customer = 3")
            assert db.execute("DELETE FROM customers WHERE ssn IS NULL").rowcount == 1


def test_positions_behind_stars_in_statements_that_carry_a_query(enforced: Gateway) -> None:
    """Only the query has columns that the server can tell, so it is the query that is described and compared."""
    with connect(enforced) as db:
        plain = db.execute("SELECT * FROM customers ORDER BY 2 DESC").fetchall()
        with db.transaction():
            db.execute("DECLARE c CURSOR FOR SELECT * FROM customers ORDER BY 2 DESC")
            assert db.execute("FETCH ALL FROM c").fetchall() == plain
        db.execute("PREPARE p AS SELECT * FROM customers ORDER BY 2 DESC")
        assert db.execute("EXECUTE p").fetchall() == plain
        assert db.execute("EXPLAIN SELECT * FROM customers ORDER BY 2 DESC").fetchall()


def test_prepared_statements_keep_their_types_and_columns(enforced: Gateway, postgres: PostgresServer) -> None:
    text = "SELECT id, card FROM customers WHERE card = $1 AND badge = $2 AND id = $3"
    with wire.WireClient(enforced.port) as client, wire.WireClient(postgres.port) as direct:
        client.login("alice", "shop", enforced.token("alice"))
        direct.login("postgres", DATABASE, "")
        answers = []
        for one in (client, direct):
            one.send(wire.parse(text, "s") + wire.describe_statement("s") + wire.SYNC)
            answers.append([frame for frame in one.frames_until("Z") if frame.kind in "tT"])
        assert answers[0] == answers[1]
        client.send(wire.bind([b"4539-CANARY-1486", b"193584726", b"2"], name="s") + wire.execute() + wire.SYNC)
        assert wire.rows(client.frames_until("Z")) == [[b"2", b"************1486"]]


def test_the_trail_has_what_came_and_what_was_sent(enforced: Gateway) -> None:
    text = "SELECT id, ssn AS looked_at FROM customers WHERE id = 2"
    with connect(enforced) as db:
        db.execute(text)
    def arrived() -> list[dict[str, Any]] | None:
        events = enforced.audit_jsonl()
        there = any(one.get("sql") == text for one in events) and any(_note(one, text) for one in events)
        return events if there else None

    events = wait_until(arrived, "the statement and its note are in the trail", 45)
    (ran,) = [one for one in events if one.get("sql") == text]
    assert ran["masks"] == ["public.customers.ssn"]
    assert any(f'{SCHEMA}."public.customers"' in _note(one, text) for one in events)


def _note(event: dict[str, Any], text: str) -> str:
    note = event.get("note") or {}
    return str(note.get("sent", "")) if note.get("kind") == "rewritten" and note.get("sql") == text else ""


def test_errors_are_the_servers_own_with_the_clients_positions(enforced: Gateway) -> None:
    with connect(enforced) as db, pytest.raises(psycopg.errors.UndefinedColumn) as raised:
        db.execute("SELECT ssn, nope FROM customers")
    assert raised.value.diag.statement_position == "13"


def test_a_column_that_provision_does_not_know_is_refused(enforced: Gateway, postgres: PostgresServer) -> None:
    with postgres.connect(DATABASE) as db:
        db.execute("ALTER TABLE customers ADD COLUMN late text")
    try:
        with connect(enforced) as db:
            wait_until(lambda: _fails(db, "SELECT late, ssn FROM customers"), "the gateway knows the column")
            assert db.execute("SELECT name FROM customers WHERE id = 1").fetchall() == [("Ada",)]
        apply(postgres, enforced, "shop", DATABASE)
        assert drift(enforced) == []
        with connect(enforced) as db:
            wait_until(lambda: _runs(db, "SELECT late, ssn FROM customers"), "the view has the column too")
    finally:
        with postgres.connect(DATABASE) as db:
            db.execute(f'DROP VIEW {SCHEMA}."public.customers"; ALTER TABLE customers DROP COLUMN late')
        apply(postgres, enforced, "shop", DATABASE)


def _fails(db: psycopg.Connection[Any], text: str) -> bool:
    try:
        db.execute(text)  # type: ignore[call-overload]
    except psycopg.Error as error:
        return "masking views" in str(error)
    return False


def _runs(db: psycopg.Connection[Any], text: str) -> bool:
    try:
        return bool(db.execute(text).fetchall())  # type: ignore[call-overload]
    except psycopg.Error:
        return False
