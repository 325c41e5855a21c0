"""A masked value never reaches the client: every format and path, and the refusals, searched for canaries."""

from __future__ import annotations

import asyncio

import asyncpg
import psycopg
import pytest

from tests.gateway.conftest import CANARIES
from tests.support import wire
from tests.support.gateway import Gateway
from tests.support.postgres import PostgresServer


def login(gateway: Gateway, person: str = "alice") -> wire.WireClient:
    client = wire.WireClient(gateway.port)
    client.login(person, "shop", gateway.token(person))
    return client


def canaries_in(data: bytes | bytearray) -> list[str]:
    found = [c for c in CANARIES if c.encode() in data]
    # numeric 98765.43 in binary: base-10000 digits 9, 8765, 4300
    if bytes.fromhex("0009223d10cc") in bytes(data):
        found.append("98765.43 (binary)")
    if (193584726).to_bytes(4, "big") in bytes(data):
        found.append("193584726 (binary)")
    return found


def test_text_values(gateway: Gateway) -> None:
    with login(gateway) as client:
        frames = client.query("SELECT id, ssn, card, email, salary, city FROM customers ORDER BY id")
        rows = wire.rows(frames)
        assert [r[0] for r in rows] == [b"1", b"2", b"3"]
        assert [r[5] for r in rows] == [b"Paris", b"Rome", b"Oslo"]
        assert rows[0][2] is not None and rows[0][2].endswith(b"1486") and b"CANARY" not in rows[0][2]
        assert rows[0][3] is not None and b"@" in rows[0][3]
        assert rows[0][4] is None
        assert not canaries_in(client.received)


FORMS = {
    "star": "SELECT * FROM customers",
    "alias": "SELECT c.ssn AS innocent, c.* FROM customers c",
    "subquery": "SELECT x FROM (SELECT ssn AS x FROM customers) q",
    "cte": "WITH q AS (SELECT ssn, salary FROM customers) SELECT * FROM q",
    "join": "SELECT o.id, c.email FROM orders o JOIN customers c ON c.id = o.customer",
    "table": "TABLE customers",
    "qualified": "SELECT public.customers.ssn FROM public.customers",
    "returning": "UPDATE customers SET note = 'n' WHERE id = 1 RETURNING *",
    "locking": "SELECT ssn FROM customers WHERE id = 1 FOR UPDATE",
    "ordered": "SELECT ssn FROM customers ORDER BY id LIMIT 1",
}


@pytest.mark.parametrize("form", FORMS)
def test_simple(gateway: Gateway, form: str) -> None:
    with login(gateway) as client:
        client.query(FORMS[form])
        assert client.status == "I"
        assert not canaries_in(client.received)
        assert wire.rows(client.query("SELECT 1")) == [[b"1"]]


@pytest.mark.parametrize("result_format", [0, 1])
@pytest.mark.parametrize("described", ["statement", "portal", "not"])
@pytest.mark.parametrize("form", FORMS)
def test_extended(gateway: Gateway, form: str, described: str, result_format: int) -> None:
    messages = {
        "statement": [wire.describe_statement("s"), wire.bind(name="s", result_formats=[result_format])],
        "portal": [wire.bind(name="s", result_formats=[result_format]), wire.describe_portal()],
        "not": [wire.bind(name="s", result_formats=[result_format])],
    }[described]
    with login(gateway) as client:
        client.ask(wire.parse(FORMS[form], "s"), *messages, wire.execute(), wire.SYNC)
        assert not canaries_in(client.received)
        other = wire.bind(name="s", result_formats=[1 - result_format])
        client.ask(other, wire.execute(limit=1), wire.execute(), wire.SYNC)
        assert not canaries_in(client.received)
        assert wire.rows(client.query("SELECT 1")) == [[b"1"]]


def test_hash_and_constant(gateway: Gateway) -> None:
    """A hash is the same for the same value, in text and binary; a constant is what the policy says; NULL stays."""
    for binary in (False, True):
        with gateway.connect("shop") as db:
            rows = db.cursor(binary=binary).execute("SELECT phone, badge FROM customers ORDER BY id").fetchall()
            assert [r[0] for r in rows] == ["+00 000", "+00 000", None]
            assert rows[0][1] == rows[1][1] != 193584726
            assert isinstance(rows[0][1], int) and rows[2][1] is None


