"""A local HTTP server that answers as the receivers of audit events document it. For tests/audit/test_http_sinks.py.

It keeps what it took, checks what the real ones check (credentials, content types, compression, shapes of requests),
and can be told to refuse, to be busy, or to lose an answer.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = tuple[int, Any]
POISON = "poison"                       # a statement that the receiver cannot take


class Receiver:
    """`taken`: events by id, as often as they were indexed; `failures`: the next answers, instead of any work."""

    def __init__(self) -> None:
        self.taken: dict[str, list[dict[str, Any]]] = {}
        self.failures: list[tuple[int, dict[str, str]]] = []
        self.requests: list[int] = []               # events in each
        self.lose_answers = 0
        self.busy_items = 0
        self.body_max = 1 << 20
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    data = gzip.decompress(data)
                status, answer, headers = receiver.answer(self.path, dict(self.headers.items()), data)
                if receiver.lose_answers:
                    receiver.lose_answers -= 1
                    self.close_connection = True
                    return
                body = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, headers: dict[str, str], data: bytes) -> tuple[int, Any, dict[str, str]]:
        if self.failures:
            status, more = self.failures.pop(0)
            return status, {"text": "told to fail", "message": "told to fail"}, more
        if len(data) > self.body_max:
            return 413, {}, {}
        routes: dict[str, Callable[[dict[str, str], bytes], Answer]] = {
            "/services/collector/event": self._splunk, "/v1/logs": self._otlp}
        status, answer = routes.get(path, self._elastic)(headers, data)
        return status, answer, {}

    def _take(self, name: str, event: dict[str, Any]) -> None:
        self.taken.setdefault(name, []).append(event)

    def _splunk(self, headers: dict[str, str], data: bytes) -> Answer:
        if headers.get("Authorization") != "Splunk token":
            return 403, {"text": "Invalid token", "code": 4}
        decoder, text, at, found = json.JSONDecoder(), data.decode(), 0, []
        while at < len(text):
            event, at = decoder.raw_decode(text, at)
            at += len(text[at:]) - len(text[at:].lstrip())
            found.append(event)
        self.requests.append(len(found))
        for i, event in enumerate(found):
            assert {"time", "host", "source", "sourcetype", "event"} <= event.keys()
            if event["event"].get("sql") == POISON:
                return 400, {"text": "Invalid data format", "code": 6, "invalid-event-number": i}
            self._take(event["fields"]["hoopfast_id"], event["event"])
        return 200, {"text": "Success", "code": 0}

    def _elastic(self, headers: dict[str, str], data: bytes) -> Answer:
        if headers.get("Authorization") not in {"ApiKey token", "Basic YW5hOnNlY3JldA=="}:
            return 401, {"error": {"type": "security_exception", "reason": "missing authentication credentials"}}
        assert headers.get("Content-Type") == "application/x-ndjson"
        assert data.endswith(b"\n")
        lines, items = data.splitlines(), []
        self.requests.append(len(lines) // 2)
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            name, event = json.loads(action)["create"]["_id"], json.loads(document)
            assert event["@timestamp"] == event["at"]
            error = {"type": "mapper_parsing_exception", "reason": "failed to parse"}
            if self.busy_items:
                self.busy_items -= 1
                items.append({"create": {"status": 429, "error": {"type": "es_rejected_execution_exception"}}})
            elif name in self.taken:
                items.append({"create": {"status": 409, "error": {"type": "version_conflict_engine_exception"}}})
            elif event.get("sql") == POISON:
                items.append({"create": {"status": 400, "error": error}})
            else:
                self._take(name, event)
                items.append({"create": {"status": 201}})
        return 200, {"errors": any("error" in item["create"] for item in items), "items": items}

    def _otlp(self, headers: dict[str, str], data: bytes) -> Answer:
        if headers.get("Authorization") != "Bearer token":
            return 401, {"code": 16, "message": "no token"}
        assert headers.get("Content-Type") == "application/json"
        records = json.loads(data)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        self.requests.append(len(records))
        rejected = 0
        for record in records:
            values = {part["key"]: part["value"]["stringValue"] for part in record["attributes"]}
            assert record["timeUnixNano"].isdigit()
            if values.get("db.query.text") == POISON:
                rejected += 1
            else:
                self._take(values["event.id"], json.loads(record["body"]["stringValue"]))
        if not rejected:
            return 200, {}
        return 200, {"partialSuccess": {"rejectedLogRecords": str(rejected), "errorMessage": "bad attribute"}}
