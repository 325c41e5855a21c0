"""Everything the demo runs: database, issuer and gateway, brought up in order and taken down whatever happens.

A `Stage` is one demo. The gateway is a real `hoopfast serve` in a process of its own; the tour reaches it as people do,
by PostgreSQL clients, the admin API and the command line. Used by demo/tour.py, demo/farewell.py and cli/demo.py.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from hoopfast.demo import issuer, settings, shop
from hoopfast.demo.postgres import SUPERUSER, Postgres, child_environment, die_with_us, free_port

PORT = 6432
ADMIN_PORT = 8432
DATABASE = "shop"
SANDBOX = "shop_sandbox"
OWNER = "shop_owner"
SERVICE = "gateway"
_READY_S = 60.0
_STOP_S = 15.0
_COMMAND_S = 60.0
# The `hoopfast` script, also where the package is not installed.
_PROGRAM = (sys.executable, "-c", "from hoopfast.cli.main import main; main(prog_name='hoopfast')")


class StageFault(RuntimeError):
    """A part of the demo does not start or answer; the text says which and what it said."""


class Stage:
    """One demo; `start` once, `stop` always. Addresses, tokens and connections for everybody who plays a part."""

    def __init__(self) -> None:
        self.directory = Path()
        self.port = 0
        self.admin_url = ""
        self.config_file = Path()
        self.rows = 0
        self.postgres: Postgres | None = None
        self.issuer: issuer.RunningIssuer | None = None
        self._gateway: subprocess.Popen[bytes] | None = None
        self._service_password = secrets.token_urlsafe(24)

    # ---------------------------------------------------------------- life

    def start(self, tell: Callable[[str], None]) -> None:
        """Bring everything up; `tell` hears what comes next. Raises NoPostgres, NotADemo, ConfigError, StageFault."""
        self.directory = Path(tempfile.mkdtemp(prefix="hoopfast-demo-"))
        # PostgreSQL may run as another user, who has to get to its own part.
        self.directory.chmod(0o711)
        tell("starting PostgreSQL")
        self._start_postgres()
        tell("starting the development issuer")
        self.issuer = issuer.start()
        tell("starting the gateway")
        self._start_gateway()

    def stop(self) -> None:
        """End every process and remove every file; works on a half-started demo, and twice."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            _end(gateway)
        if self.issuer is not None:
            self.issuer.stop()
        if self.postgres is not None:
            self.postgres.stop()
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)

    def _start_postgres(self) -> None:
        home = self.directory / "postgres"
        home.mkdir(mode=0o700)
        self.postgres = Postgres(home, secrets.token_urlsafe(24))
        self.postgres.start()
        with psycopg.connect(self.postgres.dsn(SUPERUSER), autocommit=True) as db:
            db.execute(f"CREATE ROLE {OWNER}")
            db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                sql.Identifier(SERVICE), sql.Literal(self._service_password), sql.Identifier(OWNER)
            ))
            db.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        with self.direct() as db:
            db.execute(f"GRANT ALL ON SCHEMA public TO {OWNER}")
            db.execute(f"SET ROLE {OWNER}")
            self.rows = shop.load(db)
        with psycopg.connect(self.postgres.dsn(SUPERUSER), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {SANDBOX} OWNER {OWNER} TEMPLATE {DATABASE}")

    def _start_gateway(self) -> None:
        assert self.postgres is not None
        assert self.issuer is not None
        self.port, admin_port = free_port(PORT), free_port(ADMIN_PORT)
        self.admin_url = f"http://{settings.HOST}:{admin_port}"
        config = settings.make(
            self.directory, port=self.port, admin_port=admin_port, issuer=self.issuer.configuration(),
            tls=settings.certificate(self.directory), upstream_port=self.postgres.port, database=DATABASE, user=SERVICE,
        )
        self.config_file = settings.write(self.directory, config)
        with self.log.open("ab") as log:
            self._gateway = subprocess.Popen(
                die_with_us("TERM", [*_PROGRAM, "serve", "-c", str(self.config_file)]), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, cwd=self.directory, start_new_session=True,
                env=_environment(**{settings.PASSWORD_VARIABLE: self._service_password}),
            )
        deadline = time.monotonic() + _READY_S
        while not self._ready():
            if self._gateway.poll() is not None or time.monotonic() > deadline:
                raise StageFault(f"the gateway does not start:\n{self.log_tail()}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.admin_url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def alive(self) -> bool:
        """Whether the gateway still runs."""
        return self._gateway is not None and self._gateway.poll() is None

    @property
    def log(self) -> Path:
        return self.directory / "gateway.log"

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    # ---------------------------------------------------------------- ways in

    def token(self, person: str, ttl: float = 3600.0) -> str:
        assert self.issuer is not None
        return self.issuer.mint(person, ttl)

    def dsn(self, user: str, **options: Any) -> str:
        """How people connect through the gateway; without a password unless given."""
        return make_conninfo(**{
            "host": settings.HOST, "port": self.port, "dbname": settings.CONNECTION, "user": user,
            "sslmode": "require", "connect_timeout": 10, **options,
        })

    def connect(self, person: str, password: str = "", application: str = "tour") -> psycopg.Connection[Any]:
        """psycopg through the gateway over TLS, autocommit; the password is a fresh token of `person` unless given."""
        secret = password or self.token(person)
        return psycopg.connect(self.dsn(person, password=secret, application_name=application), autocommit=True)

    def direct(self) -> psycopg.Connection[Any]:
        """Past the gateway, as the owner of the machine would: sees what is really there."""
        assert self.postgres is not None
        return psycopg.connect(self.postgres.dsn(DATABASE), autocommit=True)

    def sandbox_dsn(self) -> str:
        """The copy for replays, without its password: that is in the environment of `command`."""
        assert self.postgres is not None
        return f"host={settings.HOST} port={self.postgres.port} dbname={SANDBOX} user={SERVICE}"

    def api(self, person: str) -> httpx.Client:
        """The admin API with a token of `person`."""
        headers = {"Authorization": f"Bearer {self.token(person)}"}
        return httpx.Client(base_url=f"{self.admin_url}/api/v1", headers=headers, trust_env=False, timeout=30)

    def command(self, *arguments: str, person: str = "") -> subprocess.CompletedProcess[str]:
        """`hoopfast ARGUMENTS` as `person` over the admin API; without one over the admin socket, as the service."""
        if person:
            who = {"HOOPFAST_SERVER": self.admin_url, "HOOPFAST_TOKEN": self.token(person)}
        else:
            who = {"HOOPFAST_CONFIG": str(self.config_file)}
        return subprocess.run(
            [*_PROGRAM, *arguments], check=False, capture_output=True, text=True, timeout=_COMMAND_S,
            stdin=subprocess.DEVNULL, cwd=self.directory, env=_environment(PGPASSWORD=self._service_password, **who),
        )

    def psql(self) -> str:
        """The psql program to use; "" when there is none."""
        packaged = self.postgres.bin / "psql" if self.postgres is not None else Path()
        return shutil.which("psql") or (str(packaged) if packaged.is_file() and os.access(packaged, os.X_OK) else "")


def _environment(**extra: str) -> Mapping[str, str]:
    # The processes run in the demo's directory: a checkout that is not installed must still be found.
    source = str(Path(__file__).resolve().parents[2])
    return child_environment(PYTHONPATH=source, **extra)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
        return
    process.kill()
    process.wait()
