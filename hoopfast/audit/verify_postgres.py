"""Checks the chains of the audit store in PostgreSQL: the same questions as verify asks the embedded store.

What retention has removed is told apart from what somebody removed: it is the beginning of a chain, its checkpoints are
still there, and the time under their signatures is longer ago than the retention. Used by the CLI.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hoopfast._wire import OUTCOME_TEXTS, leaf_hashes
from hoopfast.audit.chain import Checkpoint, Proof, is_signed_by, key_id, parse_checkpoint
from hoopfast.audit.database import PostgresDatabase, connect_reader, first_line
from hoopfast.audit.events import utc
from hoopfast.audit.sinks.sqlite import EVENT_CODES, NAMED, SPAN, USUAL_KIND
from hoopfast.audit.stored import StoredLines
from hoopfast.audit.verify import Neighbours, Report, hashes, line_or_none, proof_of, verify_trail
from hoopfast.errors import GatewayError

_QUERY = "SELECT place, session, seq, at, definition, kind, rows, duration_us, detail FROM events"
_PAGE = 5000
SLACK = timedelta(days=2)               # between the day of a partition and the clock of who sealed


class PostgresTrail:
    """One chain (`log`) of the store; see verify.Trail. `bound`: retention has removed all ids below it."""

    def __init__(self, db: psycopg.Connection[Any], log: int, keep_days: int) -> None:
        self.db = PostgresDatabase(db)
        self._log = log
        self._lines = StoredLines(self.db)
        found = self._one("SELECT coalesce(max(end_id), 0) FROM removed")
        self._bound = int(found[0])
        self._keep_days = keep_days or int(self._one("SELECT keep_days FROM settings")[0])
        self._gone: list[Checkpoint] = []

    def _one(self, query: str, *values: Any) -> Any:
        return self.db.execute(query, values).fetchone()

    # ------------------------------------------------------------ for verify

    def last_number(self) -> int:
        return int(self._one("SELECT coalesce(max(number), 0) FROM checkpoints WHERE log = ?", self._log)[0])

    def checkpoints(self) -> Iterator[tuple[int, bytes, bytes]]:
        at = 0
        query = "SELECT number, line, leaves FROM checkpoints WHERE log = ? AND number > ? ORDER BY number LIMIT 64"
        while found := self.db.execute(query, (self._log, at)).fetchall():
            for number, line, leaves in found:
                yield number, line.encode(), bytes(leaves)
            at = found[-1][0]

    def checkpoint(self, number: int) -> bytes | None:
        found = self._one("SELECT line FROM checkpoints WHERE log = ? AND number = ?", self._log, number)
        return found[0].encode() if found else None

    def is_removed(self, report: Report, c: Checkpoint) -> bool:
        if int(c.place or 0) >= self._bound:
            return False
        self._gone.append(c)
        sealed = datetime.fromisoformat(c.at)
        if self._keep_days and sealed > datetime.now(UTC) - timedelta(days=self._keep_days) + SLACK:
            report.add("removed", c.number, f"events {c.first} to {c.last} are recorded as removed by retention, but "
                       f"were sealed on {c.at}; the retention is {self._keep_days} days")
        elif not self._keep_days:
            report.add("removed", c.number, f"events {c.first} to {c.last} were removed, and there is no retention")
        return True

    def expected(self, c: Checkpoint, leaves: bytes, rows: Sequence[tuple[Any, ...]]) -> bytes:
        """Of a checkpoint that lies across the end of what was removed: the rest of its leaves."""
        low, _ = self._range(c.number)
        if low >= self._bound or not rows:
            return leaves
        return leaves[(rows[0][0] - c.first) * 32 :]

    def rows(self, c: Checkpoint) -> list[tuple[Any, ...]]:
        return self._rows(*self._range(c.number))

    def _rows(self, low: int, high: int) -> list[tuple[Any, ...]]:
        query = f"{_QUERY} WHERE id > ? AND id <= ? AND log = ? ORDER BY id"
        found = self.db.execute(query, (low, high, self._log)).fetchall()
        self._lines.prepare(found)
        return found

    def _range(self, number: int) -> tuple[int, int]:
        """Ids behind the checkpoint before, up to this one's: what somebody puts between is in one of them."""
        places = [0, 0]
        for i, line in enumerate((self.checkpoint(number - 1), self.checkpoint(number))):
            with contextlib.suppress(ValueError):
                places[i] = int(parse_checkpoint(line or b"").place or 0)
        return places[0], places[1]

    def leaves(self, rows: Iterable[tuple[Any, ...]]) -> bytes:
        return leaf_hashes(b"".join(line_or_none(self._lines, row) for row in rows))

    def around(self, c: Checkpoint) -> Neighbours:
        expected, found = set[bytes](), set[bytes]()
        for number in (c.number - 1, c.number + 1):
            stored = self._one("SELECT leaves FROM checkpoints WHERE log = ? AND number = ?", self._log, number)
            if stored:
                expected.update(hashes(bytes(stored[0])))
                found.update(hashes(self.leaves(self._rows(*self._range(number)))))
        return Neighbours(expected, found)

    def name(self, row: tuple[Any, ...]) -> str:
        found = self._one("SELECT session FROM sessions WHERE id = ?", row[1])
        return f"{found[0] if found else '?'}/{row[2]}"

    def is_end(self, c: Checkpoint) -> bool:
        return not self.unsealed(c)

    def unsealed(self, head: Checkpoint | None) -> int:
        place = int(head.place or 0) if head else 0
        return int(self._one("SELECT count(*) FROM events WHERE log = ? AND id > ?", self._log, place)[0])

    def surroundings(self, report: Report, head: Checkpoint | None, begin: int) -> None:
        number = self._one("SELECT min(number) FROM checkpoints WHERE log = ?", self._log)[0]
        if head is not None and number != 1:
            report.add("removed", 0, f"the checkpoints before {number} are missing")
        if begin > 1:
            report.notes.append(f"events of the checkpoints before {begin} were not looked at (--from {begin})")
        if self._gone:
            last = self._gone[-1]
            report.notes.append(
                f"events 1 to {last.last}, sealed until {last.at}, were removed by retention ({self._keep_days} days); "
                f"the {len(self._gone)} checkpoints over them are here and were checked")
            left = self._one("SELECT count(*) FROM events WHERE log = ? AND id < ?", self._log, self._bound)[0]
            if left:
                report.add("inserted", 0, f"{left} events stand where retention has removed everything")

    # ------------------------------------------------------------ what is repeated for searching

    def check_derived(self, report: Report) -> None:
        kinds: set[tuple[int, str, str | None]] = {(i, "statement", text) for i, text in enumerate(OUTCOME_TEXTS)}
        kinds |= {(code, event, None) for event, code in EVENT_CODES.items()}
        if set(self.db.execute("SELECT code, event, outcome FROM kinds")) != kinds:
            report.add("index", 0, "the table of event kinds was changed: all outcomes may be told wrongly")
        self._check_sessions(report)
        self._check_definitions(report)
        self._check_marks(report)
        query = (f"SELECT e.block * {SPAN} FROM (SELECT id / {SPAN} AS block, min(at) AS earliest, max(at) AS latest "
                 "FROM events WHERE log = ? GROUP BY 1) e LEFT JOIN spans s ON s.block = e.block "
                 "WHERE s.block IS NULL OR s.earliest > e.earliest OR s.latest < e.latest")
        for (first,) in self.db.execute(query, (self._log,)):
            report.add("index", 0, f"the times of the events from {first} on are not listed as they are")

    def _check_sessions(self, report: Report) -> None:
        query = ('SELECT id, session, "user", connection, header FROM sessions WHERE log = ? AND id > ? ORDER BY id '
                 f"LIMIT {_PAGE}")
        for _, session, user, connection, header in self._pages(query, self._log):
            known = orjson.loads(header)
            if not _same(user, known.get("user")) or not _same(connection, known.get("connection")):
                report.add("index", 0, f"the session {session} is listed under another user or connection than its "
                           "header says")

    def _check_definitions(self, report: Report) -> None:
        query = f"SELECT id, tables, kinds, columns FROM definitions WHERE id > ? ORDER BY id LIMIT {_PAGE}"
        names = "SELECT definition, what, name FROM definition_names WHERE definition BETWEEN ? AND ?"
        for page in self._by_page(query):
            listed: dict[int, set[tuple[str, str]]] = {}
            for definition, what, name in self.db.execute(names, (page[0][0], page[-1][0])):
                listed.setdefault(definition, set()).add((what, name))
            for id, *lists in page:     # noqa: A001
                wanted = {(what, _key(name)) for what, text in zip(NAMED, lists, strict=True)
                          for name in orjson.loads(text)}
                if wanted != listed.get(id, set()):
                    report.add("index", 0, f"the definition {id} is not listed under its tables, kinds and columns")

    def _check_marks(self, report: Report) -> None:
        query = (f"SELECT id, kind, detail FROM events WHERE id > ? AND kind <> {USUAL_KIND} AND "
                 f"(kind = ? OR strpos(detail, ?) > 0) ORDER BY id LIMIT {_PAGE}")
        gateway = EVENT_CODES["gateway"]
        at = 0
        while page := self.db.execute(query, (at, gateway, '"sqlstate":')).fetchall():
            at = page[-1][0]
            marked = set(self.db.execute(
                "SELECT event, name, value FROM marks WHERE event BETWEEN ? AND ?", (page[0][0], at)))
            for id, kind, detail in page:   # noqa: A001
                known = orjson.loads(detail)
                name, value = ("user", known.get("user")) if kind == gateway else (
                    "sqlstate", (known.get("error") or {}).get("sqlstate"))
                if value and (id, name, _key(value)) not in marked:
                    report.add("index", 0, f"the event {id} is not listed under its {name}")

    def _by_page(self, query: str, *values: Any) -> Iterator[list[Any]]:
        at = 0
        while page := self.db.execute(query, (*values, at)).fetchall():
            at = page[-1][0]
            yield page

    def _pages(self, query: str, *values: Any) -> Iterator[Any]:
        for page in self._by_page(query, *values):
            yield from page


