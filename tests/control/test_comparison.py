"""Two versions of a policy, asked about recorded statements."""

from __future__ import annotations

from typing import Any

from hoopfast.control.comparison import Comparison
from hoopfast.policy import source
from hoopfast.policy.snapshot import Snapshot, compile_for

OLD = """\
access: [{groups: [eng], connections: ["*"]}]
masks: [{columns: [public.a.old], with: redact}, {columns: [public.a.kept], with: redact}]
rules: [{name: drops, when: {statements: [drop]}, action: deny}]
"""
NEW = """\
access: [{groups: [eng], connections: [shop]}]
masks: [{columns: [public.a.kept], with: redact}, {columns: [public.a.new], with: redact}]
rules:
  - {name: nights, when: {statements: [delete], during: [{from: "18:00", to: "08:00"}]}, action: deny}
  - {name: inside, when: {statements: [update], addresses: [10.0.0.0/8]}, action: deny}
  - {name: fast, when: {statements: [function_call]}, action: deny}
"""


def compiled(text: str, name: str) -> Snapshot:
    return compile_for([name], source.parse_policy(text, "p"), 1, bytes(32))


def event(sql: str, **changes: Any) -> dict[str, Any]:
    return {"event": "statement", "kind": "simple", "sql": sql, "user": "ann", "groups": ["eng"], "connection": "shop",
            "client": "10.0.0.7:4000", "application": "psql", "at": "2026-01-05T12:00:00.000000000Z", **changes}


def compare(*events: dict[str, Any]) -> Comparison:
    found = Comparison(lambda name: (compiled(OLD, name), compiled(NEW, name)))
    for one in events:
        found.add(one)
    return found


def test_equal_changes_are_counted_together() -> None:
    found = compare(
        event("DROP TABLE x"), event("SELECT 1"),
        event("DROP TABLE x", at="2026-01-06T12:00:00.000000000Z", client="10.0.0.7:5000"),
        event("DROP TABLE x", user="bob"),
        {"event": "session_start", "user": "ann"},
    )
    assert (found.statements, found.changed) == (4, 3)
    first, second = found.changes
    assert (first.user, first.times, first.last[:10]) == ("ann", 2, "2026-01-06")
    assert (first.old, first.new) == (("deny", "drops"), ("allow", ""))
    assert (second.user, second.times) == ("bob", 1)


def test_the_time_and_the_place_are_those_of_the_statement() -> None:
    night = "2026-01-05T23:00:00.000000000Z"
    found = compare(
        event("DELETE FROM x"), event("DELETE FROM x", at=night), event("UPDATE x SET a = 1"),
        event("UPDATE x SET a = 1", client="192.0.2.1:5"), event("DELETE FROM x"),
    )
    assert {(c.sql, c.new, c.times) for c in found.changes} == {
        ("DELETE FROM x", ("deny", "nights"), 1), ("UPDATE x SET a = 1", ("deny", "inside"), 1)}


def test_who_comes_in_no_more() -> None:
    (change,) = compare(event("SELECT 1", connection="elsewhere")).changes
    assert (change.old, change.new) == (("allow", ""), ("no-entry", ""))


def test_function_calls_and_what_was_lost() -> None:
    found = compare(event("", kind="function"), event("", kind="lost"), event(""))
    assert (found.statements, found.skipped) == (1, 2)
    assert found.changes[0].new == ("deny", "fast")


def test_hidden_columns_are_compared_by_name() -> None:
    found = compare(event("SELECT 1"))
    assert found.hidden == {"shop": {"public.a.new"}} and found.shown == {"shop": {"public.a.old"}}


def test_text_that_is_no_sql_changes_nothing() -> None:
    assert not compare(event("SELEC")).changes
