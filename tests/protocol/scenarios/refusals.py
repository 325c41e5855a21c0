"""Statements that the gateway refuses, beside statements that the server refuses, at every place of a conversation.

Each scenario is written once, for a statement that may not run: through the gateway that is one which a rule denies,
and
for the server one on a table of a schema that is closed to its role. Both are found out by looking at the statement.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.support.dual import READY, Scenario, Step, Until
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close_statement,
    copy_data,
    describe_portal,
    describe_statement,
    execute,
    parse,
    query,
)

DENIED = "GRANT SELECT ON items TO app_md5"
CLOSED = "SELECT * FROM closed.secrets"
INSERT = "INSERT INTO arrivals VALUES ($1, $2)"


def run(sql: str, *values: bytes) -> bytes:
    return parse(sql) + bind(values) + execute()


def place(at: int) -> Callable[[str], tuple[Step, ...]]:
    """A pipeline of four statements of which one may not run, then another."""
    return lambda no: (
        *(run(no) if at == number else run(INSERT, b"%d" % (number + 1), b"x") for number in range(4)), SYNC, READY,
        run(INSERT, b"9", b"y"), SYNC, READY)


WRITTEN: dict[str, Callable[[str], tuple[Step, ...]]] = {
    "simple": lambda no: (query(no), READY, query("SELECT 1"), READY),
    "simple, twice": lambda no: (query(no), READY, query(no), READY, query("SELECT 1"), READY),
    "simple, among others in one write": lambda no: (
        query("SELECT 1"), query(no), query("SELECT 2"), query(no), query("SELECT 3"), Until("Z", 5)),
    "simple, in a transaction": lambda no: (
        query("BEGIN"), READY, query("INSERT INTO arrivals VALUES (1, 'a')"), READY, query(no), READY,
        query("SELECT 1"), READY,
        query("COMMIT"), READY, query("SELECT 2"), READY),
    "simple, in a failed transaction": lambda no: (
        query("BEGIN"), READY, query("SELECT 1/0"), READY, query(no), READY, query("ROLLBACK"), READY),
    "simple, after a savepoint": lambda no: (
        query("BEGIN; SAVEPOINT a"), READY, query(no), READY, query("ROLLBACK TO a"), READY, query("SELECT 1"), READY,
        query("COMMIT"), READY),
    "simple, drops the unnamed statement": lambda no: (
        parse("SELECT 1"), SYNC, READY, query(no), READY, bind(), execute(), SYNC, READY),
    "simple, in the middle of a pipeline": lambda no: (
        run(INSERT, b"1", b"a"), query(no), run(INSERT, b"2", b"b"), SYNC, Until("Z", 2)),
    "extended": lambda no: (parse(no), bind(), describe_portal(), execute(), SYNC, READY, run("SELECT 1"), SYNC, READY),
    "extended, parse alone": lambda no: (parse(no), SYNC, READY),
    "extended, with flush": lambda no: (
        parse(no), FLUSH, Until("E"), bind(), describe_portal(), execute(), SYNC, READY),
    "extended, the client stops at the error": lambda no: (
        parse(no), FLUSH, Until("E"), SYNC, READY, run("SELECT 1"), SYNC, READY),
    "extended, then another error": lambda no: (run(no), run("SELECT nothing"), SYNC, READY),
    "extended, after another error": lambda no: (
        run("SELECT nothing"), run(no), SYNC, READY, run("SELECT 1"), SYNC, READY),
    "extended, with its own sync in a long row": lambda no: (
        b"".join(run(no if at % 3 == 1 else "SELECT 1") + SYNC for at in range(30)), Until("Z", 30)),
    "extended, then a simple query before the sync": lambda no: (
        run(no), query("SELECT 1"), SYNC, READY, query("SELECT 2"), READY),
    "extended, in a transaction": lambda no: (
        run("BEGIN"), run(INSERT, b"1", b"a"), SYNC, READY, run(no), SYNC, READY, run("SELECT 1"), SYNC, READY,
        run("COMMIT"), SYNC, READY),
    "extended, in a transaction of one pipeline": lambda no: (
        run("BEGIN"), run(INSERT, b"1", b"a"), run(no), run("COMMIT"), SYNC, READY, run("ROLLBACK"), SYNC, READY),
    "extended, after a savepoint": lambda no: (
        run("BEGIN"), run("SAVEPOINT a"), SYNC, READY, run(no), SYNC, READY, run("ROLLBACK TO a"), run("SELECT 1"),
        SYNC, READY,
        run("COMMIT"), SYNC, READY),
    "extended, in a failed transaction": lambda no: (
        run("BEGIN"), SYNC, READY, run("SELECT nothing"), SYNC, READY, run(no), SYNC, READY, run("ROLLBACK"), SYNC,
        READY),
    "extended, frees the name": lambda no: (
        parse(no, "s"), SYNC, READY, bind(name="s"), SYNC, READY, parse("SELECT 1", "s"), bind(name="s"), execute(),
        SYNC, READY),
    "extended, leaves the statement that had the name": lambda no: (
        parse("SELECT 1", "s"), SYNC, READY, parse(no, "s"), SYNC, READY, bind(name="s"), execute(), SYNC, READY),
    "extended, drops the unnamed statement": lambda no: (
        parse("SELECT 1"), SYNC, READY, parse(no), SYNC, READY, bind(), execute(), SYNC, READY),
    "extended, described": lambda no: (
        parse(no, "s"), describe_statement("s"), SYNC, READY, describe_statement("s"), SYNC, READY),
    "extended, close behind it is skipped": lambda no: (
        parse("SELECT 1", "s"), SYNC, READY, parse(no), close_statement("s"), SYNC, READY, bind(name="s"), execute(),
        SYNC, READY),
    "extended, behind a suspended portal": lambda no: (
        parse("SELECT id FROM items ORDER BY id"), bind(), execute(limit=3), parse(no, "n"), execute(limit=3), SYNC,
        READY),
    "extended, behind big rows": lambda no: (run("SELECT repeat('x', 100000)"), run(no), run("SELECT 1"), SYNC, READY),
    "extended, behind a copy": lambda no: (
        run("COPY arrivals FROM STDIN"), copy_data(b"1\ta\n"), COPY_DONE, run(no), SYNC, READY),
    "extended, before a copy": lambda no: (
        run(no), run("COPY arrivals FROM STDIN"), copy_data(b"1\ta\n"), COPY_DONE, SYNC, READY, run("SELECT 1"), SYNC,
        READY),
    "extended, no sync before terminate": lambda no: (run(INSERT, b"1", b"a"), run(no)),
    **{f"extended, place {at + 1} of 4": place(at) for at in range(4)},
}
GATEWAY = {name: Scenario(name, written(DENIED), (83,)) for name, written in WRITTEN.items()}
SERVER = {name: Scenario(name, written(CLOSED), (83,)) for name, written in WRITTEN.items()}
