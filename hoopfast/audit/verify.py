"""Checks an audit store against its checkpoints: nothing changed, removed, inserted, reordered or cut off.

Offline: needs the SQLite file, or the directory of the jsonl sink, or a whole export with its checkpoints, and public
keys. `hoopfast audit verify` prints the Report; search by what it calls `kind`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hoopfast._wire import leaf_hashes, merkle_root
from hoopfast.audit.chain import HASH_BYTES, BadCheckpoint, Chain, Checkpoint, Proof, parse_checkpoint, path_to
from hoopfast.audit.derived import check_derived
from hoopfast.audit.stored import QUERY, StoredLines
from hoopfast.errors import GatewayError

PROBLEMS_MAX = 200                      # that are told one by one
EMPTY = b""


class Problem(msgspec.Struct, frozen=True):
    """`kind`: changed | removed | inserted | reordered | cut | checkpoint | index | key. `checkpoint`: 0 for none."""

    kind: str
    checkpoint: int
    text: str


class Report(msgspec.Struct):
    """`problems_total` counts those that are not in `problems` too. `unsealed`: events behind the last checkpoint."""

    source: str
    log: str = ""
    events: int = 0
    checkpoints: int = 0
    sealed_at: str = ""
    head: str = ""
    unsealed: int = 0
    recovered: int = 0
    problems_total: int = 0
    problems: list[Problem] = []
    notes: list[str] = []

    @property
    def good(self) -> bool:
        return self.problems_total == 0

    def add(self, kind: str, checkpoint: int, text: str) -> None:
        self.problems_total += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(kind, checkpoint, text))


class Found(NamedTuple):
    """An event that stands where a checkpoint's should. `name`: what people find it by."""

    place: int
    name: str
    leaf: bytes


# ---------------------------------------------------------------- comparing

class Neighbours(NamedTuple):
    """Leaves around a checkpoint's: those that belong before and behind it, and those that stand there."""

    expected: set[bytes]
    found: set[bytes]


def compare(
    report: Report, c: Checkpoint, expected: bytes, found: Sequence[Found], near: Neighbours, *, is_end: bool,
) -> None:
    """Say what happened to the events of a checkpoint. `expected`: their leaves, which lead to its root."""
    before = report.problems_total
    wanted = hashes(expected)
    first = c.last - len(wanted) + 1
    place_of = {leaf: first + i for i, leaf in enumerate(wanted)}
    here = {one.leaf for one in found}
    missing = {first + i for i, leaf in enumerate(wanted) if leaf not in here and leaf not in near.found}
    for one in found:
        if one.leaf in place_of or one.leaf in near.expected:
            continue
        kind, how = ("changed", "was changed") if one.place in missing else ("inserted", "was inserted")
        missing.discard(one.place)
        report.add(kind, c.number, f"event {one.place} ({one.name}) {how}")
    known = [one for one in found if one.leaf in place_of]
    tail = max((place_of[one.leaf] for one in known), default=c.first - 1)
    cut = sorted(place for place in missing if is_end and place > tail)
    for place in sorted(missing.difference(cut)):
        report.add("removed", c.number, f"event {place} was removed")
    if cut:
        report.add("cut", c.number, f"the end is missing: events {cut[0]} to {cut[-1]}")
    last = 0
    for one in known:
        original = place_of[one.leaf]
        if original < last:
            report.add("reordered", c.number, f"event {original} ({one.name}) stands at {one.place}, out of order")
        last = max(last, original)
    if report.problems_total == before:
        # All of them are there, and not here: what was done before or behind has moved them, or they were moved.
        report.add("reordered", c.number, f"some of events {c.first} to {c.last} stand outside of their places")


def hashes(leaves: bytes) -> list[bytes]:
    return [leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]


# ---------------------------------------------------------------- a store of rows

