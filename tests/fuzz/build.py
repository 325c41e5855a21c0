"""Builds `_fuzz`: every part of the core, the fuzzer's own parts behind them, with both sanitizers and coverage.

Cached by the sources' digest under build/fuzz/, so that only a changed core is compiled again (about a minute).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PARTS = ("engine.pyx", "relay_target.pyx", "mask_targets.pyx", "python_targets.pyx", "run.pyx")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
DIRECTIVES = ("language_level=3", "boundscheck=False", "wraparound=False", "initializedcheck=False", "cdivision=True")


class Unavailable(Exception):
    """This machine cannot build the fuzzer; the text says what it lacks."""


def compiler() -> str:
    """gcc, which knows -fsanitize-coverage=trace-pc, with its sanitizers' libraries."""
    gcc = shutil.which("gcc")
    if gcc is None:
        raise Unavailable("gcc is not installed")
    if not Path(asan_library(gcc)).is_absolute():
        raise Unavailable("gcc has no AddressSanitizer library (libasan)")
    program = "int main(void) { return 0; }\n"
    with tempfile.TemporaryDirectory() as scratch:
        command = [gcc, *SANITIZE, "-fsanitize-coverage=trace-pc", "-x", "c", "-c", "-", "-o", f"{scratch}/probe.o"]
        # The attribute came with gcc 12; without it the counter would count itself.
        source = "__attribute__((no_sanitize_coverage)) void f(void) {}\n" + program
        if subprocess.run([*command, "-Werror"], input=source, text=True, capture_output=True).returncode != 0:
            raise Unavailable("this gcc cannot count coverage (12 or newer can)")
    return gcc


def asan_library(gcc: str) -> str:
    """What LD_PRELOAD must name: the sanitizer has to come before every other library."""
    found = subprocess.run([gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return os.path.realpath(found.stdout.strip()) if "/" in found.stdout else found.stdout.strip()


def sources() -> list[Path]:
    return [
        ROOT / "hoopfast" / "_wire.pyx", *sorted((ROOT / "hoopfast" / "_wire").glob("*")),
        HERE / "build.py", HERE / "world.h", *(HERE / part for part in PARTS),
    ]


def build() -> Path:
    """The directory that holds `_fuzz`. Raises Unavailable."""
    gcc = compiler()
    digest = hashlib.sha256(sys.version.encode())
    for path in sources():
        digest.update(path.read_bytes())
    directory = ROOT / "build" / "fuzz" / digest.hexdigest()[:16]
    module = directory / ("_fuzz" + str(sysconfig.get_config_var("EXT_SUFFIX")))
    if module.exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    root = (ROOT / "hoopfast" / "_wire.pyx").read_text() + "".join(f'include "{part}"\n' for part in PARTS)
    (directory / "_fuzz.pyx").write_text(root)
    options = [word for directive in DIRECTIVES for word in ("-X", directive)]
    parts = ["-I", str(ROOT / "hoopfast"), "-I", str(HERE)]
    _run([sys.executable, "-m", "cython", *options, *parts, "_fuzz.pyx"], directory)
    partial = directory / f"{os.getpid()}.so"
    _run([
        gcc, "-shared", "-fPIC", "-std=gnu11", "-O1", "-g1", "-w",
        "-DHF_DEBUG=1", '-DHF_BUILD="sanitize"', "-DCYTHON_TRACE=0", *SANITIZE, "-fsanitize-coverage=trace-pc",
        "-include", str(HERE / "world.h"), "-I", str(ROOT / "hoopfast" / "_wire"), "-I", str(HERE),
        "-I", sysconfig.get_paths()["include"],
        "_fuzz.c", "-o", str(partial), "-lssl", "-lcrypto",
    ], directory)
    partial.rename(module)
    return directory


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:4])} ...: {done.returncode}\n{done.stdout}{done.stderr}")
