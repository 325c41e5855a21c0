"""Checks JSON lines against checkpoints: the files of the jsonl sink, or a whole export of the embedded store.

Files of the sink have no list of leaves beside them, so what was changed is told to within a checkpoint, a few seconds
of events; what was removed or inserted is counted, because the next checkpoint fits again behind it. Used by
`hoopfast audit verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hoopfast._wire import leaf_hashes, merkle_root
from hoopfast.audit.chain import HASH_BYTES, Chain, Checkpoint, is_signed_by, key_id
from hoopfast.audit.sinks.jsonl_seal import CHECKPOINTS, START, Spot, event_files, file_place, parse_spot, read_lines
from hoopfast.audit.verify import Report, check_second, file_lines, finish, link
from hoopfast.errors import GatewayError

SHIFT_MAX = 64                          # events more or less than there should be, that are looked for
_ID = b'{"id":'


def verify_directory(
    directory: Path, keys: Iterable[Ed25519PublicKey], *, second: Path | None = None, begin: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check what the jsonl sink wrote; arguments as of verify.verify_store. GatewayError: it cannot be read."""
    report, chain = Report(str(directory)), Chain(keys)
    path = directory / CHECKPOINTS
    if not path.exists():
        raise GatewayError(f"{directory} has no {CHECKPOINTS}: it is not a directory of the jsonl sink")
    known: dict[int, bytes] = {}
    sealed: list[Checkpoint] = []
    start = START
    for line in file_lines(path):
        c = link(report, chain, 0, line)
        if c is None:
            continue
        if second is not None:
            known[c.number] = line
        if c.number < begin:
            start = parse_spot(c.place)
        elif c.kind == "events":
            sealed.append(c)
    finish(report, chain)
    if sealed and sealed[0].number == 1 and begin > 1:
        report.add("checkpoint", 0, f"there is no checkpoint before {begin}")
    _missing_files(report, directory, start, sealed, begin)
    _Lines(report, directory, start).check(sealed, progress)
    if second is not None:
        check_second(report, chain, second, known.get)
    return report


def _missing_files(report: Report, directory: Path, start: Spot, sealed: list[Checkpoint], begin: int) -> None:
    there = {file_place(path) for path in event_files(directory)}
    wanted = {parse_spot(c.place)[:2] for c in sealed} - {START[:2]}
    if begin > 1 and start != START:
        report.notes.append(f"what is before {start} was not looked at (--from {begin})")
    for day, part in sorted(wanted - there):
        last = max(c.number for c in sealed if parse_spot(c.place)[:2] == (day, part))
        name = f"events-{day}.{part}.jsonl" if part else f"events-{day}.jsonl"
        report.add("removed", last, f"{name} is missing; if it was removed on purpose, check --from {last + 1} on")


