"""`hoopfast replay --events` without a gateway: TLS to the sandbox, what is lost on the way, pages safe to open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from hoopfast.cli.replay import command
from tests.support.postgres import PostgresServer


def event(seq: int, sql: str, tag: str = "SELECT 1", *, ms: int = 1, at: int | None = None, session: str = "a" * 16,
          **fields: Any) -> dict[str, Any]:
    moment = (at if at is not None else seq * 10) * 1_000_000
    return {"event": "statement", "session": session, "seq": seq, "at": f"2026-01-01T12:00:00.{moment:09d}Z",
            "kind": "simple", "sql": sql, "outcome": "complete", "tag": tag, "rows": 1, "duration_us": ms * 1000,
            "user": "<script>alert(1)</script>@example.com"} | fields


def replay(tmp: Path, dsn: str, events: list[dict[str, Any]], *options: str) -> tuple[Result, dict[str, Any]]:
    lines, report = tmp / "events.jsonl", tmp / "report.json"
    lines.write_bytes(b"\n".join(map(msgspec.json.encode, events)))
    report.unlink(missing_ok=True)
    done = CliRunner().invoke(command, [
        "--events", str(lines), "--to", dsn, "--i-mean-it", "--json", str(report), "--html", str(tmp / "report.html"),
        *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done, json.loads(report.read_text()) if report.exists() else {}


def test_tls_to_the_sandbox(postgres_tls: PostgresServer, tmp_path: Path) -> None:
    assert postgres_tls.tls is not None
    dsn = postgres_tls.dsn("postgres", "app") + f" sslmode=verify-full sslrootcert={postgres_tls.tls.ca}"
    rows = "SELECT repeat('x', 100000) FROM generate_series(1, 50)"
    done, report = replay(tmp_path, dsn, [
        event(1, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
              results=[{"columns": [{"name": "ssl", "oid": 25}], "rows": [["true"]], "copy": "", "truncated": False}]),
        event(2, rows, "SELECT 50", rows=50),
    ])
    assert report["same"] == 2, done.output


def test_everything_of_a_stranger_is_escaped(postgres: PostgresServer, tmp_path: Path) -> None:
    sql = "SELECT '</pre><script>alert(2)</script>' AS \"<img src=x onerror=alert(3)>\", '\x1b[31m[bold]'"
    done, report = replay(tmp_path, postgres.dsn("postgres", "app"), [
        event(1, sql, results=[{
            "columns": [{"name": "<img src=x onerror=alert(3)>", "oid": 25}, {"name": "?column?", "oid": 25}],
            "rows": [["<b>was</b>", "y"]], "copy": "", "truncated": False}]),
        event(2, "SELECT 1/0", "", outcome="error", error={"sqlstate": "22012", "message": "<i>"}),
    ])
    assert done.exit_code == 1 and report["classes"] == {"values": 1}, done.output
    assert "\x1b" not in done.output and "[bold]" in done.output
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;alert(2)" in page and "&lt;b&gt;was&lt;/b&gt;" in page
    assert "<script>alert" not in page and "<img" not in page and "<b>was" not in page and page.count("<script>") == 1
    assert "http" not in page.replace("http-equiv", ""), "nothing is loaded from anywhere"


def test_a_session_that_is_lost_does_not_hold_the_others(postgres: PostgresServer, tmp_path: Path) -> None:
    done, report = replay(tmp_path, postgres.dsn("postgres"), [
        event(1, "SELECT pg_terminate_backend(pg_backend_pid())", outcome="unknown"), event(3, "SELECT 3"),
        event(2, "SELECT 2", session="b" * 16), event(4, "SELECT 4", session="b" * 16),
    ])
    found = {step["sql"][-1]: (step["status"], step["class"]) for step in report["steps"]}
    assert found == {")": ("skipped", "no-connection"), "3": ("skipped", "no-connection"), "2": ("same", ""),
                     "4": ("same", "")}
    assert done.exit_code == 1
    assert all("terminating connection" in step["why"] for step in report["steps"] if step["status"] == "skipped")


def test_what_runs_too_long_is_cancelled(postgres: PostgresServer, tmp_path: Path) -> None:
    done, report = replay(
        tmp_path, postgres.dsn("postgres", "app"), [event(1, "SELECT pg_sleep(60)"), event(2, "SELECT 2")],
        "--timeout", "1s")
    assert [(step["status"], step["class"]) for step in report["steps"]] == [("differs", "stalled"), ("same", "")]
    assert "it ran for more than 1 s; it was cancelled" in done.output


def test_locks_that_are_never_let_go(postgres: PostgresServer, tmp_path: Path) -> None:
    with postgres.database("replay_locks", "CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)") as name:
        done, report = replay(tmp_path, postgres.dsn(name, "app"), [
            event(1, "UPDATE t SET id = 2", "UPDATE 1", rows=0), event(2, "UPDATE t SET id = 3", "UPDATE 1", rows=0,
                                                                         session="b" * 16),
            event(3, "SELECT id FROM t"),
        ], "--in-transaction")
    assert [step["class"] for step in report["steps"]] == ["", "stalled", ""], done.output
    assert report["stalls"][0]["held_by"] == ["a" * 16] and "never lets go" in done.output


@pytest.mark.parametrize(("options", "said"), [
    (["--speed", "0"], "above 0"), (["--speed", "fast"], "above 0"), (["--timeout", "x"], "duration"),
    (["--stop-at", "soon"], "is no time"), (["--stop-at", "17"], "no such statement"), (["--stop-at", ":9"], "no such"),
    (["--user", "x"], "choose when you export"),
])
def test_options_that_make_no_sense(postgres: PostgresServer, tmp_path: Path, options: list[str], said: str) -> None:
    done, report = replay(tmp_path, postgres.dsn("postgres", "app"), [event(1, "SELECT 1")], *options)
    assert done.exit_code == 2 and said in done.output and not report


def test_sandboxes_that_are_not_there(tmp_path: Path) -> None:
    done, report = replay(tmp_path, "host=127.0.0.1 port=1 dbname=x password=hunter2", [event(1, "SELECT 1")])
    assert done.exit_code == 1 and "the sandbox cannot be used" in done.output and "hunter2" not in done.output
    assert not report