def test_rows_still_arrive(gateway: Gateway) -> None:
    """Masking is not refusing: plain reads of masked columns answer with all rows, in both formats."""
    with gateway.connect("shop") as db:
        for binary in (False, True):
            cursor = db.cursor(binary=binary)
            rows = cursor.execute("SELECT id, ssn, card, email, salary, born FROM customers ORDER BY id").fetchall()
            assert [r[0] for r in rows] == [1, 2, 3]
            assert rows[0][4] is None and str(rows[0][5]) == "1990-01-02"
            assert rows[2][1] is None and rows[2][3] is None, "NULL stays NULL"


def test_prepared_and_cursor(gateway: Gateway) -> None:
    with login(gateway) as client:
        client.query("PREPARE p AS SELECT * FROM customers WHERE id = $1")
        client.query("EXECUTE p(1)")
        client.query("BEGIN; DECLARE c CURSOR FOR SELECT * FROM customers; FETCH 1 FROM c; FETCH ALL FROM c; COMMIT")
        client.query("BEGIN")
        client.query("DECLARE d BINARY CURSOR FOR SELECT ssn, salary FROM customers")
        client.query("FETCH ALL FROM d")
        client.query("ROLLBACK")
        assert not canaries_in(client.received)
        assert wire.rows(client.query("SELECT 1")) == [[b"1"]]


@pytest.mark.parametrize("options", [
    "", "(FORMAT csv)", "(FORMAT csv, HEADER, FORCE_QUOTE *)", "(FORMAT binary)", "(DELIMITER '|', NULL 'nothing')",
    "(FORMAT csv, QUOTE '''', ESCAPE '\\')",
])
@pytest.mark.parametrize("source", ["customers", "customers (id, ssn)", "(SELECT * FROM customers)"])
def test_copy(gateway: Gateway, source: str, options: str) -> None:
    with login(gateway) as client:
        client.query(f"COPY {source} TO STDOUT {options}")
        assert not canaries_in(client.received)
        assert wire.rows(client.query("SELECT 1")) == [[b"1"]]


def test_copy_of_the_table_arrives(gateway: Gateway) -> None:
    with gateway.connect("shop") as db, db.cursor() as cursor:
        with cursor.copy("COPY customers (id, ssn, city) TO STDOUT") as copy:
            rows = sorted(copy.rows())
        assert [(r[0], r[2]) for r in rows] == [("1", "Paris"), ("2", "Rome"), ("3", "Oslo")]


