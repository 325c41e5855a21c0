"""A program on a pseudo terminal, so that Ctrl-C is the real thing: psql ends at SIGINT when it reads from a pipe."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class Terminal:
    """Runs `argv` on a terminal of its own; `text` is all it has written so far."""

    def __init__(self, argv: Sequence[str | Path], env: dict[str, str]) -> None:
        self._master, slave = os.openpty()
        try:
            self.process = subprocess.Popen(
                ["setsid", "--ctty", "--wait", *map(str, argv)],
                stdin=slave, stdout=slave, stderr=slave, env=env | {"TERM": "dumb", "PAGER": "cat"}, cwd="/",
            )
        finally:
            os.close(slave)
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing the terminal hangs up on whatever still runs there.
        os.close(self._master)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ctrl_c(self) -> None:
        self.type("\x03")

    def wait_for(self, text: str, timeout: float = 15.0) -> str:
        """Read until `text` has appeared; everything written so far. AssertionError when it does not come."""
        deadline = time.monotonic() + timeout
        while text not in self.text:
            ready = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]
            data = b""
            if ready:
                with contextlib.suppress(OSError):
                    data = os.read(self._master, 65536)
            if not data:
                raise AssertionError(f"{text!r} did not appear in:\n{self.text}")
            self.text += data.decode(errors="replace")
        return self.text
