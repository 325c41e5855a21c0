"""The audit store in PostgreSQL, for many gateways and long keeping; searched as the embedded one is (audit.search).

Events go by COPY into partitions of their day of arrival (sinks.postgres_schema). Each gateway has a chain of its own
there, named by its audit keys. How far it is stands in `logs`, written in the transaction that holds the events: what
the shipper sends again after a crash, or after a COMMIT whose answer was lost, is recognised and dropped, so events
are here exactly once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import psycopg

from hoopfast._wire import leaf_hashes, store_rows
from hoopfast.audit.builder import Batch, Item, as_batch, as_event
from hoopfast.audit.chain import parse_checkpoint
from hoopfast.audit.database import CONNECT_TIMEOUT_S, DAY_BITS, SCHEMA, PostgresDatabase, first_line
from hoopfast.audit.events import Statement, encode
from hoopfast.audit.keys import KeyRing
from hoopfast.audit.outlet import DeadLetters
from hoopfast.audit.sealing import Sealed, Sealer, SecondPlace
from hoopfast.audit.sinks import postgres_schema
from hoopfast.audit.sinks.postgres_rows import COLUMNS, COPY_EVENTS, COPY_MARKS, DAY_S, Rows, spans_of
from hoopfast.audit.stored import QUERY, StoredLines
from hoopfast.errors import AuditUnavailable

CACHED_MAX = 50_000                     # ids kept in memory, of sessions and of definitions
STATEMENT_TIMEOUT_S = 60
MAINTAIN_S = 3600.0
MAINTAIN_RETRY_S = 60.0
SURE_AFTER = 100                        # batches without a repetition, when the shipper does not know where it was
_PAGE = 4096
_REFUSED = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded)
_SPAN = """INSERT INTO spans SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])
 ON CONFLICT (block) DO UPDATE SET earliest = least(spans.earliest, excluded.earliest),
 latest = greatest(spans.latest, excluded.latest)"""
# Ids are given under a lock that is held until the commit: nobody who follows by id can miss an event.
_IDS = f"""UPDATE clock SET last_id = greatest(last_id,
 floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint << {DAY_BITS}) + %s RETURNING last_id"""

log = logging.getLogger(__name__)


class Doubt(NamedTuple):
    """A COMMIT without an answer: where the log stands if it was done, what was sealed, and what was in it."""

    place: int
    last_id: int
    made: list[Sealed]
    before: tuple[int, int]             # of the sealer, if it was not
    batch: Sequence[Item]


class PostgresSink:
    """See sinks.base.Sink. Connects at the first write, and anew after every failure; all of it may raise.

    `dsn`: a libpq connection string. `keep_days` and `unit` are for a schema that has to be made; a DBA may have made
    it already (`hoopfast audit postgres`), with a role for the gateway that can only add.
    """

    def __init__(
        self, dsn: str, *, name: str = "postgres", keys: KeyRing, checkpoints: Path | None = None,
        keep_days: int = postgres_schema.FOREVER, unit: Literal["day", "month"] = "day",
        letters: DeadLetters | None = None,
    ) -> None:
        self.name = name
        self._dsn = dsn
        self._ring = keys
        self._second_path = checkpoints
        self._letters = letters
        self._keep_days, self._unit = keep_days, unit
        self._db: psycopg.Connection[Any] | None = None
        self._mark: dict[str, Any] = {}
        self._log = 0
        self._place = self._last_id = -1    # of the log, as far as is known for certain; -1: nothing is
        self._sealer: Sealer | None = None
        self._second: SecondPlace | None = None
        self._doubt: Doubt | None = None
        self._repeated: set[tuple[str, int]] = set()
        self._unsure = 0                    # batches that are still looked up one event after the other
        self._rows = Rows()
        self._showing = True
        self._next_maintain = 0.0
        # Until a chain is read, nobody may throw away the key that it was last signed with.
        keys.use(lambda: "" if self._sealer else str(self._mark.get("key", "")))

    # ------------------------------------------------------------ for the shipper

    def restore(self, mark: dict[str, Any]) -> None:
        """Where the shipper goes on: what the store has beyond it comes again."""
        self._mark = dict(mark)

    def write(self, events: Sequence[Item]) -> None:
        db = self._ready()
        batch = self._fresh(db, as_batch(events))
        assert self._sealer is not None
        if batch and self._sealer.pending and int(time.time()) // DAY_S != self._last_id >> DAY_BITS:
            # Retention removes whole days: a checkpoint should not lie across.
            self._transaction(db, lambda: self._seal(db), ())
        if batch:
            self._write(batch)
        if self._rows.cached > CACHED_MAX:
            self._rows.forget()

    def _write(self, batch: Batch) -> None:
        db = self._ready()
        try:
            self._transaction(db, lambda: self._take(db, batch), batch)
        except AuditUnavailable as failure:
            # Data that PostgreSQL takes from nobody must not hold up the rest: it is narrowed down to one event.
            if self._letters is None or not isinstance(failure.__cause__, _REFUSED):
                raise
            if len(batch) == 1:
                self._letters.add([line[:-1] for line in batch.lines()], str(failure))
                return
            half = len(batch) // 2
            self._write(Batch(batch[:half]))
            self._write(Batch(batch[half:]))

    def sync(self) -> dict[str, Any]:
        db = self._ready()
        assert self._sealer is not None
        if self._sealer.is_due:
            self._transaction(db, lambda: self._seal(db), ())
        if self._second is not None:
            self._second.follow(self._sealer.head)
        self._mark = {"place": self._place, "id": self._last_id, "key": self._ring.current().id}
        return dict(self._mark)

    def kept(self, mark: dict[str, Any]) -> None:  # noqa: ARG002  (the clock; marks are in the store)
        if self._sealer is not None and self._sealer.is_due:
            self.sync()
        if self._db is not None and time.monotonic() >= self._next_maintain:
            self._maintain(self._db)

    def running(self, events: Sequence[Statement]) -> None:
        if not events and not self._showing:
            return
        db = self._ready()
        rows = [(self._log, e.session, e.seq, encode(e).decode()) for e in events]
        try:
            with db.transaction(), db.cursor() as cursor:
                cursor.execute("DELETE FROM running WHERE log = %s", (self._log,))
                if rows:
                    cursor.executemany("INSERT INTO running VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", rows)
        except psycopg.Error:
            self._disconnect()
            raise
        self._showing = bool(events)

    def close(self) -> None:
        try:
            if self._db is not None and self._sealer is not None and self._sealer.pending:
                db = self._db
                self._transaction(db, lambda: self._seal(db), ())
                if self._second is not None:
                    self._second.follow(self._sealer.head)
        finally:
            self._disconnect()

    # ------------------------------------------------------------ connecting

    def _ready(self) -> psycopg.Connection[Any]:
        if self._db is not None and not self._db.closed:
            return self._db
        self._disconnect()
        try:
            db = psycopg.connect(
                self._dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name="hoopfast shipper",
                client_encoding="UTF8", keepalives_idle=30, tcp_user_timeout=STATEMENT_TIMEOUT_S * 1000)
        except psycopg.Error as failure:
            raise AuditUnavailable(f"the audit store cannot be reached: {first_line(failure)}") from failure
        try:
            self._begin(db)
        except psycopg.Error as failure:
            db.close()
            raise AuditUnavailable(f"the audit store cannot be used: {first_line(failure)}") from failure
        except BaseException:
            db.close()
            raise
        self._db = db
        return db

    def _begin(self, db: psycopg.Connection[Any]) -> None:
        db.execute(
            f"SET search_path = {SCHEMA}, pg_temp; SET statement_timeout = '{STATEMENT_TIMEOUT_S}s';"
            f"SET lock_timeout = '{STATEMENT_TIMEOUT_S // 2}s';"
            f"SET idle_in_transaction_session_timeout = '{STATEMENT_TIMEOUT_S}s'; SET jit = off")
        self._check(db)
        self._maintain(db)
        with db.transaction():
            # Waits for whatever an earlier connection of ours still has under way there.
            self._log, place, last_id = self._own_log(db)
        self._settle(db, place, last_id)

    def _check(self, db: psycopg.Connection[Any]) -> None:
        encoding = db.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise AuditUnavailable(f"the database of the audit store has encoding {encoding}; it must be UTF8")
        if db.execute("SELECT to_regclass('settings')").fetchone() == (None,):
            may = db.execute("SELECT has_database_privilege(current_database(), 'CREATE')").fetchone()
            if may != (True,):
                raise AuditUnavailable(
                    f"the database has no schema {SCHEMA}, and the gateway's role may not make it: let the DBA apply "
                    "what `hoopfast audit postgres --writer ROLE` prints")
            with db.transaction():
                db.execute("SELECT pg_advisory_xact_lock(hashtext('hoopfast_audit'))")
                if db.execute("SELECT to_regclass('settings')").fetchone() == (None,):
                    db.execute(postgres_schema.tables(self._keep_days, self._unit))
            db.execute(f"SET search_path = {SCHEMA}, pg_temp")
        (version,) = db.execute("SELECT version FROM settings").fetchone() or (0,)
        if version != postgres_schema.VERSION:
            raise AuditUnavailable(
                f"the audit store has version {version}, this hoopfast needs {postgres_schema.VERSION}: rename the "
                f"schema {SCHEMA} to start a new one")

    def _own_log(self, db: psycopg.Connection[Any]) -> tuple[int, int, int]:
        """(id, place, last id) of the chain that one of our keys began; locked."""
        current = self._ring.current().id
        known = [key.id for key in self._ring.public()]
        query = "SELECT id, place, last_id FROM logs WHERE key = ANY(%s) ORDER BY id LIMIT 1 FOR UPDATE"
        found = db.execute(query, (known,)).fetchone()
        if found is None:
            made = "INSERT INTO logs (key) VALUES (%s) RETURNING id, place, last_id"
            found = db.execute(made, (current,)).fetchone()
        assert found is not None
        return found[0], found[1], found[2]

    def _settle(self, db: psycopg.Connection[Any], place: int, last_id: int) -> None:
        """Compare what the store has with what we know of it."""
        doubt, self._doubt = self._doubt, None
        if self._sealer is not None and doubt is not None and place == doubt.place and (
                doubt.batch or self._has_checkpoint(db, doubt.made)):
            self._sealer.keep(doubt.made)
            self._repeated.update((event.session, event.seq) for event in map(as_event, doubt.batch))
        elif self._sealer is not None and place == self._place:
            if doubt is not None:
                self._sealer.back_to(doubt.before)
        elif self._place >= 0:
            raise AuditUnavailable(
                f"another gateway writes to the audit store with the same keys (place {place}, ours is {self._place}): "
                "each needs a state directory of its own; restart this one when the other has stopped")
        else:
            self._first(db, place, last_id)
        self._place, self._last_id = place, last_id

    def _has_checkpoint(self, db: psycopg.Connection[Any], made: list[Sealed]) -> bool:
        query = "SELECT 1 FROM checkpoints WHERE log = %s AND number = %s"
        return bool(made) and db.execute(query, (self._log, made[-1][0].number)).fetchone() is not None

    def _first(self, db: psycopg.Connection[Any], place: int, last_id: int) -> None:
        """At a start: the chain so far, what a crash left unsealed, and what will come again."""
        found = db.execute(
            "SELECT line FROM checkpoints WHERE log = %s ORDER BY number DESC LIMIT 1", (self._log,)).fetchone()
        try:
            head = parse_checkpoint(found[0].encode()) if found else None
        except ValueError as failure:
            raise AuditUnavailable(f"the last checkpoint in the audit store is damaged: {failure}") from failure
        sealer = Sealer(self._ring, head, where="the audit store in PostgreSQL")
        self._seal_rest(db, sealer, place)
        if self._mark.get("place") is None:
            self._unsure = SURE_AFTER if place else 0
        elif place > int(self._mark["place"]):
            self._repeated = set(db.execute(
                "SELECT s.session, e.seq FROM events e JOIN sessions s ON s.id = e.session WHERE e.id > %s AND e.id <= "
                "%s AND e.log = %s", (int(self._mark["id"]), last_id, self._log)))
        self._sealer = sealer
        if self._second_path:
            self._second = SecondPlace(self._second_path, head, self._checkpoint_lines)

    def _seal_rest(self, db: psycopg.Connection[Any], sealer: Sealer, place: int) -> None:
        lines, at = StoredLines(PostgresDatabase(db)), int(sealer.head.place or 0) if sealer.head else 0
        count = sealer.sealed_to
        try:
            while rows := db.execute(
                    f"{QUERY} WHERE id > %s AND log = %s ORDER BY id LIMIT {_PAGE}", (at, self._log)).fetchall():
                lines.prepare(rows)
                at, count = rows[-1][0], count + len(rows)
                sealer.add(leaf_hashes(lines.lines(rows)), place=str(at), recovered=True)
            if count != place:
                raise ValueError(f"{place - count} of them are missing")
        except (ValueError, msgspec.MsgspecError) as failure:
            raise AuditUnavailable(
                f"the audit store has events behind its last checkpoint that cannot be sealed: {failure}; keep it as "
                f"it is, and rename the schema {SCHEMA} to start a new one") from failure

    def _maintain(self, db: psycopg.Connection[Any]) -> None:
        """Partitions ahead, and retention. When it fails there is a week to mend it, and the log says so."""
        try:
            found = db.execute("SELECT made, dropped FROM maintain()").fetchone()
            self._next_maintain = time.monotonic() + MAINTAIN_S
            if found and found[1]:
                log.info("retention has removed partitions of the audit store", extra={"fields": {"count": found[1]}})
        except psycopg.Error as failure:
            if db.closed:
                raise
            self._next_maintain = time.monotonic() + MAINTAIN_RETRY_S
            log.error("the audit store could not be maintained", extra={"fields": {"error": first_line(failure)}})

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        self._rows.forget()
        if db is not None:
            db.close()

    # ------------------------------------------------------------ writing

    def _fresh(self, db: psycopg.Connection[Any], batch: Batch) -> Batch:
        """Without what is here already."""
        if self._repeated:
            names = [(event.session, event.seq) for event in map(as_event, batch)]
            left = Batch(item for item, name in zip(batch, names, strict=True) if name not in self._repeated)
            self._repeated.difference_update(names)
            return left
        if not self._unsure:
            return batch
        events = list(map(as_event, batch))
        found = db.execute(
            "SELECT u.n FROM unnest(%s::text[], %s::bigint[]) WITH ORDINALITY u (session, seq, n) WHERE EXISTS ("
            "SELECT FROM sessions s JOIN events e ON e.session = s.id AND e.seq = u.seq"
            " WHERE s.session = u.session AND s.log = %s)",
            ([event.session for event in events], [event.seq for event in events], self._log)).fetchall()
        self._unsure = SURE_AFTER if found else self._unsure - 1
        here = {n - 1 for (n,) in found}
        return Batch(item for i, item in enumerate(batch) if i not in here)

    def _transaction(
        self, db: psycopg.Connection[Any], work: Callable[[], list[Sealed]], batch: Sequence[Item],
    ) -> None:
        assert self._sealer is not None
        before, known = self._sealer.added(), (self._place, self._last_id)
        try:
            db.execute("BEGIN")
            made = work()
        except BaseException as failure:
            # Without a COMMIT nothing of it can be there; the connection goes, and what was learned on it.
            self._place, self._last_id = known
            self._sealer.back_to(before)
            self._disconnect()
            if isinstance(failure, psycopg.Error):
                raise AuditUnavailable(f"the audit store: {first_line(failure)}") from failure
            raise
        try:
            db.execute("COMMIT")
        except BaseException as failure:
            self._doubt = Doubt(self._place, self._last_id, made, before, batch)
            self._place, self._last_id = known
            self._disconnect()
            raise AuditUnavailable(f"the audit store may not have committed: {failure}") from failure
        self._sealer.keep(made)

    def _take(self, db: psycopg.Connection[Any], batch: Batch) -> list[Sealed]:
        assert self._sealer is not None
        self._advance(db, len(batch))
        rows = self._rows
        rows.begin()
        values = store_rows(list(batch), rows.session_ids, rows.definition_ids, rows)
        rows.resolve(db, values, self._log)
        (last_id,) = db.execute(_IDS, (len(batch),)).fetchone() or (0,)
        first_id, first_place = last_id - len(batch) + 1, self._place - len(batch) + 1
        with db.cursor() as cursor:
            with cursor.copy(COPY_EVENTS) as copy:
                copy.write(rows.lines(values, first_id, first_place, self._log))
            if marks := rows.marks(values, first_id):
                with cursor.copy(COPY_MARKS) as copy:
                    copy.write(marks)
        db.execute(_SPAN, spans_of(first_id, values[2::COLUMNS]))
        db.execute("UPDATE logs SET last_id = %s WHERE id = %s", (last_id, self._log))
        self._last_id = last_id
        leaves = self._as_stored(db, first_id) if rows.is_odd(values) else batch.leaves()
        self._sealer.add(leaves, place=str(last_id))
        return self._seal(db) if self._sealer.is_due else []

    def _advance(self, db: psycopg.Connection[Any], count: int) -> None:
        """Only on top of what we know: who else writes here would be overtaken otherwise."""
        moved = db.execute(
            "UPDATE logs SET place = place + %s WHERE id = %s AND place = %s RETURNING place",
            (count, self._log, self._place)).fetchone()
        if moved is None:
            raise AuditUnavailable("another gateway writes to the audit store with the same keys: each needs a state "
                                   "directory of its own")
        self._place = moved[0]

    def _as_stored(self, db: psycopg.Connection[Any], first_id: int) -> bytes:
        """Leaves of what stands there from this id on: for sessions of which the store knows more than their events."""
        found = db.execute(f"{QUERY} WHERE id >= %s AND log = %s ORDER BY id", (first_id, self._log)).fetchall()
        lines = StoredLines(PostgresDatabase(db))
        lines.prepare(found)
        return leaf_hashes(lines.lines(found))

    def _seal(self, db: psycopg.Connection[Any]) -> list[Sealed]:
        assert self._sealer is not None
        # A connection that comes after this one waits here until it is known whether this was committed.
        db.execute("SELECT FROM logs WHERE id = %s FOR UPDATE", (self._log,))
        made = self._sealer.make()
        with db.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO checkpoints VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [(self._log, c.number, c.first, c.last, int(c.place or 0), c.line().decode(), leaves)
                 for c, leaves in made])
        return made

    def _checkpoint_lines(self, after: int, to: int) -> Iterator[bytes]:
        query = "SELECT line FROM checkpoints WHERE log = %s AND number > %s AND number <= %s ORDER BY number"
        for (line,) in self._ready().execute(query, (self._log, after, to)).fetchall():
            yield line.encode()

