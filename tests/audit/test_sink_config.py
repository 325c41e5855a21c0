"""What a configuration may say of sinks, and the verbs about what is outside of the gateway's own stores."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from hoopfast.audit.events import encode
from hoopfast.audit.outlet import DeadLetters
from hoopfast.audit.sinks.base import letters_dir
from hoopfast.cli.audit import command
from hoopfast.config import load
from hoopfast.config_sinks import Sink, keep_days, named
from hoopfast.errors import ConfigError
from tests.audit.test_search import EVENTS

PLAIN = {"kind": "jsonl"}


def problems(tmp_path: Path, *sinks: dict[str, Any]) -> list[str]:
    file = tmp_path / "hoopfast.yaml"
    file.write_bytes(orjson.dumps({
        "connections": {"a": {"upstream": {"host": "127.0.0.1", "database": "a", "user": "u", "tls": "disable"}}},
        "audit": {"sinks": list(sinks)},
    }))
    try:
        load(file)
    except ConfigError as fault:
        return [f"{problem.path} {problem.what}" for problem in fault.problems]
    return []


@pytest.mark.parametrize("sink", [
    {"kind": "postgres", "dsn": "env:AUDIT", "keep": "90d", "partition": "month"},
    {"kind": "splunk", "url": "https://splunk:8088", "token": "env:HEC", "index": "audit"},
    {"kind": "elastic", "url": "https://es:9200", "index": "audit", "username": "u", "password": "env:P"},
    {"kind": "otlp", "url": "http://127.0.0.1:4318", "name": "collector", "required": True},
    {"kind": "s3", "bucket": "b", "lock": "compliance", "keep": "365d", "access_key": "env:A", "secret_key": "env:S"},
    {"kind": "kafka", "brokers": ["kafka:9093"], "topic": "audit"},
])
def test_good(tmp_path: Path, sink: dict[str, Any]) -> None:
    assert problems(tmp_path, PLAIN, sink) == []


@pytest.mark.parametrize(("sink", "said"), [
    ({"kind": "postgres"}, "$.audit.sinks[1].dsn is required"),
    ({"kind": "postgres", "dsn": "host=db password=secret"}, "$.audit.sinks[1].dsn must be a reference"),
    ({"kind": "postgres", "dsn": "env:A", "keep": "36h"}, "$.audit.sinks[1].keep '36h' must be whole days"),
    ({"kind": "sqlite", "url": "https://x"}, "$.audit.sinks[1].url is not used by a sink of kind sqlite"),
    ({"kind": "splunk", "url": "http://splunk:8088", "token": "env:T"}, "$.audit.sinks[1].url must be https"),
    ({"kind": "elastic", "url": "https://es", "index": "a", "password": "env:P"}, "only useful together"),
    ({"kind": "s3", "bucket": "b", "lock": "governance"}, "$.audit.sinks[1].lock needs `keep`"),
    ({"kind": "kafka", "brokers": ["kafka"], "topic": "t"}, "must be host:port"),
    ({"kind": "kafka", "brokers": ["kafka:9092"], "topic": "t", "tls": False}, "cross the network in the clear"),
    ({"kind": "otlp", "url": "https://c", "name": "Big Name"}, "$.audit.sinks[1].name may have small letters"),
    ({"kind": "otlp", "url": "https://c", "name": "jsonl"}, "two sinks have the same name"),
    ({"kind": "jsonl"}, "two sinks of one kind write to the same path"),
    ({"kind": "syslog"}, "must be"),
])
def test_bad(tmp_path: Path, sink: dict[str, Any], said: str) -> None:
    found = problems(tmp_path, PLAIN, sink)
    assert len(found) == 1 and said in found[0], found


def test_one_of_them_must_be_required(tmp_path: Path) -> None:
    found = problems(tmp_path, {"kind": "otlp", "url": "https://c"}, {**PLAIN, "required": False})
    assert len(found) == 1 and "none of them is `required`" in found[0]


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = problems(tmp_path, PLAIN, {"kind": "kafka", "brokers": ["kafka:9093"], "topic": "audit"})
    assert len(found) == 1 and "kafka needs a library that is missing: pip install 'hoopfast[kafka]'" in found[0]


def test_names_and_days() -> None:
    sinks = (Sink(kind="otlp", url="a"), Sink(kind="otlp", url="b"), Sink(kind="otlp", url="c", name="siem"))
    assert [name for name, _ in named(sinks)] == ["otlp", "otlp-2", "siem"]
    assert (keep_days(""), keep_days("2d")) == (0, 2)


def test_dead_letters_are_listed_and_put_aside(tmp_path: Path) -> None:
    (tmp_path / "hoopfast.yaml").write_text("state_dir: state\n")
    letters = DeadLetters(letters_dir(tmp_path / "state", "elastic"), "elastic")
    run, config = CliRunner().invoke, ["-c", str(tmp_path / "hoopfast.yaml")]
    assert run(command, ["dead", *config]).exit_code == 0
    letters.add([encode(event) for event in EVENTS[:2]], "400: mapper_parsing_exception")
    listed = run(command, ["dead", *config])
    assert listed.exit_code == 1
    assert "elastic" in listed.output and "mapper_parsing_exception" in listed.output
    assert f"{EVENTS[0].session}/{EVENTS[0].seq}" in listed.output
    whole = run(command, ["dead", "--json", *config]).output.splitlines()
    assert [orjson.loads(line)["event"]["seq"] for line in whole] == [event.seq for event in EVENTS[:2]]
    assert run(command, ["dead", "--sink", "other", *config]).exit_code == 0
    assert run(command, ["dead", "--forget", *config]).exit_code == 0
    assert run(command, ["dead", *config]).exit_code == 0
    assert (tmp_path / "state" / "ship" / "elastic" / "dead.jsonl.forgotten").exists()


def test_schema_and_sql_are_printed() -> None:
    run = CliRunner().invoke
    assert orjson.loads(run(command, ["schema"]).output)["title"] == "hoopfast audit event"
    assert "'month'" in run(command, ["postgres", "--keep", "30d", "--partition", "month"]).output
    assert 'TO "add"' in run(command, ["postgres", "--grants-only", "--writer", "add"]).output
    assert run(command, ["postgres", "--keep", "soon"]).exit_code == 2