class Trail(Protocol):
    """A chain and its events, read in one snapshot. Rows begin with an event's place in the chain."""

    def last_number(self) -> int: ...

    def checkpoints(self) -> Iterator[tuple[int, bytes, bytes]]:
        """(number, line, leaves) as they stand there."""

    def checkpoint(self, number: int) -> bytes | None: ...

    def is_removed(self, report: Report, c: Checkpoint) -> bool:
        """Whether retention has removed all its events; says in the report when it should not have."""

    def expected(self, c: Checkpoint, leaves: bytes, rows: Sequence[tuple[Any, ...]]) -> bytes:
        """Of the leaves that lead to its root, those whose events should be here."""

    def rows(self, c: Checkpoint) -> list[tuple[Any, ...]]: ...
    def leaves(self, rows: Iterable[tuple[Any, ...]]) -> bytes: ...

    def around(self, c: Checkpoint) -> Neighbours:
        """Of one checkpoint before and one behind: further away nothing moves by accident."""

    def name(self, row: tuple[Any, ...]) -> str: ...

    def is_end(self, c: Checkpoint) -> bool:
        """Whether nothing stands behind it."""

    def unsealed(self, head: Checkpoint | None) -> int: ...

    def surroundings(self, report: Report, head: Checkpoint | None, begin: int) -> None:
        """What stands, or is missing, where no checkpoint is."""

    def check_derived(self, report: Report) -> None:
        """What is repeated so that it can be searched."""


def line_or_none(lines: StoredLines, row: tuple[Any, ...]) -> bytes:
    try:
        return lines.line(row)
    except (ValueError, TypeError, AttributeError, msgspec.MsgspecError) as failure:
        # Not as any gateway writes it: no line, and a leaf that nothing has.
        return f"unreadable: {failure}\n".replace("\n", " ").encode() + b"\n"


