"""Events as JSON lines, one file per day and per 64 MiB, older files compressed with zstd.

`events-20260131.jsonl`, `events-20260131.1.jsonl`, ...; the day is that of writing (UTC). After a crash the file is cut
back to the last mark, so a repetition never stands in it twice. What is behind a mark is sealed (sinks.jsonl_seal).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zstandard

from hoopfast.audit.builder import Item, as_batch
from hoopfast.audit.events import Statement
from hoopfast.audit.keys import DIRECTORY, KeyRing
from hoopfast.audit.sinks.jsonl_seal import FileSealer, Spot, file_place

ROTATE_BYTES = 64 << 20
_LEVEL = 1                              # measured on lines of ours: as small as 3 makes them, in half the time


class JsonlSink:
    """See sinks.base.Sink. `directory` is made if it is missing; `keys` and `checkpoints` as in sinks.sqlite."""

    def __init__(
        self, directory: Path, *, name: str = "jsonl", rotate_bytes: int = ROTATE_BYTES, keys: KeyRing | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        self.name = name
        self._directory = directory
        self._rotate = rotate_bytes
        self._fd = -1
        self._path = Path()
        self._day = ""
        self._part = 0
        self._size = 0
        self._finished: list[Path] = []         # left for good, not compressed yet
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sealer = FileSealer(directory, keys or KeyRing(directory.parent / DIRECTORY), checkpoints)

    def restore(self, mark: dict[str, Any]) -> None:
        """Cut back to the mark: what stands behind it comes again. Whole files behind it are set aside, not removed."""
        day, part, size = str(mark.get("day", "")), int(mark.get("part", 0)), int(mark.get("size", 0))
        if day:
            self._cut_back(day, part, size)
        self._sealer.recover()

    def _cut_back(self, day: str, part: int, size: int) -> None:
        for path in list(self._directory.glob("events-*")):
            place = file_place(path)
            if path.suffix == ".tmp":
                path.unlink()
            elif place > (day, part) and path.suffix in {".jsonl", ".zst"}:
                path.rename(path.with_name(path.name + ".superseded"))
            elif place < (day, part) and path.suffix == ".jsonl":
                self._finished.append(path)
            elif place == (day, part) and path.suffix == ".zst":
                _expand(path)
        self._open(day, part)
        if self._size > size:
            os.ftruncate(self._fd, size)
            self._size = size

    def write(self, events: Sequence[Item]) -> None:
        day = time.strftime("%Y%m%d", time.gmtime())
        if self._fd < 0:
            self._open(day, self._next_part(day))
        elif day > self._day or self._size >= self._rotate:
            self._finish()
            self._open(day, self._next_part(day))
        batch, size = as_batch(events), self._size
        try:
            for lines in batch.lines():
                view = memoryview(lines)
                while view:
                    wrote = os.write(self._fd, view)
                    view = view[wrote:]
                    size += wrote
        except OSError:
            # A full disk may have taken a part of a line; the batch will come again.
            os.ftruncate(self._fd, self._size)
            raise
        self._size = size
        self._sealer.wrote(batch.leaves(), Spot(self._day, self._part, self._size))

    def sync(self) -> dict[str, Any]:
        while self._finished:
            _compress(self._finished[0])
            del self._finished[0]
        if self._fd < 0:
            # A mark all the same, of the file that would come next: without one, what is written before the next mark
            # could not be cut back after a crash, and would stand there twice.
            day = time.strftime("%Y%m%d", time.gmtime())
            return {"day": day, "part": self._next_part(day), "size": 0}
        os.fsync(self._fd)
        _sync_directory(self._directory)
        return {"day": self._day, "part": self._part, "size": self._size}

    def kept(self, mark: dict[str, Any]) -> None:
        if mark:
            self._sealer.kept(Spot(str(mark["day"]), int(mark["part"]), int(mark["size"])))

    def running(self, events: Sequence[Statement]) -> None:
        """Lines cannot be taken back, so statements are written when they have ended."""

    def close(self) -> None:
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._sealer.seal()

    def _finish(self) -> None:
        os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._finished.append(self._path)

    def _next_part(self, day: str) -> int:
        return max((file_place(path)[1] + 1 for path in self._directory.glob(f"events-{day}*")), default=0)

    def _open(self, day: str, part: int) -> None:
        self._day, self._part = day, part
        self._path = self._directory / (f"events-{day}.{part}.jsonl" if part else f"events-{day}.jsonl")
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size


def _compress(path: Path) -> None:
    """Beside the file first, then in its place: at no time is there less than one whole copy."""
    target = path.with_name(path.name + ".zst")
    partial = path.with_name(path.name + ".tmp")
    with path.open("rb") as source, partial.open("wb") as sink:
        os.fchmod(sink.fileno(), 0o600)
        zstandard.ZstdCompressor(level=_LEVEL).copy_stream(source, sink)
        sink.flush()
        os.fsync(sink.fileno())
    partial.rename(target)
    path.unlink()


def _expand(path: Path) -> None:
    """The inverse: the file was compressed, but the mark that allowed it was not kept."""
    target = path.with_suffix("")
    with path.open("rb") as source, target.open("wb") as sink:
        os.fchmod(sink.fileno(), 0o600)
        zstandard.ZstdDecompressor().copy_stream(source, sink)
    path.unlink()


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