def _key(text: str) -> str:
    return text.replace("\0", "\ufffd")[:500]


def _same(stored: str, told: str | None) -> bool:
    return stored == _key(told or "")


def verify_postgres(
    dsn: str, keys: Iterable[Ed25519PublicKey], *, name: str = "postgres", keep_days: int = 0, begin: int = 1,
    second: Any = None, progress: Callable[[int], None] = lambda _: None,
) -> list[Report]:
    """A report for each chain that one of these keys began, or signed last. Raises GatewayError when it cannot be read.

    `keep_days`: what the configuration says of retention; 0: what the store says.
    """
    trusted = list(keys)
    known = {key_id(key) for key in trusted}
    with _opened(dsn) as db:
        reports, others = [], []
        for log, key in db.execute("SELECT id, key FROM logs ORDER BY id").fetchall():
            trail = PostgresTrail(db, log, keep_days)
            if key not in known and not is_signed_by(trail.checkpoint(trail.last_number()), known):
                others.append(key)
                continue
            report = Report(f"{name}, chain of key {key}")
            reports.append(report)
            try:
                verify_trail(trail, report, trusted, second=second, begin=begin, progress=progress)
            except psycopg.errors.InternalError as failure:
                report.add("changed", 0, f"the store is damaged: {first_line(failure)}")
        if not reports:
            report = Report(name)
            report.add("removed", 0, "the store has no chain that a trusted key began, or signed last")
            reports.append(report)
        if others:
            reports[0].notes.append(f"chains of other gateways were not checked, give their keys: {', '.join(others)}")
    return reports


