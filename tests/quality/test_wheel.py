"""The wheel holds the compiled core and every file that the package reads, and runs without the checkout."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.server  # compiles for half a minute: late, with the slow ones
@pytest.mark.timeout(400)
@pytest.mark.skipif(importlib.util.find_spec("Cython") is None, reason="the build tools are not in this environment")
def test_wheel(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "hoopfast", source / "hoopfast", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", str(tmp_path)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    wheel = next(tmp_path.glob("hoopfast-*.whl"))
    assert "none-any" not in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert any(name.startswith("hoopfast/_wire.") and name.endswith(".so") for name in names)
    wanted = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "hoopfast").rglob("*")
        if p.suffix in {".py", ".html", ".css", ".js", ".svg", ".typed"} and "__pycache__" not in p.parts
    }
    assert not wanted - names
    assert not [name for name in names if name.endswith((".pyx", ".c")) or name.startswith("tests")]
    code = "import hoopfast._wire as w, hoopfast.cli.main; assert 'installed' in w.__file__; print(w.BUILD)"
    path = {"PYTHONPATH": str(tmp_path / "installed")}
    ran = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, env=path)
    assert ran.stdout.strip() in {"release", "debug", "sanitize"}, ran.stderr
