"""From exported lines to a trail, with the recorded rows in a file that vanishes with the process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable

from hoopfast.replay.recorded import Kept, Reader, Trail

STATEMENTS_MAX = 5_000_000


class Rows:
    """Recorded rows outside of memory. `keep` appends, `fetch` reads what it had been given."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="hoopfast-replay-")  # noqa: SIM115 - closed by `close`
        self._size = 0

    def keep(self, data: bytes) -> Kept:
        self._file.write(data)
        at, self._size = self._size, self._size + len(data)
        return at, len(data)

    def ready(self) -> None:
        """Everything has been given."""
        self._file.flush()

    def fetch(self, kept: Kept) -> bytes:
        return os.pread(self._file.fileno(), kept[1], kept[0])

    def close(self) -> None:
        self._file.close()


def read(lines: Iterable[bytes], rows: Rows, starts: Callable[[list[str]], Iterable[bytes]] | None = None) -> Trail:
    """Raises ValueError, with the number of the line, for what is no export.

    `starts` gives the beginnings of sessions that are not among the lines: what their clients asked for is in there.
    """
    reader = Reader(rows.keep)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            reader.take(line)
        except ValueError as failure:
            raise ValueError(f"line {number}: {failure}") from failure
        if number > STATEMENTS_MAX:
            raise ValueError(f"more than {STATEMENTS_MAX} events; choose fewer with --since and --until")
    if starts is not None:
        for line in starts([session.id for session in reader.trail.sessions.values() if not session.begin]):
            reader.take(line)
    rows.ready()
    return reader.finish()
