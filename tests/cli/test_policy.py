"""`hoopfast policy` and `hoopfast explain` without gateway and database: what they print and how they exit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hoopfast.cli import offline
from hoopfast.cli.main import main
from hoopfast.policy import source
from tests.worker.desk import catalog

POLICY = """\
access: [{groups: [eng], connections: [shop]}]
masks: [{columns: [public.customers.ssn], with: redact, unless: {groups: [leads]}}]
rules:
  - {name: drops, when: {statements: [drop]}, action: approve, approvers: {groups: [dba]}, reason: rows are gone}
  - {name: nights, when: {statements: [delete], during: [{to: "06:00"}]}, action: deny}
  - {name: careful, when: {statements: [update]}, action: warn}
"""
HEAD = "policy: policy.yaml\ndefaults: {user: ann, groups: [eng], connection: shop}\ntests:\n"
CONFIG = """\
connections:
  shop: {upstream: {host: 127.0.0.1, port: 1, database: d, user: u, tls: disable}}
policy: policy.yaml
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOOPFAST_CONFIG", raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def judge(directory: Path, tests: str, *options: str) -> Result:
    (directory / "tests.yaml").write_text(HEAD + tests)
    return run("policy", "test", "tests.yaml", *options)


def keep_catalog(directory: Path, policy: str = POLICY, name: str = "shop") -> None:
    data = offline.save_catalog(source.parse_policy(policy, "p"), name, catalog())
    (directory / "shop.json").write_bytes(data)


# ---------------------------------------------------------------- policy test

def test_everything_as_expected(directory: Path) -> None:
    done = judge(directory, """\
  - {name: held, sql: DROP TABLE orders, verdict: approve, rule: drops}
  - {name: outside, groups: [], verdict: no-entry}
  - {name: inside, verdict: enter}
  - {name: at night, sql: DELETE FROM a, at: 2026-01-05T03:00Z, verdict: deny, rule: nights}
  - {name: by day, groups: [eng, leads], sql: DELETE FROM a, at: 2026-01-05T12:00Z, verdict: allow, rule: ""}
  - {name: warned, groups: [eng, leads], sql: UPDATE a SET b = 1, verdict: warn}
""")
    assert done.exit_code == 0, done.output
    assert "6 tests: 6 as expected, 0 not, 0 not judged" in done.output


def test_a_failure_says_what_was_expected_and_what_came(directory: Path) -> None:
    done = judge(directory, """\
  - {name: held, sql: 'DROP  TABLE "[red]x"', groups: [eng, leads], verdict: deny}
  - {name: other rule, groups: [eng, leads], sql: DROP TABLE x, verdict: approve, rule: nights}
""")
    assert done.exit_code == 1
    assert "FAILED held" in done.output and "ann (eng, leads) on shop" in done.output
    assert 'DROP TABLE "[red]x"' in done.output, "SQL is no markup"
    assert 'expected approve by rule "nights"' in done.output
    assert 'got      approve by rule "drops": rows are gone' in done.output
    assert "2 tests: 0 as expected, 2 not, 0 not judged" in done.output


MASKED = """\
  - {name: plain, sql: SELECT ssn FROM customers, verdict: allow}
  - {name: computed, sql: SELECT upper(ssn) FROM customers, verdict: deny, rule: masking}
  - {name: lead, groups: [eng, leads], sql: SELECT upper(ssn) FROM customers, verdict: allow}
"""


def test_what_needs_a_catalog_says_so(directory: Path) -> None:
    done = judge(directory, MASKED)
    assert done.exit_code == 2
    assert "1 as expected, 0 not, 2 not judged" in done.output and "--live" in done.output
    assert judge(directory, MASKED, "--rules-only").exit_code == 1, "the rules alone let it pass"


def test_no_catalog_helps_where_the_rules_say_something_else(directory: Path) -> None:
    assert judge(directory, "  - {sql: SELECT ssn FROM customers, verdict: approve}\n").exit_code == 1


def test_with_a_catalog_in_a_file(directory: Path) -> None:
    keep_catalog(directory)
    (directory / "tests.yaml").write_text("catalogs: {shop: shop.json}\n" + HEAD + MASKED)
    done = run("policy", "test", "tests.yaml")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(("policy", "name", "says"), [
    (POLICY.replace("s.ssn", "s.name"), "shop", "before these columns were masked: public.customers.ssn"),
    (POLICY, "other", "catalog of other"),
])
def test_a_catalog_that_does_not_fit(directory: Path, policy: str, name: str, says: str) -> None:
    keep_catalog(directory, policy, name)
    (directory / "tests.yaml").write_text("catalogs: {shop: shop.json}\n" + HEAD + MASKED)
    done = run("policy", "test", "tests.yaml")
    assert done.exit_code == 1 and says in done.output


def test_a_verdict_of_the_hour_needs_a_time(directory: Path) -> None:
    done = judge(directory, "  - {groups: [eng, leads], sql: DELETE FROM a, verdict: deny}\n")
    assert done.exit_code == 2 and "say `at`" in done.output


