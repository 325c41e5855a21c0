"""The JSON Schema of the events, made from the structs (audit.events), so that the two cannot drift apart. Pure.

Published as docs/events.schema.json and printed by `hoopfast audit schema`.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from hoopfast.audit.events import OUTCOMES, RUNNING, SCHEMA, Event

ID = f"https://hoopfast.dev/schemas/audit-event-{SCHEMA}.json"
_PATTERNS = {
    "session": "^[0-9a-f]{16}$",
    "at": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{9}Z$",
}
_KINDS = ("simple", "extended", "parse", "function", "lost")


_OPTIONAL = frozenset(
    field.name for kind in get_args(Event) for field in msgspec.structs.fields(kind) if field.default is msgspec.UNSET)


def events_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of one event. Within a version fields are only added, so unknown ones are allowed."""
    (_,), defs = msgspec.json.schema_components([Event], ref_template="#/$defs/{name}")
    kinds = {}
    for name, part in defs.items():
        fields = part.get("properties", {})
        if "event" in fields:
            kinds[fields["event"]["enum"][0]] = f"#/$defs/{name}"
            fields["schema"] = {"const": SCHEMA}
            for field, pattern in _PATTERNS.items():
                fields[field]["pattern"] = pattern
            # Everything is written, also what has its usual value, but for what says that there is none.
            part["required"] = [field for field in fields if field not in _OPTIONAL]
    statement = defs["Statement"]["properties"]
    statement["outcome"] = {"enum": sorted({*OUTCOMES.values(), RUNNING})}
    statement["kind"] = {"enum": list(_KINDS)}
    for field in ("row_limit", "rows", "bytes", "copy_bytes", "duration_us", "first_row_us"):
        statement[field]["minimum"] = 0
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "hoopfast audit event",
        "description": "One line of the audit trail; docs/audit.md says what the fields mean.",
        "oneOf": [{"$ref": reference} for reference in kinds.values()],
        "$defs": defs,
    }
