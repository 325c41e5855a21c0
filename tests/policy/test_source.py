"""Reading policy.yaml: every problem at once, the traps of YAML, both forms of a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hoopfast import model
from hoopfast.errors import ConfigError
from hoopfast.policy import source
from hoopfast.policy.kinds import KINDS

CONNECTIONS = ("orders-prod", "orders-staging", "billing")


def parse(text: str) -> source.Policy:
    return source.parse_policy(text, "policy.yaml", CONNECTIONS)


def faults(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return {p.path: p.what for p in caught.value.problems}


def mask(entry: str) -> model.MaskSpec:
    (only,) = parse(f"masks: [{{columns: [a.b.c], {entry}}}]").masks
    return source.mask_spec(only)[0]


def test_the_example_of_the_documents() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
    policy = parse(text.split("```yaml\n")[1].split("```")[0])
    assert [rule.name for rule in policy.rules] == ["destructive", "unfiltered", "unreadable", "no-grants"]
    assert policy.masks[1].unless == source.People(groups=("support-leads",))


def test_the_documents_list_every_kind() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
    assert not [kind for kind in KINDS if f"`{kind}`" not in text]


def test_many_problems_at_once() -> None:
    found = faults("""\
access:
  - {groups: [eng], connections: [orders-prod, orders-pord]}
  - {connections: ["*"]}
  - {groups: [], connections: ["test-*"], users: [5]}
masks:
  - {columns: [customers.ssn, public.Customers.ssn, 'a.b."c', a.b.c, a.b.c, "a.*.c", a..c], with: redakt}
  - {columns: [a.b.c], with: constant, keep: 4}
  - {columns: [a.b.c], with: {partial: {keep: 0}}, unless: {}}
  - {columns: [a.b.c]}
rules:
  - {name: x, when: {statements: [DROP TABLE, selct, explode]}, action: approve}
  - {name: x, when: {tables: [a.b.c, Public.x], connections: [nowhere]}, action: deny, approvers: {groups: [dba]}}
  - {name: y, when: {}, action: approve, approvers: {groups: [dba], count: 0}, expires: 15 minutes}
  - {name: z, when: {}, action: approve, approvers: {groups: []}, expires: 30d}
  - {name: w, action: forbid, wen: {}}
  - {name: v, when: {statements: []}, action: deny, expires: 15m}
