"""What the receivers of sinks.http want to hear, and what their answers mean. Pure: bytes and decoded JSON.

Every event carries an id of its own, made of gateway, session and number, so that a repetition is recognised: by
Elasticsearch itself (a document with this _id is there), elsewhere by whoever searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import orjson

from hoopfast.audit.events import SCHEMA, nanoseconds
from hoopfast.audit.sinks.http import SinkUnavailable, TooMuch, Verdict

TAKEN = Verdict({}, [])
_CONFIGURED = {401, 403, 404}           # somebody has to mend it here or there; nothing is wrong with the events


class _Known(msgspec.Struct, gc=False):
    """What is needed of an event, whatever its kind."""

    event: str
    session: str
    seq: int
    at: str
    user: str = ""
    connection: str = ""
    client: str = ""
    sql: str = ""
    verdict: str = ""
    rule: str = ""
    outcome: str = ""
    action: str = ""


_known = msgspec.json.Decoder(_Known).decode


def _at(url: str, path: str) -> str:
    """The address with the usual path, unless it has one."""
    return url.rstrip("/") + path if urlsplit(url).path in {"", "/"} else url


class Splunk:
    """HTTP Event Collector, event endpoint."""

    auth: tuple[str, str] | None = None

    def __init__(self, url: str, token: str, *, index: str, gateway: str) -> None:
        self.url = _at(url, "/services/collector/event")
        self.headers = {"Authorization": f"Splunk {token}", "Content-Type": "application/json"}
        self._gateway = gateway
        self._index = b',"index":' + orjson.dumps(index) if index else b""

    def body(self, lines: Sequence[bytes]) -> bytes:
        host = orjson.dumps(self._gateway)
        parts = []
        for line in lines:
            known = _known(line)
            seconds, rest = divmod(nanoseconds(known.at), 10**9)
            fields = orjson.dumps({"hoopfast_id": f"{self._gateway}/{known.session}/{known.seq}"})
            parts.append(
                b'{"time":%d.%09d,"host":%b,"source":"hoopfast","sourcetype":"hoopfast:%b"%b,"fields":%b,"event":%b}'
                % (seconds, rest, host, known.event.encode(), self._index, fields, line))
        return b"\n".join(parts)

    def judge(self, status: int, answer: Any, count: int) -> Verdict:
        if status == 200:
            return TAKEN
        told = answer if isinstance(answer, dict) else {}
        said = f"{status}: {told.get('text', 'no reason given')}"
        bad = told.get("invalid-event-number")
        if status == 400 and isinstance(bad, int) and 0 <= bad < count:
            # What stands before it may have been taken; it is sent again with the same id.
            return Verdict({bad: said}, [i for i in range(count) if i != bad], said)
        if status == 400 and told.get("code") not in {7, 10, 11}:
            raise TooMuch(said)
        raise SinkUnavailable(said)


class Elastic:
    """The bulk API; index or data stream. An event whose _id is there already was taken before."""

    def __init__(
        self, url: str, index: str, *, gateway: str, api_key: str = "", auth: tuple[str, str] | None = None,
    ) -> None:
        self.url = f"{url.rstrip('/')}/{quote(index)}/_bulk?filter_path=errors,items.*.status,items.*.error"
        self.headers = {"Content-Type": "application/x-ndjson"}
        if api_key:
            self.headers["Authorization"] = f"ApiKey {api_key}"
        self.auth = auth
        self._gateway = gateway

    def body(self, lines: Sequence[bytes]) -> bytes:
        parts = []
        for line in lines:
            known = _known(line)
            name = orjson.dumps(f"{self._gateway}-{known.session}-{known.seq}")
            parts.append(b'{"create":{"_id":%b}}\n{"@timestamp":%b,"gateway":%b,%b\n' % (
                name, orjson.dumps(known.at), orjson.dumps(self._gateway), line[1:]))
        return b"".join(parts)

    def judge(self, status: int, answer: Any, count: int) -> Verdict:
        if status == 400:
            raise TooMuch(f"400: {_reason(answer)}")
        items = answer.get("items") if isinstance(answer, dict) else None
        if status != 200 or (answer.get("errors") and (not isinstance(items, list) or len(items) != count)):
            raise SinkUnavailable(f"{status}: {_reason(answer)}")
        if not answer.get("errors"):
            return TAKEN
        refused: dict[int, str] = {}
        again: list[int] = []
        why = ""
        for i, item in enumerate(items or []):
            result: dict[str, Any] = next(iter(item.values()), {})
            code = int(result.get("status", 0))
            if code == 409 or 200 <= code < 300:
                continue
            said = f"{code}: {_reason(result)}"
            if code in {400, 413}:
                refused[i] = said
            else:
                again.append(i)
                why = said
        return Verdict(refused, again, why)


def _reason(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        return f"{error.get('type')}: {error.get('reason')}"
    return str(error or "no reason given")


class Otlp:
    """Logs by OTLP/HTTP in its JSON form. The body of a record is the event as it stands in the trail."""

    auth: tuple[str, str] | None = None

    def __init__(self, url: str, *, gateway: str, token: str = "") -> None:
        self.url = _at(url, "/v1/logs")
        self.headers = {"Content-Type": "application/json"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self._resource = {"attributes": _attributes({
            "service.name": "hoopfast", "service.instance.id": gateway, "host.name": gateway})}
        self._gateway = gateway

    def body(self, lines: Sequence[bytes]) -> bytes:
        scope = {"name": "hoopfast.audit", "version": str(SCHEMA)}
        records = [self._record(line) for line in lines]
        return orjson.dumps({"resourceLogs": [{
            "resource": self._resource, "scopeLogs": [{"scope": scope, "logRecords": records}]}]})

    def _record(self, line: bytes) -> dict[str, Any]:
        known = _known(line)
        bad = known.outcome in {"error", "denied", "unknown"}
        return {
            "timeUnixNano": str(nanoseconds(known.at)), "observedTimeUnixNano": str(nanoseconds(known.at)),
            "severityNumber": 13 if bad else 9, "severityText": "WARN" if bad else "INFO",
            "eventName": f"hoopfast.{known.event}", "body": {"stringValue": line.decode()},
            "attributes": _attributes({
                "event.id": f"{self._gateway}/{known.session}/{known.seq}", "session.id": known.session,
                "user.name": known.user, "client.address": known.client, "db.system.name": "postgresql",
                "db.namespace": known.connection, "db.query.text": known.sql, "hoopfast.outcome": known.outcome,
                "hoopfast.verdict": known.verdict, "hoopfast.rule": known.rule, "hoopfast.action": known.action}),
        }

    def judge(self, status: int, answer: Any, count: int) -> Verdict:
        told = answer if isinstance(answer, dict) else {}
        if status == 200:
            partial = told.get("partialSuccess") or {}
            rejected = int(partial.get("rejectedLogRecords") or 0)
            if not rejected:
                return TAKEN
            # Which ones is not said, and sending them again is forbidden: all are kept, so that none is lost.
            said = f"{rejected} of these {count} records were rejected: {partial.get('errorMessage', '')}"
            return Verdict(dict.fromkeys(range(count), said), [])
        said = f"{status}: {told.get('message', 'no reason given')}"
        if status in _CONFIGURED:
            raise SinkUnavailable(said)
        raise TooMuch(said)


def _attributes(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items() if value]
