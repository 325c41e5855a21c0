"""Lanes of the shipper: streams at one place, with the sinks that have everything up to there; and how far they are.

Pure data for audit.shipper, which moves them, and for those who tell people about it.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import msgspec

from hoopfast.audit.builder import Batch
from hoopfast.audit.outlet import Outlet
from hoopfast.audit.sinks.base import Sink
from hoopfast.audit.streams import Place, Stream

BACKOFF_FIRST_S = 0.25


class Checkpoint(msgspec.Struct):
    """What one sink has for good. `places`: stream -> (segment, offset); `done`: streams it has all of."""

    places: dict[str, Place] = {}
    done: list[str] = []
    mark: dict[str, Any] = {}


class SinkLag(msgspec.Struct, frozen=True):
    """One sink. `events` and `errors` since the start; `dead`: letters that are kept; `skipped`: times that it was
    moved on, because the journal could not wait for it."""

    bytes: int = 0
    seconds: float = 0.0
    events: int = 0
    errors: int = 0
    dead: int = 0
    skipped: int = 0
    error: str = ""
    required: bool = True


class ShipperLag(msgspec.Struct, frozen=True):
    """How far the slowest required sink is behind (`bytes` is an upper bound; `seconds` since it last had everything),
    and each sink by itself."""

    bytes: int
    seconds: float
    events_total: int
    errors: int
    failing: dict[str, str] = {}        # sink -> its last error
    sinks: dict[str, SinkLag] = {}


class Lane:
    """Streams at one place, and the sinks that have everything up to there (but for `pending`)."""

    def __init__(self, sinks: list[Sink], streams: dict[str, Stream]) -> None:
        self.sinks = sinks
        self.streams = streams
        self.pending = Batch()
        self.retry_at = 0.0
        self.backoff = BACKOFF_FIRST_S
        self.error = ""
        self.caught_up_at = time.monotonic()

    @property
    def places(self) -> dict[str, tuple[Place, bool]]:
        return {key: (stream.place, stream.done) for key, stream in self.streams.items()}

    @property
    def progress(self) -> tuple[int, int]:
        """Grows with every read; the lane that is ahead has the largest."""
        places = [stream.place for stream in self.streams.values()]
        return sum(place[0] for place in places), sum(place[1] for place in places)

    @property
    def is_required(self) -> bool:
        return any(is_required(sink) for sink in self.sinks)

    @property
    def current(self) -> bool:
        return not self.pending and all(stream.current or stream.done for stream in self.streams.values())


class Standing(NamedTuple):
    """Where a lane is: `places`, `done` as in Checkpoint, and snapshots by the name of their file."""

    places: dict[str, Place]
    done: list[str]
    states: dict[str, bytes]


def is_required(sink: Sink) -> bool:
    return sink.required if isinstance(sink, Outlet) else True


def error_of(sink: Sink, lane: Lane) -> str:
    return (sink.error if isinstance(sink, Outlet) else "") or lane.error


def unread_bytes(lane: Lane) -> int:
    return sum(stream.unread_bytes() for stream in list(lane.streams.values()))
