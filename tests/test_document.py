"""YAML without surprises: traps of YAML 1.1, equal keys, bounds; what the file says is never in a problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoopfast import document


def parse(text: str) -> tuple[object, list[str]]:
    report = document.Report("f.yaml")
    return document.parse(text, report), [str(p) for p in report.problems]


@pytest.mark.parametrize(("text", "value"), [
    ("no", "no"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"),
    ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
    ("22:30", "22:30"), ("2024-01-31", "2024-01-31"), ("010", "010"), ("0x1F", "0x1F"), ("1_000", "1_000"),
    ("5432", 5432), ("-1", -1), ("0", 0), ("1.5", 1.5), (".5", 0.5), (".inf", ".inf"), ("15m", "15m"), ("1e5", "1e5"),
    ("'true'", "true"), ('"5"', "5"), ("=", "="), ("99999999999999999999", "99999999999999999999"),
])
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    parsed, problems = parse(f"key: {text}\n")
    assert problems == []
    assert isinstance(parsed, dict)
    assert parsed["key"] == value
    assert type(parsed["key"]) is type(value)


def test_equal_keys_are_all_reported_with_their_lines() -> None:
    _, problems = parse("a: 1\nb: {c: 1, c: 2}\na: 2\nlist:\n  - {d: 1, 'd': 1}\n")
    assert problems == [
        "f.yaml: $.b.c: stands here twice (lines 2 and 2)",
        "f.yaml: $.a: stands here twice (lines 1 and 3)",
        "f.yaml: $.list[0].d: stands here twice (lines 5 and 5)",
    ]


@pytest.mark.parametrize("text", [
    "password: *hunter2\n", "a: &hunter2 1\nb: &hunter2 2\nc: *hunter3\n", "password: !hunter2 x\n",
    "password: !!python/object:hunter2 x\n", "password: !hunter2!x y\n", "a: 'hunter2\n", "a: {hunter2\n",
    "a: [hunter2}\n",
    "hunter2: b: c\n", 'a: "\\hunter2"\n', "a: @hunter2\n", "a: `hunter2\n", "<<: {hunter2: 1}\n",
    "? [hunter2]\n: 1\n",
    "a: !!int hunter2\n", "a: !!bool hunter2\n", "a: \x01hunter2\n", "a: %hunter2\n", "\thunter2: 1\n",
])
def test_what_cannot_be_read_is_reported_but_not_repeated(text: str) -> None:
    _, problems = parse(text)
    assert problems
    assert "hunter" not in " ".join(problems)


def test_a_syntax_error_names_its_place() -> None:
    _, problems = parse("a: 1\nb: {c: 1\nd: 2\n")
    assert "line 3" in problems[0]


def test_aliases_work_but_cannot_explode() -> None:
    assert parse("a: &x {b: 1}\nc: *x\n") == ({"a": {"b": 1}, "c": {"b": 1}}, [])
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    _, problems = parse(bomb)
    assert len(problems) == 1
    assert "more than" in problems[0]


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "[" * 100 + "]" * 100, "[" * 20000])
def test_depth_is_bounded(text: str) -> None:
    _, problems = parse(text)
    assert len(problems) == 1


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert parse("# nothing\n") == ({}, [])


@pytest.mark.parametrize("text", ["- a\n", "word\n", "3\n"])
def test_two_documents_or_no_mapping_do_not_pass(text: str) -> None:
    report = document.Report("f.yaml")
    from hoopfast.config import Config

    assert document.decode(Config, document.parse(text, report), report, {}) is None
    assert [p.path for p in report.problems] == ["$"]
    assert parse("a: 1\n---\nb: 1\n")[1]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def problem(path: Path) -> str:
        report = document.Report("f")
        assert document.read(path, report) is document.MISSING
        (only,) = report.problems
        return only.what

    assert problem(tmp_path / "none.yaml") == "there is no such file"
    assert problem(tmp_path) == "is not a regular file"
    (tmp_path / "latin").write_bytes(b"a: \xe4\n")
    assert problem(tmp_path / "latin") == "is not UTF-8 (byte 3)"
    (tmp_path / "big").write_bytes(b"#" * (document.FILE_MAX_BYTES + 1))
    assert "larger" in problem(tmp_path / "big")
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert document.read(tmp_path / "bom", document.Report("f")) == {"a": 1}


def test_paths_quote_what_would_mislead() -> None:
    assert document.child("$.a", "b-c_1") == "$.a.b-c_1"
    assert document.child("$", "a.b") == '$["a.b"]'
