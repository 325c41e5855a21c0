"""The published schema: it is what the code makes, it takes every event and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from hoopfast._wire import json_lines
from hoopfast.audit.events import encode
from hoopfast.audit.schema import events_schema
from tests.audit.test_decoder import Chaos, by_core, segments
from tests.audit.test_search import EVENTS, FULL
from tests.quality.sources import ROOT
from tests.support.schema import faults


def test_the_published_file_is_up_to_date() -> None:
    published = orjson.loads((ROOT / "docs" / "events.schema.json").read_bytes())
    assert published == orjson.loads(orjson.dumps(events_schema())), "hoopfast audit schema > docs/events.schema.json"


def test_the_document_has_an_example_of_each_event_and_every_action() -> None:
    text = (ROOT / "docs" / "events.md").read_text()
    examples = [orjson.loads(part) for part in re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
    events = [example["event"] for example in examples]
    assert events == ["session_start", "statement", "session_end", "note", "gateway"]
    assert faults(map(orjson.dumps, examples)) == []
    actions = set()
    for path in (ROOT / "hoopfast").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
                name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                if name in {"record", "_record", "gateway_event"}:
                    actions.add(call.args[0].value)
    assert len(actions) > 10
    assert not [action for action in actions if f"`{action}`" not in text]


def test_every_event_fits(tmp_path: Path) -> None:
    chaos = Chaos(tmp_path, 7)
    chaos.run(3000)
    lines = [encode(event) for event in EVENTS]
    lines += json_lines(by_core(segments(chaos.journal), chaos.random), encode).splitlines()
    assert len(lines) > 500
    assert faults(lines) == []


@pytest.mark.parametrize("change", [
    {"event": "statment"}, {"schema": 2}, {"session": "xyz"}, {"at": "2026-01-01T00:00:00Z"}, {"outcome": "fine"},
    {"kind": "other"}, {"rows": -1}, {"rows": "1"}, {"parameters": [1]}, {"groups": "eng"}, {"error": {"sqlstate": 1}},
    {"results": [{"columns": [["a", 23]]}]},
])
def test_what_no_gateway_writes_does_not_fit(change: dict[str, Any]) -> None:
    assert faults([orjson.dumps(orjson.loads(encode(FULL)) | change)])


def test_a_field_that_is_missing_does_not_fit() -> None:
    event = orjson.loads(encode(FULL))
    for name in event:
        assert faults([orjson.dumps({key: value for key, value in event.items() if key != name})]), name