class _Lines:
    """Goes through the lines and the checkpoints side by side."""

    def __init__(self, report: Report, directory: Path, start: Spot) -> None:
        self._report = report
        self._source = read_lines(directory, start)
        self._leaves = b""              # read and not used
        self._ended = False

    def check(self, sealed: list[Checkpoint], progress: Callable[[int], None]) -> None:
        report = self._report
        for i, c in enumerate(sealed):
            self._need(c.count)
            taken = self._leaves[: c.count * HASH_BYTES]
            if not taken:
                last = sealed[-1]
                report.add("cut", c.number, f"the end is missing: events {c.first} to {last.last}")
                return
            if len(taken) == c.count * HASH_BYTES and merkle_root(taken).hex() == c.root:
                self._leaves = self._leaves[len(taken) :]
                report.events += c.count
            else:
                self._tell(c, sealed[i + 1] if i + 1 < len(sealed) else None)
            progress(report.events)
        report.unsealed = len(self._leaves) // HASH_BYTES
        self._leaves = b""
        while self._more():
            report.unsealed += len(self._leaves) // HASH_BYTES
            self._leaves = b""

    def _tell(self, c: Checkpoint, following: Checkpoint | None) -> None:
        """What is wrong with these events, and how many lines are theirs: the next checkpoint fits behind them."""
        shift = self._shift(c, following)
        where = f"events {c.first} to {c.last} (checkpoint {c.number}, {c.at})"
        if shift is None:
            self._report.add("changed", c.number, f"{where} are not what was sealed, nor is what follows")
            shift = 0
        elif shift < 0:
            kind = "cut" if following is None and self._ended else "removed"
            self._report.add(kind, c.number, f"{-shift} of {where} missing")
        elif shift > 0:
            self._report.add("inserted", c.number, f"{shift} events were inserted among {where}")
        else:
            self._report.add("changed", c.number, f"of {where}, some were changed or their order was")
        used = (c.count + shift) * HASH_BYTES
        self._report.events += min(used, len(self._leaves)) // HASH_BYTES
        self._leaves = self._leaves[used:]

    def _shift(self, c: Checkpoint, following: Checkpoint | None) -> int | None:
        if following is None:
            self._need(c.count + 1)
            there = len(self._leaves) // HASH_BYTES
            return there - c.count if there < c.count else 0
        self._need(c.count + SHIFT_MAX + following.count)
        for distance in range(SHIFT_MAX + 1):
            for shift in {-distance, distance}:
                begin = (c.count + shift) * HASH_BYTES
                next_ones = self._leaves[begin : begin + following.count * HASH_BYTES] if begin >= 0 else b""
                if len(next_ones) == following.count * HASH_BYTES and merkle_root(next_ones).hex() == following.root:
                    return shift
        return None

    def _need(self, count: int) -> None:
        while len(self._leaves) < count * HASH_BYTES and self._more():
            pass

    def _more(self) -> bool:
        try:
            found = next(self._source, None)
        except (OSError, zstandard.ZstdError) as failure:
            self._report.add("changed", 0, f"a file cannot be read: {failure}")
            found = None
        if found is None:
            self._ended = True
            return False
        self._leaves += leaf_hashes(found[1])
        return True


# ---------------------------------------------------------------- exports

