"""The two stores that answer questions, behind one face: the embedded SQLite file, and PostgreSQL. For audit.search.

The questions are written once, in SQL that both understand, with `?` for values. What they do not share is here: how a
connection is made, how an index is insisted on, and how words of a text are looked up.
"""

from __future__ import annotations

import sqlite3
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import psycopg

from hoopfast.errors import GatewayError

SCHEMA = "hoopfast_audit"               # of the PostgreSQL store
DAY_BITS = 36                           # there, an id is the day since 1970 and, below it, a number: 2^36 events a day
WORD_MAX = 200                          # letters of a word that count
READ_TIMEOUT_S = 60
CONNECT_TIMEOUT_S = 10
CONNECTIONS_MAX = 8


class Answer(Protocol):
    """Rows as tuples."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """One connection that reads. `sparse`: between the ids of events are large gaps; `join`: in the order written."""

    sparse: bool
    join: str

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Answer: ...

    def by_index(self, index: str) -> str:
        """FROM item of events, as `e`, that are found by this index."""

    def among(self, column: str, select: str) -> str:
        """The condition that a column is among what a query of one column gives."""

    def with_words(self, value: str) -> tuple[str, list[Any]]:
        """Query (from its columns on) of ids of definitions in whose text every word occurs."""

    def first_id(self, at: int) -> int:
        """No event of this time (ns) or later has a smaller id; 0 when the store does not know."""

    def close(self) -> None: ...


class Store(Protocol):
    """Where AuditReader reads."""

    def reading(self) -> AbstractContextManager[Database]:
        """A connection with one snapshot for all queries of an answer. Any thread. Raises GatewayError."""

    def close(self) -> None:
        """Nobody reads any more."""


class SqliteDatabase:
    """See Database."""

    sparse = False
    join = "CROSS JOIN"

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.execute = db.execute
        self.close = db.close

    def by_index(self, index: str) -> str:
        # SQLite's planner has no numbers to choose by, so every query says what it means.
        return f"events e INDEXED BY {index}"

    def among(self, column: str, select: str) -> str:
        return f"{column} IN ({select})"

    def with_words(self, value: str) -> tuple[str, list[Any]]:
        words = [word for word in value.replace('"', " ").split() if any(c.isalnum() for c in word)]
        if words:
            return "rowid FROM texts WHERE texts MATCH ?", [" ".join(f'"{word}"*' for word in words)]
        # Without a word there is nothing to look up in the index: signs are searched letter by letter.
        return "id FROM definitions WHERE instr(sql, ?) > 0", [value]


    def first_id(self, at: int) -> int:  # noqa: ARG002
        return 0


class SqliteStore:
    """See Store. `path` is the file; it is never written. Each thread keeps a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._all: list[SqliteDatabase] = []

    def close(self) -> None:
        while self._all:
            self._all.pop().close()
        self._local = threading.local()

    @contextmanager
    def reading(self) -> Iterator[Database]:
        db: SqliteDatabase | None = getattr(self._local, "db", None)
        try:
            if db is None:
                db = self._local.db = SqliteDatabase(sqlite3.connect(
                    f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=5, isolation_level=None,
                    check_same_thread=False,
                ))
                self._all.append(db)
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("ROLLBACK")
        except sqlite3.Error as failure:
            raise GatewayError(f"the audit store {self._path} cannot be read: {failure}") from failure


class PostgresDatabase:
    """See Database."""

    sparse = True
    join = "JOIN"

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self.db = db
        self.close = db.close

    def execute(self, query: str, values: Sequence[Any] = (), /) -> psycopg.Cursor[Any]:
        return self.db.execute(query.replace("%", "%%").replace("?", "%s"), values)

    def by_index(self, index: str) -> str:  # noqa: ARG002  (`connect_reader` leaves the planner little else)
        return "events e"

    def among(self, column: str, select: str) -> str:
        if column.startswith("+"):
            # A filter, to be looked up in a hash that is made once; without IS TRUE it would become a join.
            return f"({column} IN ({select})) IS TRUE"
        # For an index. As a subquery it would be joined, and then the whole table is read.
        return f"{column} = ANY (ARRAY ({select}))"

    def first_id(self, at: int) -> int:
        # Of the day before: the clocks of gateway and database may differ.
        return max(0, at // 86_400_000_000_000 - 1) << DAY_BITS

    def with_words(self, value: str) -> tuple[str, list[Any]]:
        words = words_of(value)
        if not words:
            return "id FROM definitions WHERE strpos(sql, ?) > 0", [value]
        # Texts with too many words for an index are searched word by word.
        asked = " & ".join(f"'{word}':*" for word in words)
        long = "".join(" AND strpos(lower(sql), ?) > 0" for _ in words)
        return f"id FROM definitions WHERE words @@ ?::tsquery OR (words IS NULL{long})", [asked, *words]


class PostgresStore:
    """See Store. `dsn` is a libpq connection string; messages never hold it, for it may have a password.

    A connection lives for one answer, and there are few at a time: people ask now and then, and a database has no
    connections to give away.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)

    def close(self) -> None:
        """Nothing stays open."""

    @contextmanager
    def reading(self) -> Iterator[Database]:
        try:
            with self._room, closing(connect_reader(self._dsn)) as db:
                db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield PostgresDatabase(db)
        except psycopg.Error as failure:
            raise GatewayError(f"the audit store in PostgreSQL cannot be read: {first_line(failure)}") from failure


def connect_reader(dsn: str) -> psycopg.Connection[Any]:
    """For questions. Raises psycopg.Error."""
    db = psycopg.connect(
        dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name="hoopfast audit",
        client_encoding="UTF8")
    try:
        # Every question goes by an index, or by id from the newest on; see audit.finding.
        db.execute(f"SET search_path = {SCHEMA}, pg_temp; SET statement_timeout = '{READ_TIMEOUT_S}s';"
                   "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;"
                   "SET max_parallel_workers_per_gather = 0")
    except BaseException:
        db.close()
        raise
    return db


def first_line(failure: BaseException) -> str:
    """What libpq says, without the lines that only a terminal wants."""
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0]


def words_of(text: str) -> list[str]:
    """Runs of letters, digits and `_`, in small letters without accents: as the embedded store's index has them."""
    plain = text.lower()
    if not plain.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    runs = groupby(plain, lambda c: c.isalnum() or c == "_")
    return list(dict.fromkeys("".join(part)[:WORD_MAX] for is_word, part in runs if is_word))
