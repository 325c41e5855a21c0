"""The verbs `sessions`, `audit` and `replay` against a stand-in for the admin API."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from hoopfast.cli import audit, client, export, replay, sessions

STATEMENT = {
    "id": 7, "event": "statement", "session": "ab", "seq": 2, "at": "2026-01-01T10:11:12.500000000Z",
    "user": "ana",
    "kind": "simple", "sql": "SELECT '[bold]\x1b[2J'", "parameters": ["x", None, {"oid": 600, "hex": "\\xff"}],
    "outcome": "error", "tag": "", "rows": 0, "duration_us": 1500, "rule": "r1", "masks": ["t.c=redact"],
    "error": {"sqlstate": "22012", "message": "division by zero"},
    "results": [{"columns": [{"name": "n", "oid": 23}], "rows": [["5"], [None]], "copy": "", "truncated": False}],
}
START = {"id": 6, "event": "session_start", "session": "ab", "seq": 1, "user": "ana",
         "at": "2026-01-01T10:11:11.000000000Z",
         "connection": "orders", "client": "192.0.2.1:5", "groups": ["eng"]}
REFUSED = {"id": 8, "event": "gateway", "session": "0" * 16, "seq": 9, "at": "2026-01-01T10:12:00.000000000Z",
           "user": "eve",
           "action": "login_refused", "fields": {"reason": "expired"}}


class StubClient:
    """Answers from a table and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get(self, path: str, **params: Any) -> Any:
        self.asked.append(("GET", path, params))
        if path == "/sessions":
            live = {"session": "ab", "user": "ana", "live": True, "started_at": 1767262271.0, "peer": "p:1"}
            return {"sessions": [live]}
        if path == "/audit/search":
            return {"events": [REFUSED, STATEMENT]}
        if path == "/audit/who-saw":
            return {"sessions": [{"session": "ab", "user": "ana", "connection": "orders", "read": 2, "rows": 5,
                                  "last": "2026-01-01T10:11:12.500000000Z", "clear": True, "masks": [],
                                  "sample": "SELECT ssn\n FROM customers"}]}
        return {"session": {"session": "ab", "live": False}, "events": [START, STATEMENT]}

    def delete(self, path: str, **params: Any) -> None:
        self.asked.append(("DELETE", path, params))

    def stream(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        self.asked.append(("STREAM", path, params))
        yield from (START, STATEMENT, REFUSED)

    def lines(self, path: str, **params: Any) -> Iterator[bytes]:
        return (json.dumps(event).encode() for event in self.stream(path, **params))


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> StubClient:
    stub = StubClient()
    monkeypatch.setattr(client, "connect", lambda **_: stub)
    return stub


def run(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, env={"COLUMNS": "200"}, catch_exceptions=False)


def test_list(api: StubClient) -> None:
    shown = run(sessions.command, "list", "--live", "--user", "ana")
    assert shown.exit_code == 0
    assert "ana" in shown.output
    assert "2026-01-01 10:11:11" in shown.output
    assert api.asked[0][2]["live"] == "true"


def test_show_is_safe_for_the_terminal(api: StubClient) -> None:
    shown = run(sessions.command, "show", "ab", "--results").output
    assert "\x1b[2J" not in shown
    for part in ("[bold]", "$1 = x, $2 = NULL, $3 = \\xff (type 600)", "22012: division by zero", "rule r1", "1.5 ms",
                 "192.0.2.1:5", "n", "NULL", "masked t.c=redact"):
        assert part in shown, part


def test_kill(api: StubClient) -> None:
    assert run(sessions.command, "kill", "ab", "--reason", "lunch").exit_code == 0
    assert api.asked == [("DELETE", "/sessions/ab", {"reason": "lunch"})]


def test_search_sends_only_what_was_given(api: StubClient) -> None:
    shown = run(audit.command, "search", "--text", "x", "--since", "2h")
    assert api.asked == [("GET", "/audit/search", {"text": "x", "since": "2h", "limit": 50})]
    assert "login_refused" in shown.output
    assert "reason=expired" in shown.output


def test_export_jsonl_and_csv(api: StubClient, tmp_path: Path) -> None:
    lines = run(audit.command, "export").output.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [6, 7, 8]
    run(audit.command, "export", "--format", "csv", "-o", str(tmp_path / "x.csv"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text())))
    assert [row["event"] for row in rows] == ["session_start", "statement", "gateway"]
    assert (rows[1]["sqlstate"], rows[2]["sql"]) == ("22012", "login_refused")


def test_export_parquet(api: StubClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    assert run(audit.command, "export", "--format", "parquet", "-o", str(path)).exit_code == 0
    rows = pyarrow.parquet.read_table(path).to_pylist()
    assert [row["event"] for row in rows] == ["session_start", "statement", "gateway"]
    assert (rows[1]["sqlstate"], rows[1]["masks"], rows[1]["duration_us"]) == ("22012", ["t.c=redact"], 1500)
    assert rows[0]["at"].isoformat().startswith("2026-01-01T10:11:11")
    assert run(audit.command, "export", "--format", "parquet").exit_code == 2
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    shown = run(audit.command, "export", "--format", "parquet", "-o", str(tmp_path / "y.parquet"))
    assert shown.exit_code == 1
    assert "pip install 'hoopfast[parquet]'" in shown.output
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_who_saw(api: StubClient) -> None:
    shown = run(audit.command, "who-saw", "public.customers.ssn", "--since", "7d").output
    assert api.asked == [("GET", "/audit/who-saw", {
        "column": "public.customers.ssn", "limit": 50, "user": "", "connection": "", "since": "7d", "until": ""})]
    for part in ("ana", "clear", "2026-01-01 10:11:12", "SELECT ssn FROM customers"):
        assert part in shown


def test_csv_is_no_formula() -> None:
    assert export._cell("=cmd|' /C calc'!A0") == "'=cmd|' /C calc'!A0"
    assert export._cell(-5) == "-5"


def test_tail_follows_from_the_latest(api: StubClient) -> None:
    shown = run(audit.command, "tail", "-f", "--json", "--count", "1")
    assert [json.loads(line)["id"] for line in shown.output.splitlines()] == [8, 6, 7, 8]
    assert api.asked[-1] == ("STREAM", "/audit/tail", {"after": "8"})


def test_replay_refuses_an_upstream(api: StubClient, tmp_path: Path) -> None:
    config = tmp_path / "hoopfast.yaml"
    config.write_text("connections: {orders: {upstream: {host: db, database: orders, user: u}}}")
    shown = CliRunner().invoke(replay.command, ["ab", "--to", "host=db dbname=orders", "-c", str(config)])
    assert shown.exit_code == 1
    assert "--i-mean-it" in shown.output
    assert api.asked == []
