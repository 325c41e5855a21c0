"""Sizes a person can hold, a docstring on every module, and nothing in the tree that does not belong there.

Limits are a reminder, not an aim: EXCEPTIONS lists what is over them today, and shrinks when something gets smaller.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.quality.sources import ROOT, name_of, source

FILE_MAX = 500
PART_MAX = 600                          # of the compiled core
ROOT_PYX_MAX = 120
CLASS_MAX = 400
FUNCTION_MAX = 70

# "path" or "path:Name" -> the size it may have, until it is cut.
EXCEPTIONS: dict[str, int] = {}
MAY_PRINT = ("hoopfast/cli/", "hoopfast/demo/", "bench/", "loadtest/")
NO_REGEX = ("hoopfast/analysis/", "hoopfast/policy/", "hoopfast/worker/")
# Written in pieces, so that this file does not find itself.
UNFINISHED = tuple(a + b for a, b in (("TO", "DO"), ("FIX", "ME"), ("XX", "X:"), ("NotImplemented", "Error")))
ELSEWHERE = tuple(a + b for a, b in (("/wo", "rk/"), ("/op", "t/"), ("/ro", "ot/"), ("/ho", "me/"), ("hf", "venv")))
TEXT = {
    "", ".py", ".pyx", ".pxd", ".pxi", ".pyi", ".h", ".md", ".toml", ".yaml", ".yml", ".sh", ".sql", ".service",
    ".html",
}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


SOURCES = sorted(path for top in ("hoopfast", "bench", "loadtest") for path in (ROOT / top).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_python_sizes(path: Path) -> None:
    name, read = name_of(path), source(path)
    sizes = [(name, read.lines, FILE_MAX)]
    sizes += [(f"{name}:{part}", lines, CLASS_MAX) for part, lines in read.classes]
    sizes += [(f"{name}:{part}", lines, FUNCTION_MAX) for part, lines in read.functions]
    over = {what: size for what, size, limit in sizes if size > EXCEPTIONS.get(what, limit)}
    assert not over, f"too long to hold in one's head: {over}"


def test_core_sizes() -> None:
    over = {}
    for path in [ROOT / "hoopfast" / "_wire.pyx", *sorted((ROOT / "hoopfast" / "_wire").glob("*"))]:
        lines = len(path.read_text().splitlines())
        limit = EXCEPTIONS.get(name_of(path), ROOT_PYX_MAX if path.name == "_wire.pyx" else PART_MAX)
        if lines > limit:
            over[name_of(path)] = lines
    assert not over


def test_exceptions_are_still_needed() -> None:
    for what, allowed in EXCEPTIONS.items():
        path, _, name = what.partition(":")
        file = ROOT / path
        assert file.exists(), f"{what} is gone: remove its exception"
        sizes = [len(file.read_text().splitlines())]
        if name:
            sizes = [lines for part, lines in source(file).classes + source(file).functions if part == name]
        assert sizes, f"{what} is gone: remove its exception"
        size = max(sizes)
        assert size > allowed - 25, f"{what} has {size} lines now: lower or remove its exception"


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_module_docstring(path: Path) -> None:
    assert source(path).documented, "say what the module owns and who calls it"


@pytest.mark.parametrize("path", [p for p in SOURCES if not name_of(p).startswith(MAY_PRINT)], ids=name_of)
def test_no_print(path: Path) -> None:
    assert not [line for name, line in source(path).calls if name in {"print", "breakpoint"}]


@pytest.mark.parametrize("path", [p for p in SOURCES if name_of(p).startswith(NO_REGEX)], ids=name_of)
def test_no_regular_expressions_near_sql(path: Path) -> None:
    for _, module, _, line in source(path).imports:
        assert module not in {"re", "regex"}, f"line {line}: SQL is parsed, never matched"


def test_nothing_unfinished() -> None:
    found = []
    for path in [*SOURCES, *(ROOT / "hoopfast" / "_wire").glob("*"), ROOT / "hoopfast" / "_wire.pyx"]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found += [f"{name_of(path)}:{number}: {word}" for word in UNFINISHED if word in line]
    assert not found


def test_no_paths_of_somebodys_machine() -> None:
    found = []
    for path in tracked():
        if path.suffix not in TEXT or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            # "/app/..." of the Dockerfile and URLs are fine; a hit must be the beginning of an absolute path
            for word in ELSEWHERE:
                at = line.find(word)
                if at >= 0 and (at == 0 or not (line[at - 1].isalnum() or line[at - 1] in "._-*}")):
                    found.append(f"{name_of(path)}:{number}: {line.strip()[:100]}")
    assert not found


def test_scripts_are_executable() -> None:
    for path in tracked():
        if path.read_bytes()[:2] == b"#!":
            assert path.stat().st_mode & 0o111, name_of(path)