ruls: []
""")
    assert set(found) == {
        "$.access[0].connections[1]", "$.access[1]", "$.access[2].groups", "$.access[2].connections[0]",
        "$.access[2].users[0]", "$.masks[0].columns[0]", "$.masks[0].columns[1]", "$.masks[0].columns[2]",
        "$.masks[0].columns[4]", "$.masks[0].columns[5]", "$.masks[0].columns[6]", "$.masks[0].with",
        "$.masks[1]", "$.masks[1].keep", "$.masks[2].with.partial.keep", "$.masks[2].unless", "$.masks[3].with",
        "$.rules[0].when.statements[0]", "$.rules[0].when.statements[1]", "$.rules[0].when.statements[2]", "$.rules[0]",
        "$.rules", "$.rules[1].when.tables[0]", "$.rules[1].when.tables[1]", "$.rules[1].when.connections[0]",
        "$.rules[1].approvers", "$.rules[2].approvers.count", "$.rules[2].expires", "$.rules[3].approvers.groups",
        "$.rules[3].expires", "$.rules[4].when", "$.rules[4].action", "$.rules[4].wen", "$.rules[5].when.statements",
        "$.rules[5].expires", "$.ruls",
    }
    assert "did you mean drop_table?" in found["$.rules[0].when.statements[0]"]
    assert "did you mean select?" in found["$.rules[0].when.statements[1]"]
    assert "did you mean redact?" in found["$.masks[0].with"]
    assert "orders-pord" in found["$.access[0].connections[1]"]
    assert "orders-prod" in found["$.access[0].connections[1]"]
    assert "same name: x" in found["$.rules"]
    assert "double quotes" in found["$.masks[0].columns[1]"]
    assert found["$.ruls"].endswith("(line 17)")


def test_load_reads_a_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("access: [{groups: [a], connections: [elsewhere]}]\n")
    assert source.load_policy(path).access[0].connections == ("elsewhere",)
    with pytest.raises(ConfigError) as caught:
        source.load_policy(path, CONNECTIONS)
    assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        source.load_policy(tmp_path / "none.yaml")


def test_an_empty_policy_is_valid_and_lets_nobody_in() -> None:
    assert parse("") == source.Policy()


def test_words_that_yaml_1_1_would_change() -> None:
    policy = parse("access: [{groups: [no, on, yes], users: [off], connections: ['*']}]\n")
    assert policy.access[0].groups == ("no", "on", "yes")
    assert policy.access[0].users == ("off",)


@pytest.mark.parametrize("word", ["null", '"null"', "'null'", "~", "Null"])
def test_null_with_and_without_quotes(word: str) -> None:
    assert mask(f"with: {word}").kind == model.MASK_NULL


@pytest.mark.parametrize(("entry", "kind", "keep", "constant"), [
    ("with: redact", model.MASK_REDACT, 0, b""),
    ("with: email", model.MASK_EMAIL, 0, b""),
    ("with: hash", model.MASK_HASH, 0, b""),
    ("with: partial", model.MASK_PARTIAL, 4, b""),
    ("with: partial, keep: 2", model.MASK_PARTIAL, 2, b""),
    ("with: {partial: {keep: 3}}", model.MASK_PARTIAL, 3, b""),
    ("with: {partial: {}}", model.MASK_PARTIAL, 4, b""),
    ("with: constant, value: hidden", model.MASK_CONSTANT, 0, b"hidden"),
    ("with: constant, value: ''", model.MASK_CONSTANT, 0, b""),
    ("with: constant, value: 0", model.MASK_CONSTANT, 0, b"0"),
    ("with: constant, value: 007", model.MASK_CONSTANT, 0, b"007"),
    ("with: constant, value: 1970-01-01", model.MASK_CONSTANT, 0, b"1970-01-01"),
    ("with: {constant: {value: ä}}", model.MASK_CONSTANT, 0, "ä".encode()),
    ("with: {redact: {}}", model.MASK_REDACT, 0, b""),
    ("with: {redact: {inside: true}}", model.MASK_REDACT, 1, b""),
    ("with: token", model.MASK_TOKEN, 1, b""),
    ("with: {token: {version: 3}}", model.MASK_TOKEN, 3, b""),
    ("with: {hash: {version: 3}}", model.MASK_HASH, 0, b""),
    ("with: ff1", model.MASK_FF1, 0, b""),
    ("with: {ff1: {alphabet: upper}}", model.MASK_FF1, 3, b""),
    ("with: {bucket: {size: 1000}}", model.MASK_BUCKET, 0, b"1000"),
    ("with: {bucket: {size: 0.5}}", model.MASK_BUCKET, 0, b"0.5"),
    ("with: {bucket: {size: 1e3}}", model.MASK_BUCKET, 0, b"1000"),
    ("with: {bucket: {size: quarter}}", model.MASK_BUCKET, 6, b""),
    ("with: {bucket: {size: /24}}", model.MASK_BUCKET, 10, b"24"),
])
def test_both_forms_of_masks(entry: str, kind: int, keep: int, constant: bytes) -> None:
    assert mask(entry) == model.MaskSpec(kind=kind, keep=keep, constant=constant)


@pytest.mark.parametrize(("entry", "path"), [
    ("with: redact, keep: 2", ".keep"), ("with: null, value: x", ".value"),
    ("with: {partial: {keep: 2}}, keep: 2", ".keep"),
    ("with: {constant: {value: x}}, value: y", ".value"), ("with: constant", ""), ("with: constant, value: null", ""),
    ("with: constant, value: 1.10", ".value"), ("with: constant, value: true", ".value"), ("with: {}", ".with"),
    ("with: {partial: {keep: 1}, constant: {value: x}}", ".with"),
    ("with: {redact: {outside: true}}", ".with.redact.outside"),
    ("with: [redact]", ".with"), ("with: 5", ".with"), ("with: partial, keep: 1000", ".keep"),
    ("with: bucket", ".with"), ("with: {bucket: {}}", ".with.bucket.size"),
    ("with: {bucket: {size: 0}}", ".with.bucket.size"), ("with: {bucket: {size: fortnight}}", ".with.bucket.size"),
    ("with: {bucket: {size: /33}}", ".with.bucket.size"), ("with: {bucket: {size: 1e-30}}", ".with.bucket.size"),
    ("with: {bucket: {size: 1234567890123456}}", ".with.bucket.size"), ("with: token, keep: 3", ".keep"),
    ("with: {token: {version: 0}}", ".with.token.version"), ("with: {ff1: {alphabet: greek}}", ".with.ff1.alphabet"),
    ('with: {ff1: {key: "a\\0b"}}', ".with.ff1.key"),
    ("with: {constant: {}}", ".with.constant.value"), ("with: redact, unless: {groups: []}", ".unless.groups"),
])
def test_bad_masks(entry: str, path: str) -> None:
    assert f"$.masks[0]{path}" in faults(f"masks: [{{columns: [a.b.c], {entry}}}]")


def test_builtins_and_back_by_msgpack() -> None:
    policy = parse("""\
access: [{groups: [a], connections: ["*"]}]
masks:
  - {columns: [a.b.c], with: null}
  - {columns: [a.b.d], with: {constant: {value: 5}}, unless: {users: [x]}}
rules: [{name: r, when: {unfiltered: false}, action: approve, approvers: {groups: [dba]}, expires: 1h}]
""")
    wire: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(source.to_builtins(policy)))
    assert source.from_builtins(wire) == policy


def test_the_schema() -> None:
    schema = source.json_schema()
    assert set(schema["$defs"]["Policy"]["properties"]) == {"access", "masks", "hidden", "rules"}
    assert "with" in schema["$defs"]["Mask"]["required"]


def test_masked_columns_by_connection() -> None:
    columns = source.masked_columns(parse("""\
masks:
  - {columns: ['a."B".c', a.b.c], with: redact, unless: {users: ["*"]}}
  - {columns: [a.b.c, a.b.d], with: hash, connections: ["orders-*"]}
"""))
    assert columns("billing") == (("a", "B", "c"), ("a", "b", "c"))
    assert columns("orders-prod") == (("a", "B", "c"), ("a", "b", "c"), ("a", "b", "d"))