def verify_trail(
    trail: Trail, report: Report, keys: Iterable[Ed25519PublicKey], *, second: Path | None = None, begin: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """As verify_store, of an opened store."""
    chain, last = Chain(keys), trail.last_number()
    for number, line, leaves in trail.checkpoints():
        c = link(report, chain, number, line)
        if c is not None and c.kind == "events" and c.number >= begin and not trail.is_removed(report, c):
            _check_rows(report, trail, c, leaves, is_end=number == last)
            progress(report.events)
    finish(report, chain)
    trail.surroundings(report, chain.head, begin)
    report.unsealed = trail.unsealed(chain.head)
    trail.check_derived(report)
    if second is not None:
        check_second(report, chain, second, trail.checkpoint)


# ---------------------------------------------------------------- the embedded store

class StoreFile:
    """The SQLite file, read only; see Trail. Raises GatewayError when it cannot be read as an audit store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            how = "mode=ro" if os.access(path.parent, os.W_OK) or Path(f"{path}-wal").exists() else "immutable=1"
            self.db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=5, isolation_level=None)
            # One state of the store, however long it takes and whoever writes meanwhile.
            self.db.execute("BEGIN")
            self.db.execute("SELECT number FROM checkpoints LIMIT 1").fetchone()
        except sqlite3.Error as failure:
            raise GatewayError(f"{path} cannot be read as an audit store with checkpoints: {failure}") from failure
        self._lines = StoredLines(self.db)

    def close(self) -> None:
        self.db.close()

    def last_number(self) -> int:
        return int(self.db.execute("SELECT coalesce(max(number), 0) FROM checkpoints").fetchone()[0])

    def checkpoints(self) -> Iterator[tuple[int, bytes, bytes]]:
        for number, line, leaves in self.db.execute("SELECT number, line, leaves FROM checkpoints ORDER BY number"):
            yield number, str(line).encode(), bytes(leaves)

    def checkpoint(self, number: int) -> bytes | None:
        found = self.db.execute("SELECT line FROM checkpoints WHERE number=?", (number,)).fetchone()
        return str(found[0]).encode() if found else None

    def is_removed(self, report: Report, c: Checkpoint) -> bool:  # noqa: ARG002
        return False

    def expected(self, c: Checkpoint, leaves: bytes, rows: Sequence[tuple[Any, ...]]) -> bytes:  # noqa: ARG002
        return leaves

    def rows(self, c: Checkpoint) -> list[tuple[Any, ...]]:
        return self.between(c.first, c.last)

    def between(self, first: int, last: int) -> list[tuple[Any, ...]]:
        return self.db.execute(f"{QUERY} WHERE id BETWEEN ? AND ? ORDER BY id", (first, last)).fetchall()

    def line(self, row: tuple[Any, ...]) -> bytes:
        return line_or_none(self._lines, row)

    def place_of(self, event: str) -> int:
        """The id of an event that is named by it, or as session/seq. Raises GatewayError."""
        session, slash, seq = event.partition("/")
        if slash and seq.isdigit():
            found = self.db.execute(
                "SELECT id FROM events WHERE session=(SELECT id FROM sessions WHERE session=?) AND seq=?",
                (session, int(seq))).fetchone()
            return int(found[0]) if found else 0
        if event.isdigit():
            return int(event)
        raise GatewayError(f"{event!r} names no event: give its id, or session/seq")

    def event(self, event: str) -> bytes:
        """Its line. Raises GatewayError."""
        place = self.place_of(event)
        row = next(iter(self.between(place, place)), None)
        if row is None:
            raise GatewayError(f"{self.path} has no event {event}")
        return self.line(row)

    def leaves(self, rows: Iterable[tuple[Any, ...]]) -> bytes:
        return leaf_hashes(EMPTY.join(map(self.line, rows)))

    def around(self, c: Checkpoint) -> Neighbours:
        expected, found = set[bytes](), set[bytes]()
        query = "SELECT leaves, first, last FROM checkpoints WHERE number IN (?, ?)"
        for leaves, first, last in self.db.execute(query, (c.number - 1, c.number + 1)).fetchall():
            expected.update(hashes(leaves))
            found.update(hashes(self.leaves(self.between(first, last))))
        return Neighbours(expected, found)

    def name(self, row: tuple[Any, ...]) -> str:
        found = self.db.execute("SELECT session FROM sessions WHERE id=?", (row[1],)).fetchone()
        return f"{found[0] if found else '?'}/{row[2]}"

    def count(self, condition: str, *values: int) -> int:
        return int(self.db.execute(f"SELECT count(*) FROM events WHERE {condition}", values).fetchone()[0])

    def is_end(self, c: Checkpoint) -> bool:
        return not self.count("id > ?", c.last)

    def unsealed(self, head: Checkpoint | None) -> int:
        return self.count("id > ?", head.last if head else 0)

    def surroundings(self, report: Report, head: Checkpoint | None, begin: int) -> None:
        before = self.count("id < 1")
        if before:
            report.add("inserted", 0, f"{before} events stand before the first")
        if head is None:
            return
        first = self.db.execute("SELECT min(first) FROM checkpoints WHERE number >= ?", (begin,)).fetchone()[0]
        number = self.db.execute("SELECT min(number) FROM checkpoints").fetchone()[0]
        if number != 1:
            report.add("removed", 0, f"the checkpoints before {number} are missing")
        if begin > 1 and first:
            left = self.count("id BETWEEN 1 AND ?", first - 1)
            report.notes.append(f"events before {first} were not looked at (--from {begin}); {left} of them are here")

    def check_derived(self, report: Report) -> None:
        check_derived(report, self.db)


def verify_store(
    path: Path, keys: Iterable[Ed25519PublicKey], *, second: Path | None = None, begin: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check a SQLite store. `second`: checkpoints that were kept elsewhere. `begin`: the first checkpoint whose events
    are still here (the chain is checked from its start). `progress` hears how many events were checked so far."""
    store, report = StoreFile(path), Report(str(path))
    try:
        verify_trail(store, report, keys, second=second, begin=begin, progress=progress)
    except sqlite3.Error as failure:
        report.add("changed", 0, f"the file is damaged: {failure}")
    finally:
        store.close()
    return report


def link(report: Report, chain: Chain, number: int, line: bytes) -> Checkpoint | None:
    try:
        c = parse_checkpoint(line)
    except BadCheckpoint as failure:
        report.add("checkpoint", number, f"checkpoint {number} is damaged: {failure}")
        return None
    if number not in {0, c.number}:
        report.add("checkpoint", number, f"checkpoint {c.number} stands in the place of {number}")
    for fault in chain.add(c):
        report.add("checkpoint", c.number, f"checkpoint {c.number}: {fault}")
    report.checkpoints += 1
    if c.recovered:
        report.recovered += c.count
    return c


def _check_rows(report: Report, store: Trail, c: Checkpoint, leaves: bytes, *, is_end: bool) -> None:
    rows = store.rows(c)
    report.events += len(rows)
    found = store.leaves(rows)
    if len(found) == c.count * HASH_BYTES and merkle_root(found).hex() == c.root:
        return
    if len(leaves) != c.count * HASH_BYTES or not leaves or merkle_root(leaves).hex() != c.root:
        report.add("changed", c.number, f"events {c.first} to {c.last} are not what was sealed; the list of their "
                   "leaves was changed too, so it cannot be said which")
        return
    expected = store.expected(c, leaves, rows)
    if found == expected:
        return
    there = [Found(row[0], store.name(row), leaf) for row, leaf in zip(rows, hashes(found), strict=True)]
    compare(report, c, expected, there, store.around(c), is_end=is_end or store.is_end(c))


def finish(report: Report, chain: Chain) -> None:
    head = chain.head
    if head is None:
        return
    report.log, report.sealed_at, report.head = head.log, head.at, f"{head.number}:{head.digest()}"
    if chain.unvouched:
        first, last = chain.unvouched
        report.add("key", last.number, f"checkpoints {first.number} to {last.number} are signed by key {last.key} "
                   "(the last of them), and no trusted key vouches for them; give its public key if you trust it")


# ---------------------------------------------------------------- the second place

def check_second(report: Report, chain: Chain, path: Path, of_store: Callable[[int], bytes | None]) -> None:
    """Every checkpoint that was kept elsewhere must stand in the store, letter by letter."""
    head, seen, others = chain.head, 0, 0
    for line in file_lines(path):
        try:
            kept = parse_checkpoint(line)
        except BadCheckpoint:
            others += 1
            continue
        if head is not None and kept.log != head.log:
            others += 1
            continue
        seen += 1
        if of_store(kept.number) == line:
            continue
        if head is None or kept.number > head.number:
            faults = chain.add(kept) if head is not None and kept.number == chain_number(chain) + 1 else []
            why = f" ({'; '.join(faults)})" if faults else ""
            report.add("cut", kept.number, f"checkpoint {kept.number} (events {kept.first} to {kept.last}, {kept.at}) "
                       f"is in {path.name} and not in the store{why}")
        else:
            report.add("checkpoint", kept.number, f"checkpoint {kept.number} in {path.name} is another one than the "
                       "store's: the store was cut back and written again, or replaced")
    if others:
        report.notes.append(f"{path.name} has {others} lines that are not of this store")
    if not seen:
        report.add("checkpoint", 0, f"{path.name} has no checkpoint of this store")
    else:
        report.notes.append(f"{seen} checkpoints in {path.name} were compared")


def chain_number(chain: Chain) -> int:
    return chain.head.number if chain.head else 0


def file_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for line in file:
                if stripped := line.rstrip(b"\n"):
                    yield stripped
    except OSError as failure:
        raise GatewayError(f"{path} cannot be read: {failure.strerror or failure}") from failure


# ---------------------------------------------------------------- single events

def prove(path: Path, event: str) -> Proof:
    """The proof of one event, named by its id or as session/seq. Raises GatewayError when there is none."""
    store = StoreFile(path)
    try:
        place = store.place_of(event)
        row = next(iter(store.between(place, place)), None)
        if row is None:
            raise GatewayError(f"{path} has no event {event}")
        sealed = store.db.execute(
            "SELECT line, leaves FROM checkpoints INDEXED BY checkpoints_last WHERE last >= ? AND first <= ?"
            " AND first <= last ORDER BY last LIMIT 1", (place, place)).fetchone()
        return proof_of(event, place, store.line(row), (sealed[0].encode(), bytes(sealed[1])) if sealed else None)
    except (sqlite3.Error, ValueError, OverflowError) as failure:
        raise GatewayError(f"event {event} of {path} cannot be proven: {failure}") from failure
    finally:
        store.close()


def proof_of(event: str, place: int, line: bytes, sealed: tuple[bytes, bytes] | None) -> Proof:
    """`sealed`: the checkpoint over it, as a line, and its leaves. Raises GatewayError, or ValueError for damage."""
    if sealed is None:
        raise GatewayError(f"event {event} is under no checkpoint yet; wait a few seconds")
    checkpoint, leaves = parse_checkpoint(sealed[0]), sealed[1]
    at = place - checkpoint.first
    is_whole = len(leaves) == checkpoint.count * HASH_BYTES and merkle_root(leaves).hex() == checkpoint.root
    if not is_whole or leaves[at * HASH_BYTES : (at + 1) * HASH_BYTES] != leaf_hashes(line):
        raise GatewayError(f"event {event} is not what checkpoint {checkpoint.number} sealed; run `audit verify`")
    return Proof(line[:-1].decode(), path_to(leaves, at), checkpoint)