ATTACKS = [
    "SELECT upper(ssn) FROM customers",
    "SELECT ssn || '' FROM customers",
    "SELECT customers FROM customers",
    "SELECT customers::text FROM customers",
    "SELECT row_to_json(c) FROM customers c",
    "SELECT to_jsonb(customers) FROM customers",
    "SELECT array_agg(ssn) FROM customers",
    "SELECT string_agg(ssn, ',') FROM customers",
    "SELECT max(ssn), min(salary) FROM customers",
    "SELECT ssn FROM customers UNION SELECT city FROM customers",
    "SELECT coalesce(ssn, '') FROM customers",
    "SELECT CASE WHEN id = 1 THEN ssn END FROM customers",
    "SELECT (SELECT ssn FROM customers WHERE id = 1)",
    "SELECT (c).ssn FROM (SELECT customers AS c FROM customers) q",
    "SELECT query_to_xml('SELECT ssn FROM customers', true, true, '')",
    "SELECT table_to_xml('customers', true, true, '')",
    "SELECT * FROM customers WHERE ssn::int = 1",
    "SELECT 1 FROM customers WHERE (salary / 0) > 1",
    "SELECT cast(ssn AS int) FROM customers",
    "INSERT INTO scratch SELECT id, ssn FROM customers RETURNING txt",
    "CREATE TEMP TABLE t AS SELECT ssn FROM customers; SELECT * FROM t",
    "CREATE VIEW v AS SELECT ssn AS x FROM customers; SELECT x FROM v",
    "DO $$ BEGIN RAISE NOTICE '%', (SELECT ssn FROM customers WHERE id = 1); END $$",
    "EXPLAIN ANALYZE SELECT * FROM customers WHERE ssn = 'CANARY' || '-SSN-ZQXJ'",
    "SELECT pg_notify('x', ssn) FROM customers",
    "SELECT set_config('x.y', (SELECT ssn FROM customers WHERE id = 1), false)",
    "SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'",
    "WITH x AS (UPDATE customers SET note = ssn RETURNING note) SELECT * FROM x",
    "COPY (SELECT ssn || 'x' FROM customers) TO STDOUT",
    "SELECT unnest(array(SELECT ssn FROM customers))",
    "SELECT ssn FROM customers GROUP BY ssn HAVING count(*) > 0",
    "VALUES ((SELECT ssn FROM customers WHERE id = 1))",
    "SELECT lower(c.*::text) FROM customers c",
    "SELECT xmlelement(name a, ssn) FROM customers",
    "SELECT format('%s', ssn) FROM customers",
    "SELECT l.x FROM customers c, LATERAL (SELECT c.ssn AS x) l",
    "SELECT * FROM customers c NATURAL JOIN customers d",
    "SELECT q.* FROM ROWS FROM (json_each_text((SELECT to_json(c) FROM customers c LIMIT 1))) q",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(gateway: Gateway, attack: str) -> None:
    """Masked or refused, simple and extended: what counts is that no canary arrives and the session is in step."""
    with login(gateway) as client:
        client.query("BEGIN")
        client.query(attack)
        client.query("ROLLBACK")
        if ";" not in attack:
            client.query("BEGIN")
            binary = wire.bind(result_formats=[1])
            client.ask(wire.parse(attack), binary, wire.describe_portal(), wire.execute(), wire.SYNC)
            client.query("ROLLBACK")
        assert not canaries_in(client.received)
        assert client.status == "I"
        assert wire.rows(client.query("SELECT 1")) == [[b"1"]]


def test_function_calls_cannot_be_read(gateway: Gateway) -> None:
    """FunctionCall runs any function by its OID, past all analysis of SQL."""
    with login(gateway) as client:
        frames = client.ask(wire.frame("F", bytes.fromhex("00000952 0000 0001 00000004 00000001 0000")))
        assert [f["C"] for f in wire.errors(frames)] == ["42501"]
        assert wire.rows(client.query("SELECT 1")) == [[b"1"]]


def test_refusal_says_why(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            db.execute("SELECT upper(ssn) FROM customers").fetchall()
        assert "mask" in str(caught.value).lower()


def test_refusal_in_a_transaction_fails_it(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn("shop")) as db:
        db.execute("SELECT 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("SELECT upper(ssn) FROM customers")
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            db.execute("SELECT 1")
        db.rollback()
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_refusal_in_a_pipeline(gateway: Gateway) -> None:
    with login(gateway) as client:
        frames = client.ask(
            wire.parse("SELECT 1"), wire.bind(), wire.execute(),
            wire.parse("SELECT upper(ssn) FROM customers"), wire.bind(), wire.execute(),
            wire.parse("SELECT 2"), wire.bind(), wire.execute(), wire.SYNC,
        )
        assert [f["C"] for f in wire.errors(frames)] == ["42501"]
        assert wire.rows(frames) == [[b"1"]], "what stood before the refusal ran, what came after did not"
        assert client.status == "I"


def test_another_identity_sees_more(gateway: Gateway) -> None:
    with gateway.connect("shop", "dora") as db:
        row = db.execute("SELECT email, ssn FROM customers WHERE id = 1").fetchone()
        assert row is not None
        assert row[0] == "canary.zqxj@example.org"
        assert "CANARY" not in str(row[1])
    with gateway.connect("shop", "alice") as db:
        row = db.execute("SELECT email, ssn FROM customers WHERE id = 1").fetchone()
        assert row is not None and "canary" not in row[0]


def test_asyncpg_sees_masks_in_binary(gateway: Gateway) -> None:
    async def run() -> None:
        db = await asyncpg.connect(
            host="127.0.0.1", port=gateway.port, user="alice", database="shop", ssl=False,
            password=gateway.token("alice"),
        )
        try:
            rows = await db.fetch("SELECT ssn, card, email, salary, city FROM customers ORDER BY id")
            assert [r["city"] for r in rows] == ["Paris", "Rome", "Oslo"]
            assert rows[0]["salary"] is None
            assert not [c for c in CANARIES if c in str(rows)]
        finally:
            await db.close()

    asyncio.run(run())


def test_errors_do_not_carry_values(gateway: Gateway) -> None:
    with login(gateway) as client:
        for statement in (
            "INSERT INTO customers (id, name, ssn) VALUES (1, 'x', 'y')",
            "UPDATE customers SET id = 2 WHERE id = 1",
            "ALTER TABLE customers ADD CONSTRAINT u UNIQUE (card)",
            "SELECT ssn::date FROM customers",
        ):
            client.query("BEGIN")
            client.query(statement)
            client.query("ROLLBACK")
        assert not canaries_in(client.received)


FAR_EFFECTS = (
    "CREATE TABLE regions (id int PRIMARY KEY)",
    "INSERT INTO regions VALUES (0), (1)",
    "ALTER TABLE customers ADD region int NOT NULL DEFAULT 1 REFERENCES regions ON DELETE SET NULL",
    """CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE NOTICE 'ssn is %', NEW.ssn;
        IF NEW.name = 'Eve' THEN RAISE EXCEPTION 'ssn is %', NEW.ssn USING ERRCODE = '23514'; END IF;
        RETURN NULL;
    END $$""",
    """CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON customers DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION tell()""",
)
NEAR = (
    "ALTER TABLE customers DROP COLUMN region", "DROP TABLE regions", "DROP TRIGGER late ON customers",
    "DROP FUNCTION tell",
)


def test_errors_from_afar_do_not_carry_values(gateway: Gateway, postgres: PostgresServer, shop: str) -> None:
    """A cascade into the masked table, and a trigger of it that fires at the end of the transaction."""
    with postgres.connect(shop) as direct:
        direct.execute("SET ROLE app")
        for statement in FAR_EFFECTS:
            direct.execute(statement)
        try:
            with login(gateway) as client:
                assert len(wire.rows(client.query("SELECT id FROM regions"))) == 2, "the catalog knows it now"
                assert _sqlstates(client.query("DELETE FROM regions WHERE id = 1")) == ["23502"]
                rename = "UPDATE customers SET name = 'Eve' WHERE id = 1"
                assert _sqlstates(client.query(rename)) == ["23514"]
                extended = (wire.parse(rename), wire.bind(), wire.execute())
                assert _sqlstates(client.ask(*extended, wire.SYNC)) == ["23514"]
                for settle in ("COMMIT", "SET CONSTRAINTS ALL IMMEDIATE"):
                    client.query("BEGIN")
                    assert not _sqlstates(client.query(rename))
                    assert _sqlstates(client.query(settle)) == ["23514"]
                    client.query("ROLLBACK")
                client.query("BEGIN")
                client.query("UPDATE customers SET note = 'y' WHERE id = 1")
                client.query("COMMIT")
                assert not canaries_in(client.received)
                client.query("INSERT INTO orders (id, item) VALUES (1, 'again')")
                assert b"Key (id)=(1) already exists" in client.received, "an error of one's own arrives whole"
        finally:
            for statement in NEAR:
                direct.execute(statement)


def _sqlstates(frames: list[wire.Frame]) -> list[str]:
    return [error["C"] for error in wire.errors(frames)]


def test_a_locked_table_holds_up_nobody(gateway: Gateway, postgres: PostgresServer, shop: str) -> None:
    """To print a view the server locks its tables. A long ALTER TABLE must not keep the catalog from being read."""
    with postgres.connect(shop) as direct, postgres.connect(shop) as other:
        direct.execute("SET ROLE app")
        direct.execute("CREATE VIEW phone_book AS SELECT id, name, ssn FROM customers")
        direct.execute("CREATE VIEW prices AS SELECT id, price FROM orders")
        try:
            other.execute("BEGIN")
            other.execute("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
            with login(gateway) as client:
                direct.execute("CREATE TABLE fresh (id int)")       # unknown: the catalog is read again
                assert not _sqlstates(client.query("SELECT * FROM fresh"))
                assert len(wire.rows(client.query("SELECT id FROM prices LIMIT 2"))) == 2
                assert _sqlstates(client.query("SELECT id FROM phone_book")) == ["42501"]
                other.execute("ROLLBACK")
                direct.execute("CREATE TABLE fresher (id int)")
                assert not _sqlstates(client.query("SELECT * FROM fresher"))
                rows = wire.rows(client.query("SELECT name, ssn FROM phone_book ORDER BY id"))
                assert rows == [[b"Ada", b"***"], [b"Bo", b"***"], [b"Cy", None]]
        finally:
            other.execute("ROLLBACK")
            for statement in ("VIEW phone_book", "VIEW prices", "TABLE IF EXISTS fresh", "TABLE IF EXISTS fresher"):
                direct.execute(f"DROP {statement}")


def test_masks_in_odd_pieces(gateway: Gateway) -> None:
    """The same bytes whatever the boundaries: a proxy cuts both directions into random pieces."""
    with login(gateway) as client:
        whole = client.query("SELECT * FROM customers ORDER BY id")
    with wire.SplittingProxy(gateway.port) as proxy, wire.WireClient(proxy.port) as client:
        client.login("alice", "shop", gateway.token("alice"))
        for _ in range(5):
            assert client.query("SELECT * FROM customers ORDER BY id") == whole
        assert not canaries_in(client.received)
