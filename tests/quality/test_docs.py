"""The documents keep up: the two commands, every configuration key, every verb of the Makefile."""

from __future__ import annotations

import re
import typing

import msgspec

from hoopfast import config
from hoopfast.cli.main import VERBS
from tests.quality.sources import ROOT


def test_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


def test_makefile_has_six_verbs() -> None:
    text = (ROOT / "Makefile").read_text()
    for verb in ("demo", "test", "check", "bench", "load", "clean"):
        assert re.search(rf"^{verb}:", text, re.MULTILINE), verb
        assert re.search(rf"^#   make {verb}\b", text, re.MULTILINE), f"say what `make {verb}` does"


def test_ci_runs_the_tests() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def _sections(kind: type, seen: set[type]) -> None:
    if kind in seen:
        return
    seen.add(kind)
    for hint in typing.get_type_hints(kind).values():
        for part in [hint, *typing.get_args(hint)]:
            for inner in [part, *typing.get_args(part)]:
                if isinstance(inner, type) and issubclass(inner, config.Section):
                    _sections(inner, seen)


def test_configuration_keys_are_documented() -> None:
    text = "".join(p.read_text() for p in sorted((ROOT / "docs").glob("*.md")))
    seen: set[type] = set()
    _sections(config.Config, seen)
    assert len(seen) > 8
    missing = [
        f"{kind.__name__}.{field.encode_name}"
        for kind in sorted(seen, key=lambda k: k.__name__)
        for field in msgspec.structs.fields(kind)
        if not re.search(rf"\b{field.encode_name}\b", text)
    ]
    assert not missing, f"docs/configuration.md lacks {missing}"


def test_commands_are_documented() -> None:
    text = (ROOT / "README.md").read_text() + "".join(p.read_text() for p in sorted((ROOT / "docs").glob("*.md")))
    assert not [verb for verb in VERBS if f"hoopfast {verb}" not in text]


def test_links_in_documents_lead_somewhere() -> None:
    broken = []
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{document.name}: {target}")
    assert not broken
