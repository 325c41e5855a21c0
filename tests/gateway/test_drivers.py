"""psycopg (sync, async, pipeline) and asyncpg through the gateway: whatever a driver does, it cannot tell."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import datetime as dt
import decimal
import threading
import time
import uuid

import asyncpg
import psycopg
import pytest
from psycopg import sql

from tests.support.gateway import Gateway, wait_until
from tests.support.postgres import PostgresServer, binaries

VALUES = [
    42, 2**40, 1.5, "ä€𝄞", b"\x00\xff", True, None, dt.date(2024, 2, 29), decimal.Decimal("12345.678900"),
    uuid.UUID(int=7), dt.timedelta(days=3, seconds=4), [1, 2, None], dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
]


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_values(gateway: Gateway, binary: bool) -> None:
    with gateway.connect("shop") as db, db.cursor(binary=binary) as cursor:
        for value in VALUES:
            cursor.execute("SELECT %s", (value,))
            assert cursor.fetchone() == (value,)


def test_psycopg_prepared(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        for i in range(1, 20):
            row = db.execute("SELECT item FROM orders WHERE id = %s", (i,), prepare=True).fetchone()
            assert row == (f"item {i}",)
        assert db.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (1,)
        db.execute("DEALLOCATE ALL")
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            db.execute("EXECUTE nothing_like_that")
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_psycopg_transactions_and_errors(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn("shop")) as db:
        with db.transaction():
            db.execute("INSERT INTO scratch VALUES (10, 'a')")
            with pytest.raises(psycopg.errors.UniqueViolation) as caught, db.transaction():
                db.execute("INSERT INTO orders (id, item) VALUES (1, 'again')")
            assert caught.value.diag.constraint_name == "orders_pkey"
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert db.execute("SELECT count(*) FROM scratch WHERE id = 10").fetchone() == (1,)
        db.execute("DELETE FROM scratch WHERE id = 10")
        db.commit()


def test_psycopg_pipeline(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        with db.pipeline():
            cursors = [db.execute("SELECT %s::int * 2", (i,)) for i in range(300)]
        assert [c.fetchone() for c in cursors] == [(i * 2,) for i in range(300)]
        with pytest.raises(psycopg.errors.DivisionByZero), db.pipeline():
            db.execute("SELECT 1")
            db.execute("SELECT 1/0")
            db.execute("SELECT 2")
        assert db.execute("SELECT 3").fetchone() == (3,)


def test_psycopg_cursors(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn("shop")) as db:
        with db.cursor(name="server_side") as cursor:
            cursor.itersize = 7
            cursor.execute("SELECT id FROM orders ORDER BY id")
            assert [row[0] for row in cursor] == list(range(1, 101))
        with db.cursor(name="scrolling", scrollable=True) as cursor:
            cursor.execute("SELECT id FROM orders ORDER BY id")
            cursor.scroll(50)
            assert cursor.fetchone() == (51,)
        rows = list(db.cursor().stream("SELECT id FROM orders ORDER BY id LIMIT 5"))
        assert rows == [(1,), (2,), (3,), (4,), (5,)]


@pytest.mark.parametrize("form", ["text", "binary"])
def test_psycopg_copy(gateway: Gateway, form: str) -> None:
    options = sql.SQL("(FORMAT {})").format(sql.SQL(form))
    with gateway.connect("shop") as db, db.cursor() as cursor:
        with cursor.copy(sql.SQL("COPY scratch FROM STDIN {}").format(options)) as copy:
            copy.set_types(["int4", "text"])
            for i in range(2000):
                copy.write_row((i, f"row {i}\t\\"))
        with cursor.copy(sql.SQL("COPY (SELECT * FROM scratch ORDER BY id) TO STDOUT {}").format(options)) as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
        assert rows == [(i, f"row {i}\t\\") for i in range(2000)]
        with pytest.raises(psycopg.errors.BadCopyFileFormat), cursor.copy("COPY scratch FROM STDIN") as copy:
            copy.write(b"1\ta\tb\n")
        with pytest.raises(RuntimeError), cursor.copy("COPY scratch FROM STDIN") as copy:
            raise RuntimeError("the client gives up: CopyFail")
        cursor.execute("DELETE FROM scratch WHERE id >= 0")
        assert cursor.rowcount == 2000


def test_psycopg_async(gateway: Gateway) -> None:
    async def run() -> list[int]:
        async def one(i: int) -> int:
            async with await psycopg.AsyncConnection.connect(gateway.dsn("shop")) as db:
                row = await (await db.execute("SELECT %s::int + 1", (i,))).fetchone()
                assert row is not None
                return int(row[0])

        return await asyncio.gather(*(one(i) for i in range(20)))

    assert asyncio.run(run()) == list(range(1, 21))


def test_notifications_reach_an_idle_session(gateway: Gateway) -> None:
    with gateway.connect("shop") as listener, gateway.connect("shop") as speaker:
        listener.execute("LISTEN channel_1")
        speaker.execute("SELECT pg_notify('channel_1', 'payload')")
        notes = list(listener.notifies(timeout=10, stop_after=1))
        assert [(n.channel, n.payload) for n in notes] == [("channel_1", "payload")]


def test_cancel_from_anywhere(gateway: Gateway) -> None:
    """Each cancel is a new connection: with two workers, every second one lands on the wrong worker."""
    for _ in range(6):
        with gateway.connect("shop") as db:
            timer = threading.Timer(0.3, db.cancel_safe, kwargs={"timeout": 10})
            began = time.monotonic()
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                db.execute("SELECT pg_sleep(20)")
            timer.join()
            assert time.monotonic() - began < 10
            assert db.execute("SELECT 1").fetchone() == (1,)


def test_a_late_cancel_hits_nothing(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        for _ in range(5):
            db.execute("SELECT 1")
            db.cancel_safe(timeout=10)
            assert db.execute("SELECT pg_sleep(0.05)").fetchone() == ("",)


def test_large_objects_use_function_calls(gateway: Gateway) -> None:
    """libpq's lo_* functions are the one client of FunctionCall that everybody has."""
    library = _libpq()
    conn = library.PQconnectdb(gateway.dsn("plain").encode())
    try:
        assert library.PQstatus(conn) == 0, library.PQerrorMessage(conn)
        library.PQclear(library.PQexec(conn, b"BEGIN"))
        oid = library.lo_creat(conn, 0x60000)
        assert oid > 0, library.PQerrorMessage(conn)
        fd = library.lo_open(conn, oid, 0x60000)
        assert library.lo_write(conn, fd, b"through the gateway", 19) == 19
        assert library.lo_lseek(conn, fd, 0, 0) == 0
        buffer = ctypes.create_string_buffer(64)
        assert library.lo_read(conn, fd, buffer, 64) == 19
        assert buffer.raw[:19] == b"through the gateway"
        assert library.lo_unlink(conn, oid) == 1
        library.PQclear(library.PQexec(conn, b"COMMIT"))
    finally:
        library.PQfinish(conn)