def verify_export(
    path: Path, checkpoints: Path, keys: Iterable[Ed25519PublicKey], *, begin: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check `hoopfast audit export` of a whole store (JSON lines) against `audit checkpoints export`."""
    report, chain = Report(str(path)), Chain(keys)
    events = _exported(path)
    waiting = next(events, None)
    behind = 0
    for line in file_lines(checkpoints):
        c = link(report, chain, 0, line)
        if c is None or c.kind != "events" or c.number < begin:
            continue
        taken: list[bytes] = []
        numbers: list[int] = []
        # In the embedded store an event's id is its place in the chain; in PostgreSQL checkpoints say up to which id.
        sparse = c.place.isdigit()
        first, last = (behind + 1, int(c.place)) if sparse else (c.first, c.last)
        behind = last
        while waiting is not None and waiting[0] <= last:
            if waiting[0] >= first:
                numbers.append(waiting[0])
                taken.append(waiting[1])
            elif begin == 1:
                report.add("inserted", c.number, f"event {waiting[0]} stands out of order, or twice")
            waiting = next(events, None)
        report.events += len(taken)
        progress(report.events)
        if len(taken) == c.count and merkle_root(leaf_hashes(b"".join(taken))).hex() == c.root:
            continue
        if sparse and len(numbers) != c.count:
            kind = "removed" if len(numbers) < c.count else "inserted"
            report.add(kind, c.number, f"events {c.first} to {c.last} (checkpoint {c.number}, {c.at}): the export has "
                       f"{len(numbers)} of them, not {c.count}")
            continue
        _tell_export(report, c, list(range(c.first, c.last + 1)) if sparse else numbers, is_end=waiting is None)
    while waiting is not None:
        report.unsealed += 1
        waiting = next(events, None)
    finish(report, chain)
    return report


def _tell_export(report: Report, c: Checkpoint, numbers: list[int], *, is_end: bool) -> None:
    missing = sorted(set(range(c.first, c.last + 1)) - set(numbers))
    tail = numbers[-1] if numbers else c.first - 1
    if is_end and missing and missing[0] > tail:
        report.add("cut", c.number, f"the end is missing: events {missing[0]} to {c.last}")
    elif missing:
        some = ", ".join(map(str, missing[:10])) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        report.add("removed", c.number, f"missing events: {some}")
    elif len(numbers) != c.count or numbers != sorted(numbers):
        report.add("reordered", c.number, f"events {c.first} to {c.last} are out of order, or some stand twice")
    else:
        where = f"events {c.first} to {c.last} (checkpoint {c.number}, {c.at})"
        report.add("changed", c.number, f"of {where}, some were changed")


def _exported(path: Path) -> Iterator[tuple[int, bytes]]:
    """(id, line as it was hashed): an export puts the id in front, as the first field."""
    with path.open("rb") as file:
        for line in file:
            number, comma, rest = line.removeprefix(_ID).partition(b",")
            if not line.startswith(_ID) or not comma or not number.isdigit():
                raise GatewayError(f"{path} is no export of `hoopfast audit export` (JSON lines, each with its id)")
            yield int(number), b"{" + rest.rstrip(b"\n") + b"\n"


# ---------------------------------------------------------------- objects

def verify_objects(
    directory: Path, keys: Iterable[Ed25519PublicKey], *, second: Path | None = None, begin: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check a copy of what the s3 sink wrote, `events/` and `checkpoints/`: the chains that a trusted key began, or
    signed last."""
    trusted = list(keys)
    report = Report(str(directory))
    chains = sorted(path.name for path in (directory / "checkpoints").iterdir() if path.is_dir())
    known = {key_id(key) for key in trusted}
    home = directory / "checkpoints"
    own = [name for name in chains if name in known or is_signed_by(_last_line(home / name), known)]
    for name in own:
        _check_objects(report, directory, name, Chain(trusted), second, begin, progress)
    if not own:
        report.add("removed", 0, "there is no chain that a trusted key began, or signed last")
    if others := sorted(set(chains) - set(own)):
        report.notes.append(f"chains of other gateways were not checked, give their keys: {', '.join(others)}")
    return report


def _last_line(directory: Path) -> bytes | None:
    last = max(directory.glob("*.json"), default=None)
    return last.read_bytes().rstrip(b"\n") if last is not None else None


def _check_objects(
    report: Report, directory: Path, name: str, chain: Chain, second: Path | None, begin: int,
    progress: Callable[[int], None],
) -> None:
    lines: dict[int, bytes] = {}
    home = directory / "events" / name
    there = {int(path.name[:12]): path for path in home.glob("*.jsonl.zst")}
    leaves, known = b"", 0              # of objects behind the last checkpoint; the number of the last one
    for path in sorted((directory / "checkpoints" / name).glob("*.json")):
        line = path.read_bytes().rstrip(b"\n")
        c = link(report, chain, int(path.name[:12]), line)
        if c is None:
            continue
        lines[c.number] = line
        if c.kind != "events":
            continue
        for number in range(known + 1, int(c.place or 0) + 1):
            known = number
            if c.number >= begin:
                leaves += _leaves_of_object(report, c, there.get(number), number)
        if c.number < begin:
            continue
        own, leaves = leaves[: c.count * HASH_BYTES], leaves[c.count * HASH_BYTES :]
        report.events += len(own) // HASH_BYTES
        progress(report.events)
        if len(own) < c.count * HASH_BYTES:
            leaves = b""                # the object was told to be missing or damaged already
        elif merkle_root(own).hex() != c.root:
            report.add("changed", c.number, f"events {c.first} to {c.last} (object {c.place}) are not what was sealed")
    report.unsealed += sum(1 for number in there if number > known)
    finish(report, chain)
    if second is not None:
        check_second(report, chain, second, lines.get)


def _leaves_of_object(report: Report, c: Checkpoint, path: Path | None, number: int) -> bytes:
    if path is None:
        report.add("removed", c.number, f"the object {number} with events up to {c.last} is missing")
        return b""
    try:
        with path.open("rb") as file:
            return leaf_hashes(zstandard.ZstdDecompressor().stream_reader(file).read())
    except (OSError, zstandard.ZstdError) as failure:
        report.add("changed", c.number, f"the object {number} cannot be read: {failure}")
        return b""
