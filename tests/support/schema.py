"""Every event that a gateway under test has written is one that the published schema describes."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import jsonschema_rs
import orjson

from hoopfast.audit.schema import events_schema
from hoopfast.audit.sinks.jsonl_seal import event_files, open_events


@functools.cache
def validator() -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(events_schema())


def faults(lines: Iterable[bytes]) -> list[str]:
    """What is wrong with these events, in words; the first few."""
    found = []
    for line in lines:
        event = orjson.loads(line)
        if not validator().is_valid(event) and len(found) < 5:
            found += [f"{line[:300].decode()}: {error.message[:300]}" for error in validator().iter_errors(event)][:2]
    return found


def faults_of(directory: Path) -> list[str]:
    """Of the files of a jsonl sink. The last line may be half written, when its gateway was killed."""
    lines: list[bytes] = []
    for path in event_files(directory):
        with open_events(path) as file:
            lines += [line for line in file.read().split(b"\n") if line.endswith(b"}")]
    return faults(lines)
