"""Makes the checkpoints of one store, and copies them to a second place. Used by the sinks that keep events.

A sink adds the leaves of what it has written, asks now and then whether checkpoints are due, writes them where the
events are, and says so; nothing counts as sealed before. What is in the store behind the last checkpoint is its
*unsealed tail*; its leaves are here, so that a change meanwhile shows later.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hoopfast.audit.chain import (
    HASH_BYTES,
    LINE_MAX,
    BadCheckpoint,
    Checkpoint,
    active_key,
    after,
    is_signed,
    parse_checkpoint,
    rotation,
)
from hoopfast.audit.events import utc
from hoopfast.audit.keys import KeyRing
from hoopfast.errors import AuditUnavailable

SEAL_MAX = 16_384                       # events under one checkpoint, and a batch at most
SEAL_S = 5.0                            # so long events wait for company: a checkpoint is as large as two of them
_TAIL_BYTES = 1 << 20                   # of the second place, read at a start

log = logging.getLogger(__name__)

Sealed = tuple[Checkpoint, bytes]       # and the leaves under it (none for a rotation)


class Sealer:
    """`head`: the last checkpoint of the store. Raises AuditUnavailable when no key of ours signed it."""

    def __init__(self, ring: KeyRing, head: Checkpoint | None, *, where: object) -> None:
        self.head = head
        self._ring = ring
        self._log = head.log if head else secrets.token_hex(8)
        self._pending: list[tuple[bytes, str]] = []     # leaves, and the place behind them
        self._since = 0.0                               # monotonic, of the oldest of them
        self._recovered = 0                             # of `_pending`, from the start: found, not written by us
        if head is not None:
            _insist_ours(ring, head, where)
        ring.current()
        ring.use(lambda: active_key(self.head) if self.head else "")

    @property
    def pending(self) -> int:
        """Events that are in the store and under no checkpoint yet."""
        return sum(len(leaves) for leaves, _ in self._pending) // HASH_BYTES

    @property
    def sealed_to(self) -> int:
        """The place of the last event under a checkpoint."""
        return self.head.last if self.head else 0

    def add(self, leaves: bytes, *, place: str = "", recovered: bool = False) -> None:
        """These events are in the store, after all that were added before."""
        if leaves:
            if not self._pending:
                self._since = time.monotonic()
            self._pending.append((leaves, place))
            self._recovered += recovered

    @property
    def is_due(self) -> bool:
        """Whether it is time to `make`: for their number, or for how long they wait."""
        return bool(self._pending) and (self.pending >= SEAL_MAX or time.monotonic() - self._since >= SEAL_S)

    def added(self) -> tuple[int, int]:
        """For `back_to`, when a transaction that added is rolled back."""
        return len(self._pending), self._recovered

    def back_to(self, before: tuple[int, int]) -> None:
        count, self._recovered = before
        del self._pending[count:]

    def make(self) -> list[Sealed]:
        """Checkpoints over everything pending. They count once `keep` is called with them."""
        made: list[Sealed] = []
        if not self._pending:
            return made
        head, at = self.head, utc(time.time_ns())
        signer = self._ring.current()
        if head is not None and active_key(head) != signer.id:
            if self._ring.can_sign(active_key(head)):
                head = rotation(head, at=at, old=self._ring.signer(active_key(head)), new=signer.private.public_key())
                made.append((head, b""))
            else:
                log.error("the audit key that was in force is lost; the next one signs without its word",
                          extra={"fields": {"lost": active_key(head), "key": signer.id}})
        for parts, recovered in ((self._pending[: self._recovered], True), (self._pending[self._recovered :], False)):
            for leaves, place in _in_groups(parts):
                head = after(
                    head, log=self._log, at=at, signer=signer, leaves=leaves, recovered=recovered, place=place)
                made.append((head, leaves))
        return made

    def keep(self, made: list[Sealed]) -> None:
        """These are in the store now."""
        if not made:
            return
        self.head = made[-1][0]
        self._pending, self._recovered = [], 0
        if any(checkpoint.kind == "key" for checkpoint, _ in made):
            log.info("the audit trail has a new key", extra={"fields": {"key": self.head.key}})
            self._ring.retire()


def _in_groups(parts: list[tuple[bytes, str]]) -> Iterator[tuple[bytes, str]]:
    """Joined, until there are SEAL_MAX in one: whoever checks them holds a checkpoint's events in memory."""
    group: list[bytes] = []
    count = 0
    for leaves, place in parts:
        group.append(leaves)
        count += len(leaves) // HASH_BYTES
        if count >= SEAL_MAX:
            yield b"".join(group), place
            group, count = [], 0
    if group:
        yield b"".join(group), parts[-1][1]


def _insist_ours(ring: KeyRing, head: Checkpoint, where: object) -> None:
    # Signing on top of a strange chain would vouch for it.
    keys = {known.id: known.key for known in ring.public()}
    if head.key not in keys or not is_signed(head, keys[head.key]):
        raise AuditUnavailable(
            f"checkpoint {head.number} of {where} is not signed by a key of this gateway: put its public key into "
            f"{ring.directory} if the store is moved on purpose, or move the store away to start a new one")


class SecondPlace:
    """Appends checkpoints to a file elsewhere. A failure is said and tried again; it holds up nothing.

    `lines(after, to)`: the store's checkpoints with these numbers, as lines. What is there is never rewritten: if the
    store was cut back or replaced, the file keeps saying so.
    """

    def __init__(self, path: Path, head: Checkpoint | None, lines: Callable[[int, int], Iterable[bytes]]) -> None:
        self._path = path
        self._lines = lines
        self._has = -1                  # the last number that stands there; -1: not looked yet
        self._failing = False
        self._head_at_start = head

    def follow(self, head: Checkpoint | None) -> None:
        """Bring it up to the head, which is on disk."""
        if head is None:
            return
        try:
            if self._has < 0:
                self._has = self._look(self._head_at_start, head.log)
            if self._has < head.number:
                self._append(b"".join(line + b"\n" for line in self._lines(self._has, head.number)))
                self._has = head.number
            self._failing = False
        except OSError as failure:
            if not self._failing:
                log.error("audit checkpoints cannot be written to their second place",
                          extra={"fields": {"path": str(self._path), "error": str(failure)}})
            self._failing = True

    def _look(self, head: Checkpoint | None, chain: str) -> int:
        there = last_checkpoint(self._path, chain)
        if there is None:
            return 0
        number = head.number if head else 0
        same = there.number <= number and there.line() in set(self._lines(there.number - 1, there.number))
        if not same:
            log.error("the audit store was cut back or replaced: its second place has other checkpoints",
                      extra={"fields": {"path": str(self._path), "there": there.number, "store": number}})
        return min(there.number, number)

    def _append(self, data: bytes) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # One write, and a torn line before it ends here: readers skip what is no checkpoint.
            size = os.fstat(fd).st_size
            with self._path.open("rb") as present:
                present.seek(max(0, size - 1))
                whole = present.read(1) in {b"", b"\n"}
            if os.write(fd, data if whole else b"\n" + data) < len(data):
                raise OSError("only a part could be written")
            os.fsync(fd)
        finally:
            os.close(fd)


def last_checkpoint(path: Path, chain: str) -> Checkpoint | None:
    """The last one of this chain in a file of checkpoints; None when there is none near its end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
    except FileNotFoundError:
        return None
    for line in reversed(tail.split(b"\n")):
        if 0 < len(line) <= LINE_MAX:
            try:
                found = parse_checkpoint(line)
            except BadCheckpoint:
                continue
            if found.log == chain:
                return found
    return None
