"""What the shipper asks of a sink, and how the configured ones are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from hoopfast.audit.builder import Item
from hoopfast.audit.events import Statement
from hoopfast.audit.keys import DIRECTORY, KeyRing
from hoopfast.config import Config


class Sink(Protocol):
    """Called by one thread at a time. Any exception of `write` and `sync` means: not done, try again later.

    After a crash the shipper sends again what it sent since the last `sync`; a sink drops or overwrites repetitions,
    by (session, seq) or by going back to the mark.
    """

    name: str                           # a file name; the checkpoint is kept under it

    def restore(self, mark: dict[str, Any]) -> None:
        """Once, before the first write: go back to what `sync` returned last; {} when there is no such thing."""

    def write(self, events: Sequence[Item]) -> None:
        """Take all of them, or raise and take none. builder.as_event makes structs of those that are none."""

    def sync(self) -> dict[str, Any]:
        """Everything written survives a power cut when this returns; the mark is kept for `restore`."""

    def kept(self, mark: dict[str, Any]) -> None:
        """The mark of the last `sync` is on disk: nothing before it will be sent again. Said about once a second."""

    def running(self, events: Sequence[Statement]) -> None:
        """The statements that run now, and only those: a view for people, not part of the trail. May do nothing."""

    def close(self) -> None:
        """Free what it holds; no more writes."""


def make_sinks(config: Config, state_dir: str | Path) -> list[Sink]:
    """The sinks of the configuration, in its order. Raises OSError or AuditUnavailable when one cannot be opened."""
    from hoopfast.audit.sinks.jsonl import JsonlSink  # noqa: PLC0415
    from hoopfast.audit.sinks.sqlite import SqliteSink  # noqa: PLC0415

    root = Path(state_dir)
    keys = KeyRing(root / DIRECTORY)
    second = root / config.audit.checkpoints if config.audit.checkpoints else None
    sinks: list[Sink] = []
    for sink in config.audit.sinks:
        same = sum(1 for made in sinks if made.name.split("-")[0] == sink.kind)
        name = sink.kind if not same else f"{sink.kind}-{same + 1}"
        if sink.kind == "sqlite":
            sinks.append(SqliteSink(root / (sink.path or "audit.db"), name=name, keys=keys, checkpoints=second))
        else:
            sinks.append(JsonlSink(root / (sink.path or "audit"), name=name, keys=keys, checkpoints=second))
    return sinks
