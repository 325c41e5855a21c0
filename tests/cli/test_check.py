"""`hoopfast check`: all problems of both files with status 1, a summary and notes with status 0."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hoopfast.cli.check import command

GOOD = """\
connections:
  orders: {upstream: {host: 127.0.0.1, database: o, user: u, password: env:HF_TEST_CHECK}}
identity: [{name: okta, issuer: https://id.example.com, audience: gw}]
admin: {approvers: [dba]}
"""
POLICY = """\
access: [{groups: [eng], connections: [orders]}]
masks: [{columns: [a.b.c, a.b.d], with: redact}]
rules:
  - {name: ask-first, when: {statements: [drop]}, action: approve, approvers: {groups: [dba]}}
  - {name: blind, when: {opaque: true}, action: deny}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_TEST_CHECK", "hunter2")
    (tmp_path / "hoopfast.yaml").write_text(GOOD)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path


def check(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(command, ["-c", str(folder / "hoopfast.yaml"), *options])


def test_good_files(files: Path) -> None:
    result = check(files)
    assert result.exit_code == 0, result.output
    for part in ("orders: o on 127.0.0.1:5432", "okta: https://id.example.com", "ask-first: approve",
                 "1 access rule, 2 masked columns, 2 statement rules"):
        assert part in result.output
    assert "note" not in result.output
    assert "hunter2" not in result.output


def test_problems_of_both_files_and_of_secrets_come_together(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TEST_CHECK")
    (files / "policy.yaml").write_text(POLICY.replace("orders", "order").replace("redact", "redakt"))
    result = check(files)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert len(lines) == 3
    assert f"{files}/policy.yaml: $.access[0].connections[0]: " in lines[0]
    assert f"{files}/policy.yaml: $.masks[0].with: " in lines[1]
    assert lines[2].startswith(f"{files}/hoopfast.yaml: $.connections.orders.upstream.password: env:HF_TEST_CHECK")
    assert len(check(files, "--no-secrets").output.splitlines()) == 2


def test_a_broken_configuration_does_not_hide_the_policy(files: Path) -> None:
    (files / "hoopfast.yaml").write_text(GOOD + "policy: rules/p.yaml\nlog_level: loud\n")
    (files / "rules").mkdir()
    (files / "rules" / "p.yaml").write_text(POLICY.replace("orders", "billing").replace("drop", "dorp"))
    lines = check(files).output.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "$.log_level", "$.access[0].connections[0]", "$.rules[0].when.statements[0]"]


@pytest.mark.parametrize("text", ["", "a: [", "- x", "policy: 5\nconnections: {}", "policy: [x]"])
def test_nonsense(files: Path, text: str) -> None:
    (files / "hoopfast.yaml").write_text(text)
    result = check(files)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "$" in result.output


def test_missing_files(files: Path) -> None:
    (files / "policy.yaml").unlink()
    assert "policy.yaml: $: there is no such file" in check(files).output
    (files / "hoopfast.yaml").unlink()
    result = check(files)
    assert result.exit_code == 1
    assert "hoopfast.yaml: $: there is no such file" in result.output


def test_development_issuers_are_refused(files: Path) -> None:
    (files / "hoopfast.yaml").write_text(
        GOOD.replace("{name: okta, issuer: https://id.example.com", "{name: dev, development: true, issuer: http://127.0.0.1:1"))
    result = check(files)
    assert result.exit_code == 1
    assert "$.identity[0].development" in result.output


def test_notes_tell_what_is_valid_and_perhaps_not_meant(files: Path) -> None:
    (files / "hoopfast.yaml").write_text(
        "connections: {orders: {upstream: {host: db.internal, database: o, user: u, tls: require}}}\n")
    (files / "policy.yaml").write_text(
        "rules: [{name: r, when: {statements: [drop]}, action: approve, approvers: {groups: [dba]}}]\n")
    result = check(files)
    assert result.exit_code == 0
    notes = [line for line in result.output.splitlines() if line.startswith("note: ")]
    assert len(notes) == 5
    for word in ("no issuer", "lets anybody in", "db.internal", "approver groups", "opaque: true"):
        assert sum(word in note for note in notes) == 1


def test_a_terminal_gets_a_table(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    (files / "policy.yaml").write_text("masks: [{columns: [a.b], with: redact}]\n")
    result = check(files)
    assert result.exit_code == 1
    assert "1 problem" in result.output
    assert "$.masks[0].columns[0]" in result.output


@pytest.mark.parametrize(("options", "title"), [((), "Config"), (("config",), "Config"), (("policy",), "Policy")])
def test_schema(options: tuple[str, ...], title: str) -> None:
    result = CliRunner().invoke(command, ["--schema", *options])
    assert result.exit_code == 0
    assert json.loads(result.output)["$ref"].endswith(title)