def _libpq() -> ctypes.CDLL:
    """The libpq that came with the server, with the types of what the test calls."""
    found = [path for pattern in ("../lib/libpq.so*", "../../../*.libs/libpq-*") for path in binaries().glob(pattern)]
    library = ctypes.CDLL(str(min(found).resolve()))
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[object, list[object]]] = {
        "PQconnectdb": (pointer, [text]),
        "PQexec": (pointer, [pointer, text]),
        "PQerrorMessage": (text, [pointer]),
        "PQstatus": (integer, [pointer]),
        "PQclear": (None, [pointer]),
        "PQfinish": (None, [pointer]),
        "lo_creat": (ctypes.c_uint, [pointer, integer]),
        "lo_open": (integer, [pointer, ctypes.c_uint, integer]),
        "lo_write": (integer, [pointer, integer, text, ctypes.c_size_t]),
        "lo_read": (integer, [pointer, integer, text, ctypes.c_size_t]),
        "lo_lseek": (integer, [pointer, integer, integer, integer]),
        "lo_unlink": (integer, [pointer, ctypes.c_uint]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def arguments(gateway: Gateway) -> dict[str, object]:
    """Of asyncpg.connect and create_pool."""
    return {
        "host": "127.0.0.1", "port": gateway.port, "user": "alice", "database": "shop", "ssl": False,
        "password": gateway.token("alice"),
    }


def test_asyncpg(gateway: Gateway) -> None:
    async def run() -> None:
        db = await asyncpg.connect(**arguments(gateway))
        try:
            assert await db.fetchval("SELECT $1::int + 1", 41) == 42
            statement = await db.prepare("SELECT id, item, price FROM orders WHERE id = ANY($1::int[])")
            assert [r["id"] for r in await statement.fetch([3, 1, 2])] == [1, 2, 3]
            async with db.transaction():
                seen = [r["id"] async for r in db.cursor("SELECT id FROM orders ORDER BY id", prefetch=9)]
                assert seen == list(range(1, 101))
            await db.copy_records_to_table("scratch", records=[(i, str(i)) for i in range(1000)])
            assert await db.fetchval("SELECT sum(id) FROM scratch") == 499500
            await db.executemany("INSERT INTO scratch VALUES ($1, $2)", [(5000 + i, "x") for i in range(100)])
            with pytest.raises(asyncpg.DivisionByZeroError):
                await db.execute("SELECT 1/0")
            await db.execute("DELETE FROM scratch WHERE id >= 0")
            heard: asyncio.Queue[str] = asyncio.Queue()
            await db.add_listener("channel_2", lambda *args: heard.put_nowait(args[3]))
            await db.execute("NOTIFY channel_2, 'hello'")
            assert await asyncio.wait_for(heard.get(), 10) == "hello"
            with pytest.raises(asyncio.TimeoutError):
                await db.execute("SELECT pg_sleep(20)", timeout=0.5)
            assert await db.fetchval("SELECT 7") == 7
        finally:
            await db.close()

    asyncio.run(run())


def test_asyncpg_pool(gateway: Gateway) -> None:
    async def run() -> None:
        async with asyncpg.create_pool(min_size=2, max_size=8, **arguments(gateway)) as pool:
            got = await asyncio.gather(*(pool.fetchval("SELECT $1::int", i) for i in range(100)))
            assert got == list(range(100))

    asyncio.run(run())


def test_a_slow_reader_delays_nobody(gateway: Gateway, postgres: PostgresServer) -> None:
    """One client asks for a gigabyte and does not read; others go on, and the gateway's memory stays small."""
    with contextlib.closing(gateway.connect("shop")) as slow, gateway.connect("shop") as other:
        slow.pgconn.send_query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 1000)")
        slow.pgconn.flush()
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND wait_event = 'ClientWrite'"
        with postgres.connect() as db:
            wait_until(
                lambda: db.execute(blocked, ("SELECT repeat('x', 1000000) FROM%",)).fetchone() != (0,),
                "the server itself has to wait for the slow reader", 30,
            )
        began = time.monotonic()
        for _ in range(200):
            other.execute("SELECT 1")
        assert time.monotonic() - began < 5
        assert sum(p.memory_info().rss for p in gateway.workers()) < 600e6
        slow.close()


def test_many_sessions(gateway: Gateway) -> None:
    async def run() -> None:
        dsn = gateway.dsn("shop")
        connections = await asyncio.gather(*(psycopg.AsyncConnection.connect(dsn) for _ in range(60)))
        await asyncio.gather(*(c.execute("SELECT 1") for c in connections))
        await asyncio.gather(*(c.close() for c in connections))

    asyncio.run(run())


def test_sessions_close_upstream(gateway: Gateway, postgres: PostgresServer, shop: str) -> None:
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{shop}' AND usename = 'app' AND query ~ 'leak'"
    with gateway.connect("shop") as db:
        db.execute("SELECT 'leak'")
    with postgres.connect() as direct:
        wait_until(lambda: direct.execute(query).fetchone() == (0,), "the upstream connection is closed")
