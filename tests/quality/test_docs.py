"""The documents keep up: commands and verbs, every configuration key, examples that load, files that exist."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec

from hoopfast import config
from hoopfast.cli.main import VERBS
from hoopfast.policy.source import parse_policy
from tests.quality.sources import ROOT
from tests.support.certs import Certificates

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def test_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


def test_makefile_has_its_verbs() -> None:
    text = (ROOT / "Makefile").read_text()
    for verb in ("demo", "test", "check", "bench", "load", "fuzz", "clean"):
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
                if isinstance(inner, type) and issubclass(inner, config.Section | config.Sink):
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
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{document.name}: {target}")
    assert not broken


def test_files_that_documents_name_are_there() -> None:
    named = r"`((?:tests|bench|loadtest|deploy|docs|hoopfast)/[\w./-]+)`"
    missing = [
        f"{document.name}: {path}"
        for document in DOCUMENTS
        for path in re.findall(named, document.read_text())
        if path != "bench/results/" and not (ROOT / path).exists()
    ]
    assert not missing


def test_examples_load(tmp_path: Path) -> None:
    Certificates(tmp_path)          # server.crt and server.key
    (tmp_path / "policy.yaml").write_text("access: []\n")
    configurations = policies = 0
    for document in DOCUMENTS:
        for example in re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
            if "\nconnections:" in example:
                file = tmp_path / f"{document.stem}.yaml"
                file.write_text(example)
                assert config.load(file).connections, document.name
                configurations += 1
            elif example.startswith(("access:", "# policy.yaml")):
                assert parse_policy(example, document.name).access
                policies += 1
            elif example.startswith(("rules:", "hidden:")):
                found = parse_policy(example, document.name)
                assert found.rules or found.hidden
    assert configurations >= 2
    assert policies >= 2
