"""Imports point strictly downward, as docs/architecture.md says; decisions are pure; the core's parts are all there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.quality.sources import PACKAGE, ROOT, source

# unit -> (level, module prefixes). A module belongs to the unit with its longest prefix; a unit may import itself and
# lower levels only. The vocabulary and the face have a few steps of their own.
UNITS: dict[str, tuple[float, tuple[str, ...]]] = {
    "package": (0.0, ("hoopfast",)),
    "errors": (0.0, ("hoopfast.errors",)),
    "limits": (0.0, ("hoopfast.limits",)),
    "units": (0.0, ("hoopfast.units",)),
    "flow": (0.0, ("hoopfast.flow",)),
    "model": (0.1, ("hoopfast.model",)),
    "document": (0.1, ("hoopfast.document",)),
    "secrets": (0.1, ("hoopfast.secrets",)),
    "logs": (0.1, ("hoopfast.logs",)),
    "knobs": (0.2, ("hoopfast.knobs",)),
    "checks": (0.2, ("hoopfast.checks",)),
    "config sinks": (0.25, ("hoopfast.config_sinks",)),
    "config": (0.3, ("hoopfast.config",)),
    "wire": (1.0, ("hoopfast._wire",)),
    "protocol": (1.0, ("hoopfast.protocol",)),
    "policy": (2.0, ("hoopfast.policy",)),
    "analysis": (2.0, ("hoopfast.analysis",)),
    "identity": (2.0, ("hoopfast.identity",)),
    "audit": (2.0, ("hoopfast.audit",)),
    "audit effects": (
        3.0, tuple(f"hoopfast.audit.{name}" for name in (
            "shipper", "streams", "sinks", "search", "keys", "sealing", "stored", "verify",
            "verify_files", "derived", "finding", "readers", "database", "verify_postgres", "outlet", "lanes",
            "vault")),
    ),
    "net": (3.0, ("hoopfast.net",)),
    "replay": (2.1, ("hoopfast.replay",)),
    "replay effects": (
        3.1, tuple(f"hoopfast.replay.{name}" for name in (
            "link", "play", "run", "catalog", "target", "source", "conduct", "report", "page")),
    ),
    "store rows": (2.0, ("hoopfast.store.rows",)),
    "store": (3.0, ("hoopfast.store",)),
    "control": (3.0, ("hoopfast.control",)),
    "ipc": (3.0, ("hoopfast.ipc",)),
    "worker": (4.0, ("hoopfast.worker",)),
    "console": (4.0, ("hoopfast.console",)),
    "supervisor": (4.0, ("hoopfast.supervisor",)),
    "demo": (5.0, ("hoopfast.demo",)),
    "cli": (5.1, ("hoopfast.cli",)),
}
EFFECTS = {"asyncio", "socket", "ssl", "time", "selectors", "select", "uvloop"}
MORE_EFFECTS = {
    "subprocess", "threading", "multiprocessing", "httpx", "urllib.request", "http.client", "sqlite3", "sqlalchemy",
    "psycopg", "asyncpg", "tempfile", "shutil", "uvicorn", "starlette",
}
# What a log line is stamped with, and how `exec:` references are run, is these two's own affair.
VOCABULARY_WITH_EFFECTS = {"logs", "secrets"}
CLOCKS = {"now", "utcnow", "today", "monotonic", "perf_counter", "time_ns", "monotonic_ns"}
# The supervisor and all it runs never load the wire core: it only handles bytes of clients.
WITHOUT_CORE = ("supervisor", "control", "store", "console")
CIMPORTS = re.compile(r"^\s*(?:from\s+(\S+)\s+cimport|cimport\s+(\S+))", re.MULTILINE)
INCLUDES = re.compile(r'^include\s+"([^"]+)"', re.MULTILINE)


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def unit_of(module: str) -> str:
    best = ("", "")
    for unit, (_, prefixes) in UNITS.items():
        for prefix in prefixes:
            if (module == prefix or module.startswith(prefix + ".")) and len(prefix) > len(best[0]):
                best = (prefix, unit)
    return best[1]


def imports_of(module: str, path: Path) -> list[tuple[str, int]]:
    """Everything imported anywhere in the file, as (module, line)."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for dots, written, name, line in source(path).imports:
        above = package.split(".")[: len(package.split(".")) - dots + 1] if dots else []
        base = ".".join([*above, *filter(None, [written])])
        whole = f"{base}.{name}"
        found.append((whole if whole in MODULES or whole == "hoopfast._wire" else base, line))
    return found


def test_every_module_has_a_level() -> None:
    top = {m for m in MODULES if m != "hoopfast" and unit_of(m) == "package"}
    assert not top, f"give these modules a level, here and in docs/architecture.md: {sorted(top)}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    unit = unit_of(module)
    level = UNITS[unit][0]
    wrong = []
    for target, line in imports_of(module, MODULES[module]):
        if not target.startswith("hoopfast"):
            continue
        other = unit_of(target)
        if other not in {unit, "package"} and UNITS[other][0] >= level:
            wrong.append(f"line {line}: {target} ({other}, level {UNITS[other][0]:g})")
    assert not wrong, f"{module} is level {level:g} ({unit}) and imports {'; '.join(wrong)}"


PURE = sorted(m for m in MODULES if UNITS[unit_of(m)][0] < 3 and unit_of(m) not in VOCABULARY_WITH_EFFECTS)


@pytest.mark.parametrize("module", PURE)
def test_no_effects_below_level_three(module: str) -> None:
    forbidden = EFFECTS | (MORE_EFFECTS if UNITS[unit_of(module)][0] >= 1 else set())
    wrong = [
        f"line {line}: {target}"
        for target, line in imports_of(module, MODULES[module])
        if target.split(".")[0] in forbidden or target in forbidden
    ]
    assert not wrong, f"{module} must get the clock and the network from its caller: {'; '.join(wrong)}"


@pytest.mark.parametrize("module", [m for m in PURE if UNITS[unit_of(m)][0] >= 1])
def test_no_clock_below_level_three(module: str) -> None:
    calls = [f"line {line}: .{name}()" for name, line in source(MODULES[module]).methods if name in CLOCKS]
    assert not calls, f"{module} reads a clock: {'; '.join(calls)}"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if unit_of(m) in WITHOUT_CORE))
def test_the_control_plane_does_not_load_the_core(module: str) -> None:
    assert not [line for target, line in imports_of(module, MODULES[module]) if target == "hoopfast._wire"]


def test_parts_of_the_core() -> None:
    root = PACKAGE / "_wire.pyx"
    text = root.read_text()
    included = {(PACKAGE / name).resolve() for name in INCLUDES.findall(text)}
    on_disk = {p.resolve() for p in (PACKAGE / "_wire").glob("*.pyx")} | {
        p.resolve() for p in (PACKAGE / "_wire").glob("*.pxi")
    }
    assert included == on_disk, "the root includes every part, once"
    for part in [root, *sorted(on_disk)]:
        for pair in CIMPORTS.findall(part.read_text()):
            name = (pair[0] or pair[1]).split(".")[0]
            assert name in {"libc", "cpython", "posix", "cython"}, f"{part.name} cimports {name}: the core stands alone"


def test_architecture_names_every_package() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text().split("## Layers")[1]
    packages = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    missing = {name for name in packages if not re.search(rf"\b{name}\b", table)}
    assert not missing, f"docs/architecture.md, Layers: {sorted(missing)}"