def prove_postgres(dsn: str, event: str) -> Proof:
    """As verify.prove. Raises GatewayError."""
    with _opened(dsn) as db:
        session, slash, seq = event.partition("/")
        if slash and seq.isdigit():
            where, values = "s.session = %s AND e.seq = %s", (session, int(seq))
        elif event.isdigit():
            where, values = "e.id = %s AND e.id = %s", (int(event), int(event))  # type: ignore[assignment]
        else:
            raise GatewayError(f"{event!r} names no event: give its id, or session/seq")
        found = db.execute(
            f"SELECT e.log, e.place FROM events e JOIN sessions s ON s.id = e.session WHERE {where}", values).fetchone()
        if found is None:
            raise GatewayError(f"the audit store has no event {event}")
        log, place = found
        sealed = db.execute(
            "SELECT line, leaves FROM checkpoints WHERE log = %s AND last >= %s AND first <= %s AND first <= last "
            "ORDER BY last LIMIT 1", (log, place, place)).fetchone()
        row = db.execute(f"{_QUERY} WHERE log = %s AND place = %s AND id >= %s", (log, place, 0)).fetchone()
        lines = StoredLines(PostgresDatabase(db))
        assert row is not None
        return proof_of(event, place, lines.line(row), (sealed[0].encode(), bytes(sealed[1])) if sealed else None)


def checkpoint_lines(dsn: str, keys: Iterable[Ed25519PublicKey], after: int) -> Iterator[bytes]:
    """Of the chains that these keys began, as they are written; without newlines. Raises GatewayError."""
    known = [key_id(key) for key in keys]
    with _opened(dsn) as db:
        query = ("SELECT c.line FROM checkpoints c JOIN logs l ON l.id = c.log WHERE l.key = ANY(%s) AND c.number > %s "
                 "ORDER BY c.log, c.number")
        for (line,) in db.execute(query, (known, after)).fetchall():
            yield line.encode()


@contextlib.contextmanager
def _opened(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        with contextlib.closing(connect_reader(dsn)) as db:
            db.execute("SET statement_timeout = 0")
            # One state of the store, however long it takes and whoever writes meanwhile.
            db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield db
    except psycopg.Error as failure:
        raise GatewayError(f"the audit store in PostgreSQL cannot be read: {first_line(failure)}") from failure


__all__ = ["PostgresTrail", "checkpoint_lines", "prove_postgres", "utc", "verify_postgres"]