def test_broken_files_name_their_problems(directory: Path) -> None:
    done = judge(directory, "  - {sql: SELECT 1, verdict: maybe}\n")
    assert done.exit_code == 1 and "$.tests[0].verdict" in done.output
    (directory / "policy.yaml").write_text("rules: [{name: a, when: {}, action: forbid}]")
    done = judge(directory, "  - {sql: SELECT 1, verdict: allow}\n")
    assert done.exit_code == 1 and "$.rules[0].action" in done.output


# ---------------------------------------------------------------- policy diff

def test_differences_of_the_files(directory: Path) -> None:
    changed = POLICY.replace("action: warn", "action: deny").replace("name: nights", "name: late")
    (directory / "new.yaml").write_text(changed.replace("[eng]", "[e]"))
    done = run("policy", "diff", "policy.yaml", "new.yaml")
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        '- access: {"connections":["shop"],"groups":["eng"]}', '+ access: {"connections":["shop"],"groups":["e"]}',
        "- rule nights: deny", "+ rule late: deny", "~ rule careful: other action"]
    assert run("policy", "diff", "policy.yaml", "policy.yaml").exit_code == 0


def test_recorded_statements_from_a_file(directory: Path) -> None:
    event = {"event": "statement", "kind": "simple", "sql": "UPDATE a SET b = 1", "user": "ann", "groups": ["eng"],
             "connection": "shop", "client": "unix", "at": "2026-01-05T12:00:00.000000000Z"}
    events = (event, event, event | {"sql": "BEGIN"})
    (directory / "events.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in events))
    (directory / "new.yaml").write_text(POLICY.replace("action: warn", "action: deny"))
    done = run("policy", "diff", "policy.yaml", "new.yaml", "--events", "events.jsonl")
    assert done.exit_code == 1
    assert "warn (careful) -> deny (careful)  2 times, last 2026-01-05T12:00:00" in done.output
    assert "3 recorded statements, 2 would get another verdict" in done.output
    listed = run("policy", "diff", "policy.yaml", "new.yaml", "--events", "events.jsonl", "--json")
    assert json.loads(listed.output)["changes"][0]["new"] == ["deny", "careful"]
    assert run("policy", "diff", "policy.yaml", "policy.yaml", "--events", "events.jsonl").exit_code == 0


def test_recorded_statements_without_a_gateway(directory: Path) -> None:
    done = run("policy", "diff", "policy.yaml", "policy.yaml", "--on-recorded")
    assert done.exit_code == 2 and "say which gateway" in done.output


# ---------------------------------------------------------------- explain

def explained(directory: Path, sql: str, *options: str) -> Result:
    (directory / "hoopfast.yaml").write_text(CONFIG)
    return run("explain", sql, "--as", "ann", "--group", "eng", "--connection", "shop", *options)


def test_a_statement_with_a_kept_catalog(directory: Path) -> None:
    keep_catalog(directory)
    done = explained(directory, "SELECT c.ssn, lower(name) AS n FROM customers c", "--catalog", "shop.json")
    assert done.exit_code == 0, done.output
    for words in ("allow", "ann on shop", "groups: eng", "tables: customers", "customers.ssn", "functions: lower",
                  "ssn: column", "n: expression of name"):
        assert words in done.output, words


@pytest.mark.parametrize(("sql", "status", "words"), [
    ("DROP TABLE orders", 1, ['approve by rule "drops"', "because rows are gone", "waits for 1 of dba, at most 900 s"]),
    ("SELECT upper(ssn) FROM customers", 1, ['deny by rule "masking"', '"ssn" is hidden', "way out:"]),
    ("UPDATE orders SET a = 1", 0, ['warn by rule "careful"', "unfiltered", 'rule "careful" warns']),
    ("SELEC", 1, ["deny", "syntax error"]),
])
def test_what_becomes_of_it_and_why(directory: Path, sql: str, status: int, words: list[str]) -> None:
    keep_catalog(directory)
    done = explained(directory, sql, "--catalog", "shop.json")
    assert done.exit_code == status, done.output
    for word in words:
        assert word in done.output, done.output


def test_what_is_not_sure_offline(directory: Path) -> None:
    done = explained(directory, "SELECT ssn FROM customers", "--offline")
    assert done.exit_code == 2 and "not sure: columns are hidden" in done.output


def test_the_hour_counts(directory: Path) -> None:
    night = explained(directory, "DELETE FROM a", "--offline", "--at", "2026-01-05T03:00Z")
    assert night.exit_code == 1 and 'deny by rule "nights"' in night.output and "another time of day" in night.output
    assert explained(directory, "DELETE FROM a", "--offline", "--at", "noon").exit_code == 2


def test_a_database_that_is_not_there(directory: Path) -> None:
    done = explained(directory, "SELECT 1")
    assert done.exit_code == 1 and "the database of shop cannot be asked" in done.output
