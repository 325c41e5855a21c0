"""Splunk, Elasticsearch and OTLP receivers, each as it documents its answers: taken, busy, refused, lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from hoopfast.audit.events import Event, encode
from hoopfast.audit.outlet import DeadLetters, letter_files, read_letters
from hoopfast.audit.sinks import http
from hoopfast.audit.sinks.base import make_sinks
from hoopfast.audit.sinks.http import HttpSink, SinkUnavailable
from hoopfast.audit.sinks.http_dialects import Elastic, Otlp, Splunk
from hoopfast.config import Audit, Config
from hoopfast.config_sinks import Sink
from tests.audit.test_search import EVENTS, A, statement
from tests.support.receiver import POISON, Receiver

KINDS = ("splunk", "elastic", "otlp")
BAD = statement(A, 66, POISON)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


class Under:
    """A sink of a kind, its receiver and its dead letters."""

    def __init__(self, kind: str, receiver: Receiver, root: Path, token: str = "token") -> None:
        self.receiver, self.root = receiver, root
        dialects = {
            "splunk": lambda: Splunk(receiver.url, token, index="audit", gateway="gw1"),
            "elastic": lambda: Elastic(receiver.url, "audit", gateway="gw1", api_key=token),
            "otlp": lambda: Otlp(receiver.url, gateway="gw1", token=token),
        }
        self.kind = kind
        self.sink = HttpSink(kind, dialects[kind](), DeadLetters(root, kind))

    def write(self, events: list[Event]) -> int:
        """As the outlet does it; how often it took."""
        for attempt in range(1, 10):
            try:
                self.sink.write(events)
            except SinkUnavailable:
                continue
            return attempt
        raise AssertionError("it never succeeds")

    @property
    def taken(self) -> list[dict[str, Any]]:
        return [events[0] for events in self.receiver.taken.values()]

    @property
    def letters(self) -> list[dict[str, Any]]:
        return [orjson.loads(bytes(letter.event)) for path in letter_files(self.root) for letter in read_letters(path)]


@pytest.fixture(params=KINDS)
def under(request: pytest.FixtureRequest, receiver: Receiver, tmp_path: Path) -> Iterator[Under]:
    made = Under(request.param, receiver, tmp_path)
    yield made
    made.sink.close()


def plain(event: Event) -> dict[str, Any]:
    return orjson.loads(encode(event))  # type: ignore[no-any-return]


def without_extras(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in event.items() if name not in {"@timestamp", "gateway"}} for event in events]


def test_events_arrive_whole(under: Under) -> None:
    assert under.write(EVENTS) == 1
    assert without_extras(under.taken) == [plain(event) for event in EVENTS]
    assert under.letters == []


def test_busy_is_tried_again_and_nothing_is_lost(under: Under) -> None:
    under.receiver.failures = [(503, {"Retry-After": "7"}), (429, {})]
    with pytest.raises(SinkUnavailable) as caught:
        under.sink.write(EVENTS)
    assert caught.value.after_s == 7.0
    assert under.write(EVENTS) == 2
    assert len(under.taken) == len(EVENTS)


def test_what_was_answered_is_not_sent_again(under: Under, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "EVENTS_MAX", 3)
    batch = [statement(A, 100 + n, f"SELECT {n}") for n in range(9)]
    under.sink.write(batch[:3])
    under.receiver.requests.clear()
    under.receiver.failures = []
    real = under.receiver.answer

    def second_fails(*args: Any) -> Any:
        if len(under.receiver.requests) == 1 and not done:
            done.append(1)
            return 503, {}, {}
        return real(*args)

    done: list[int] = []
    under.receiver.answer = second_fails  # type: ignore[method-assign]
    assert under.write(batch[3:]) == 2
    assert under.receiver.requests == [3, 3]
    assert all(len(events) == 1 for events in under.receiver.taken.values())


def test_an_answer_that_is_lost_repeats_under_the_same_ids(under: Under) -> None:
    under.receiver.lose_answers = 1
    assert under.write(EVENTS) == 2
    assert len(under.receiver.taken) == len(EVENTS)
    times = {len(events) for events in under.receiver.taken.values()}
    assert times == ({1} if under.kind == "elastic" else {2})


def test_one_bad_event_becomes_a_dead_letter_and_holds_up_nothing(under: Under) -> None:
    under.write([*EVENTS[:2], BAD, *EVENTS[2:]])
    assert plain(BAD) in under.letters
    assert sorted(without_extras(under.taken), key=str) == sorted(map(plain, EVENTS), key=str)
    if under.kind == "otlp":                    # does not say which one it was: all of the request are kept
        assert len(under.letters) == len(EVENTS) + 1
    else:
        assert under.letters == [plain(BAD)]


def test_a_request_that_is_too_large_is_divided(under: Under) -> None:
    under.receiver.body_max = 6000
    large = statement(A, 67, "x" * 9000)
    under.write([*EVENTS, large])
    assert without_extras(under.taken) == [plain(event) for event in EVENTS]
    assert under.letters == [plain(large)]


def test_a_wrong_credential_is_no_fault_of_the_events(receiver: Receiver, tmp_path: Path) -> None:
    for kind in KINDS:
        wrong = Under(kind, receiver, tmp_path, token="other")
        with pytest.raises(SinkUnavailable, match=r"40[13]"):
            wrong.sink.write(EVENTS)
        assert wrong.letters == []
        wrong.sink.close()


def test_items_that_are_busy_are_sent_again_alone(receiver: Receiver, tmp_path: Path) -> None:
    under = Under("elastic", receiver, tmp_path)
    receiver.busy_items = 2
    assert under.write(EVENTS) == 2
    assert receiver.requests == [len(EVENTS), 2]
    assert len(under.taken) == len(EVENTS)
    under.sink.close()


def test_sinks_of_a_configuration(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIEM_TOKEN", "token")
    monkeypatch.setenv("SIEM_PASSWORD", "secret")
    made = make_sinks(Config(audit=Audit(sinks=(
        Sink(kind="splunk", url=receiver.url, token="env:SIEM_TOKEN"),
        Sink(kind="elastic", url=receiver.url, index="audit", username="ana", password="env:SIEM_PASSWORD"),
        Sink(kind="otlp", url=receiver.url, token="env:SIEM_TOKEN", name="collector"),
    ))), tmp_path)
    assert [sink.name for sink in made] == ["splunk", "elastic", "collector"]
    for sink in made:
        sink.restore({})
        sink.write(EVENTS)
        sink.close()
    assert len(receiver.taken) == 2 * len(EVENTS)           # splunk and otlp give the same ids, elastic its own
    assert receiver.requests == [len(EVENTS)] * 3
