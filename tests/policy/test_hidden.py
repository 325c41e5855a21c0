"""`hidden` and the knobs beside masks: whose they are, which counts, and what is said of mistakes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from hoopfast.errors import ConfigError
from hoopfast.knobs import SAFE, Handling, Knobs
from hoopfast.model import Identity, Ruling
from hoopfast.policy import source
from hoopfast.policy.snapshot import Snapshot, also_held, compile_for

PLACES = ("orders-prod", "billing")


def compiled(text: str) -> Snapshot:
    return compile_for(PLACES, source.parse_policy(text, "policy.yaml", PLACES), 1, bytes(32))


def person(*groups: str) -> Identity:
    return Identity(user="ann@x", subject="1", issuer="test", groups=groups)


POLICY = """\
masks:
  - {columns: [p.e.salary], with: "null", aggregates: sum}
  - {columns: [p.c.ssn], with: redact, control: none}
hidden:
  - {groups: [analysts], aggregates: none, control: any}
  - {connections: [billing], derived: redact, errors: strict}
  - {users: ["ann@*"], explain: deny, derived: deny}
  - {opaque: approve, approvers: {groups: [dba], count: 2}, expires: 30m}
  - {opaque: deny, sink: approve, approvers: {groups: [lead]}}
"""


def test_who_may_what_with_which_column() -> None:
    snapshot = compiled(POLICY)
    found = {one.column: one.handling for one in snapshot.masks_for(person("analysts"), "billing")}
    assert found == {
        "salary": Handling(derived="redact", control="any", aggregates="sum"),
        "ssn": Handling(derived="redact", control="none", aggregates="none"),
    }
    found = {one.column: one.handling for one in snapshot.masks_for(person(), "orders-prod")}
    assert found == {"salary": Handling(aggregates="sum"), "ssn": Handling(control="none")}
    knobs = snapshot.knobs_for(person(), "billing")
    assert (knobs.errors, knobs.explain) == ("strict", "deny")
    asked = {name: (one.approver_groups, one.approvals_needed, one.expires_s) for name, one in knobs.approvals.items()}
    assert asked == {"opaque": (("dba",), 2, 1800.0), "sink": (("lead",), 1, 900.0)}


def test_without_any_it_is_safe() -> None:
    snapshot = compiled("masks: [{columns: [p.c.ssn], with: redact}]")
    assert snapshot.knobs_for(person(), "billing") == Knobs()
    assert [one.handling for one in snapshot.masks_for(person(), "billing")] == [SAFE]


def test_equal_classes_have_equal_knobs() -> None:
    snapshot = compiled(POLICY)
    seen: dict[tuple[str, str], object] = {}
    for where, groups in itertools.product(PLACES, [(), ("analysts",), ("dba",), ("analysts", "dba")]):
        who = person(*groups)
        found = (snapshot.knobs_for(who, where), snapshot.masks_for(who, where))
        assert seen.setdefault((where, snapshot.identity_class(who, where)), found) == found
    assert len(seen) == 4


def test_a_rule_and_a_knob_become_one_request() -> None:
    held = Ruling(action="approve", rule="masking", reason="why", approver_groups=("dba",), approvals_needed=1,
                  expires_s=60)
    rule = Ruling(action="approve", rule="r", reason="rule", approver_groups=("lead", "dba"), approvals_needed=2,
                  expires_s=90)
    both = also_held(rule, held)
    assert (both.approver_groups, both.approvals_needed, both.expires_s, both.reason) == (("dba",), 2, 60, "rule; why")
    assert also_held(Ruling(action="deny", rule="no"), held).action == "deny"
    assert also_held(Ruling(action="limit", rule="l", limit_s=5, limit_rule="l"), held).limit_s == 5
    other = Ruling(action="approve", rule="r", approver_groups=("lead",), approvals_needed=1, expires_s=90)
    assert also_held(other, held).action == "deny"


@pytest.mark.parametrize(("entry", "path", "what"), [
    ("{groups: [a]}", "hidden[0]", "allows and forbids nothing"),
    ("{opaque: approve}", "hidden[0]", "needs `approvers"),
    ("{control: any, approvers: {groups: [a]}}", "hidden[0].approvers", "belongs to"),
    ("{control: all}", "hidden[0].control", "any"),
    ("{errors: strict, connections: [nowhere]}", "hidden[0].connections[0]", "no connection nowhere"),
    ("{sink: approve, approvers: {groups: [a]}, expires: 9 days}", "hidden[0].expires", ""),
    ("{derive: redact}", "hidden[0].derive", "derived"),
])
def test_mistakes_are_named(entry: str, path: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        source.parse_policy(f"hidden: [{entry}]", "policy.yaml", PLACES)
    assert [p.path for p in caught.value.problems] == [f"$.{path}"] and what in caught.value.problems[0].what


def test_every_knob_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "hidden-columns.md").read_text()
    assert not [knob for knob in source.KNOBS if f"| `{knob}` |" not in text]
