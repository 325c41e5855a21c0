"""Sinks with a thread of their own: a slow or broken one stops nobody, and nothing is lost or marked too early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hoopfast.audit import lanes, outlet
from hoopfast.audit import shipper as shipper_module
from hoopfast.audit.builder import Item, as_events
from hoopfast.audit.events import Event, encode, gateway_event
from hoopfast.audit.outlet import Busy, DeadLetters, Outlet, letter_files, read_letters
from hoopfast.audit.shipper import Shipper
from tests.audit.test_search import EVENTS, A, statement
from tests.audit.test_shipper import ListSink, World, drain, names

S = 0xAB00_0000_0000_0001


class Elsewhere(ListSink):
    """A ListSink that can be held."""

    def __init__(self, name: str = "elsewhere") -> None:
        super().__init__(name)
        self.open = threading.Event()
        self.open.set()

    def write(self, events: Sequence[Item]) -> None:
        self.open.wait(10)
        super().write(events)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(shipper_module, "CHECKPOINT_S", 0.0)
    for module in (lanes, outlet):
        monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(outlet, "BACKOFF_MAX_S", 0.02)
    return World(tmp_path)


@pytest.fixture
def sink() -> Iterator[Elsewhere]:
    made = Elsewhere()
    yield made
    made.open.set()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def written(world: World, count: int, start: int = 1) -> None:
    with world.writer() as writer:
        if start == 1:
            writer.start(S)
        for _ in range(count):
            writer.query(S, "SELECT 1")


def step_until(shipper: Shipper, condition: Callable[[], Any]) -> None:
    def stepped() -> Any:
        shipper.step()
        return condition()

    until(stepped)


def test_it_delivers_and_its_checkpoint_says_so_only_then(world: World, sink: Elsewhere) -> None:
    there = ListSink("there")
    made = Outlet(sink, required=True)
    shipper = world.shipper(there, made)
    sink.open.clear()
    for n in range(3):
        world.add(gateway_event("policy", n))
    drain(shipper)
    assert len(there.events) == 3
    assert not sink.events
    assert shipper._kept["elsewhere"].mark == {}
    sink.open.set()
    step_until(shipper, lambda: shipper._kept["elsewhere"].mark == {"count": 3})
    assert names(sink.events) == names(there.events)
    lag = shipper.lag()
    assert (lag.sinks["elsewhere"].events, lag.sinks["elsewhere"].seconds, lag.failing) == (3, 0.0, {})
    shipper.close()


def test_a_sink_that_hangs_holds_nobody_and_gets_everything(world: World, sink: Elsewhere) -> None:
    there = ListSink("there")
    shipper = world.shipper(there, Outlet(sink, required=True))
    sink.open.clear()
    for n in range(20):
        world.add(gateway_event("policy", n))
        drain(shipper)
    assert len(there.events) == 20
    assert len(shipper._lanes) == 2                      # what does not fit into the queue waits in a lane of its own
    assert shipper.lag().sinks["elsewhere"].seconds > 0
    assert shipper.lag().failing == {}
    sink.open.set()
    step_until(shipper, lambda: len(sink.events) == 20)
    step_until(shipper, lambda: len(shipper._lanes) == 1)
    assert names(sink.events) == names(there.events)
    shipper.close()


def test_a_sink_that_fails_tries_again_and_says_why(world: World, sink: Elsewhere) -> None:
    there = ListSink("there")
    shipper = world.shipper(there, Outlet(sink, required=True))
    sink.broken = True
    world.add(gateway_event("policy", 1))
    step_until(shipper, lambda: shipper.lag().sinks["elsewhere"].errors > 2)
    assert "no space left" in shipper.lag().failing["elsewhere"]
    assert len(there.events) == 1
    sink.broken = False
    step_until(shipper, lambda: len(sink.events) == 1)
    step_until(shipper, lambda: not shipper.lag().failing)
    shipper.close()


def test_after_a_crash_it_goes_on_from_what_was_delivered(world: World) -> None:
    first = Elsewhere()
    shipper = world.shipper(ListSink("there"), Outlet(first, required=True))
    world.add(gateway_event("policy", 1))
    step_until(shipper, lambda: shipper._kept["elsewhere"].mark == {"count": 1})
    first.open.clear()
    world.add(gateway_event("policy", 2))
    drain(shipper)                                      # handed over, and not delivered: then it is killed
    again = Elsewhere()
    again.events = list(first.events)
    other = ListSink("there")
    shipper = world.shipper(other, Outlet(again, required=True))
    step_until(shipper, lambda: len(again.events) == 2)
    first.open.set()
    shipper.close()


def test_what_is_optional_is_moved_on_and_frees_the_journal(
    world: World, sink: Elsewhere, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shipper_module, "JOURNAL_SEGMENT_BYTES", 4096)
    monkeypatch.setattr(shipper_module, "BATCH_RECORDS", 8)
    there = ListSink("there")
    shipper = world.shipper(there, Outlet(sink, required=False))
    shipper._optional_bytes = 3 * 4096
    sink.open.clear()
    writer = world.writer(size=4096)
    writer.start(S)
    for n in range(400):
        intent = writer.query(S, f"SELECT {n}")
        writer.outcome(S, intent)
    drain(shipper)
    step_until(shipper, lambda: shipper.lag().sinks["elsewhere"].skipped >= 1)
    step_until(shipper, lambda: len(world.segments()) <= 1)
    assert len(there.events) == 401
    assert not shipper.lag().sinks["elsewhere"].required
    sink.open.set()
    world.add(gateway_event("policy", 1))
    step_until(shipper, lambda: sink.events and isinstance(sink.events[-1], type(there.events[-1])))
    assert len(sink.events) < len(there.events)
    shipper.close()


def test_busy_is_no_failure(sink: Elsewhere) -> None:
    made = Outlet(sink, required=True)
    made.restore({})
    sink.open.clear()
    for _ in range(outlet.QUEUE_MAX):
        made.write(EVENTS)
    with pytest.raises(Busy):
        made.write(EVENTS)
    assert (made.error, made.errors) == ("", 0)
    sink.open.set()
    made.close()
    assert len(sink.events) == outlet.QUEUE_MAX * len(EVENTS)


def test_dead_letters_are_kept_whole_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = DeadLetters(tmp_path / "elastic", "elastic")
    event: Event = statement(A, 7, "SELECT 'x'")
    letters.add([encode(event)], "mapper_parsing_exception")
    monkeypatch.setattr(outlet, "DEAD_FILE_BYTES", 10)
    letters.add([encode(event)] * 2, "too large")
    assert (letters.count, DeadLetters(tmp_path / "elastic", "elastic").count) == (3, 3)
    files = letter_files(tmp_path / "elastic")
    assert [len(read_letters(path)) for path in files] == [1, 2]
    letter = read_letters(files[0])[0]
    assert (letter.sink, letter.reason, bytes(letter.event)) == ("elastic", "mapper_parsing_exception", encode(event))
    assert as_events([event]) == [event]
