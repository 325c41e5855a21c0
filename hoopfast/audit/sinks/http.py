"""Events to whoever takes them by HTTP: Splunk's event collector, Elasticsearch's bulk API, OTLP logs as JSON.

A dialect (sinks.http_dialects) says what a request looks like and what its answer means for each event. Here is what
they share: requests of bounded size, what was taken is not sent again, what is refused for good becomes a dead letter,
and everything else is tried again by the outlet.
"""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import httpx

from hoopfast.audit.builder import Item, as_batch
from hoopfast.audit.events import Statement
from hoopfast.audit.outlet import DeadLetters

EVENTS_MAX = 2000                       # of one request
BODY_BYTES = 4 << 20                    # before compression; one larger event goes alone
TIMEOUT_S = 30.0
RETRY_AFTER_MAX_S = 300.0


class SinkUnavailable(Exception):
    """Not now: `after_s` is how long the other side wants to be left alone."""

    def __init__(self, what: str, after_s: float = 0.0) -> None:
        super().__init__(what)
        self.after_s = after_s


class TooMuch(Exception):
    """A request is too large, or one of its events is bad and nobody says which: half of it may do."""


class Verdict(NamedTuple):
    """What an answer says, by place in the request; who is in neither was taken. `why`: of `again`."""

    refused: dict[int, str]
    again: list[int]
    why: str = ""


class Dialect(Protocol):
    """Pure but for nothing: requests and answers as data."""

    url: str
    headers: dict[str, str]
    auth: tuple[str, str] | None

    def body(self, lines: Sequence[bytes]) -> bytes:
        """`lines`: JSON of events, without newlines."""

    def judge(self, status: int, answer: Any, count: int) -> Verdict:
        """`answer`: decoded JSON, or None. Raises TooMuch or SinkUnavailable."""


class HttpSink:
    """See outlet.Patient. At least once: an answer that is lost means a repetition, which carries the same id."""

    def __init__(self, name: str, dialect: Dialect, letters: DeadLetters, *, ca: str = "") -> None:
        self.name = name
        self._dialect = dialect
        self._letters = letters
        secure = dialect.url.startswith("https:")
        context = ssl.create_default_context(cafile=ca or None) if secure else False
        self._client = httpx.Client(
            timeout=TIMEOUT_S, verify=context, trust_env=False, auth=dialect.auth,
            headers={"Content-Encoding": "gzip", "User-Agent": "hoopfast", **dialect.headers})
        self._batch: Sequence[Item] | None = None
        self._left: list[bytes] = []

    def restore(self, mark: dict[str, Any]) -> None:
        """Whatever was sent before comes again, with the same ids."""

    def write(self, events: Sequence[Item]) -> None:
        if events is not self._batch:
            self._left = b"".join(as_batch(events).lines()).split(b"\n")[:-1]
            self._batch = events
        while self._left:
            part = self._part()
            again, why = self._send(part)
            self._left = again + self._left[len(part) :]
            if again:
                raise SinkUnavailable(why)
        self._batch = None

    def _part(self) -> list[bytes]:
        size, count = 0, 0
        for line in self._left[:EVENTS_MAX]:
            size += len(line)
            if count and size > BODY_BYTES:
                break
            count += 1
        return self._left[:count]

    def _send(self, part: list[bytes]) -> tuple[list[bytes], str]:
        """Those that are to be sent again, and why. Raises SinkUnavailable: all of them."""
        try:
            verdict = self._ask(part)
        except TooMuch as failure:
            if len(part) == 1:
                self._letters.add(part, str(failure))
                return [], ""
            half = len(part) // 2
            first, why = self._send(part[:half])
            second, other = self._send(part[half:])
            return first + second, why or other
        for reason in dict.fromkeys(verdict.refused.values()):
            self._letters.add([part[i] for i, found in verdict.refused.items() if found == reason], reason)
        return [part[i] for i in verdict.again], verdict.why

    def _ask(self, part: list[bytes]) -> Verdict:
        body = gzip.compress(self._dialect.body(part), 1)
        try:
            answer = self._client.post(self._dialect.url, content=body)
        except httpx.HTTPError as failure:
            raise SinkUnavailable(f"{type(failure).__name__}: {failure}") from failure
        if answer.status_code in {408, 429, 500, 502, 503, 504}:
            raise SinkUnavailable(_said(answer), _after_s(answer))
        if answer.status_code == 413:
            raise TooMuch(_said(answer))
        try:
            decoded = answer.json() if answer.content else None
        except ValueError:
            decoded = None
        return self._dialect.judge(answer.status_code, decoded, len(part))

    def sync(self) -> dict[str, Any]:
        return {}

    def kept(self, mark: dict[str, Any]) -> None:
        """Nothing is kept for later: what was answered is there."""

    def running(self, events: Sequence[Statement]) -> None:
        """Events cannot be taken back, so statements are sent when they have ended."""

    def close(self) -> None:
        self._client.close()


def _said(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.reason_phrase}: {answer.text[:200]}".strip(": ")


def _after_s(answer: httpx.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return min(float(text), RETRY_AFTER_MAX_S) if text.isdigit() else 0.0
