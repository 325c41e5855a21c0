"""Enforced mode for tests: `hoopfast provision` as a DBA uses it."""

from __future__ import annotations

import subprocess
from typing import Any

from click.testing import CliRunner, Result

from hoopfast.cli.main import main
from tests.support.gateway import Gateway
from tests.support.postgres import MASKED_ROLE, PASSWORD, PostgresServer, clean_environment

SCHEMA = "hoopfast_masked"
ENFORCED: dict[str, Any] = {
    "enforced": [{"user": MASKED_ROLE, "password": "env:TEST_UPSTREAM_PASSWORD", "schema": SCHEMA}],
}


def provision(gateway: Gateway, connection: str, *arguments: str) -> Result:
    """Run the command with the gateway's own files; it need not run."""
    gateway.write()
    runner = CliRunner(env={"TEST_UPSTREAM_PASSWORD": PASSWORD})
    command = ["provision", "-c", str(gateway.config_file), "--connection", connection, *arguments]
    return runner.invoke(main, command, catch_exceptions=False)


def apply(server: PostgresServer, gateway: Gateway, connection: str, database: str) -> str:
    """What a DBA does once: review it, run it, set a password. The script."""
    made = provision(gateway, connection)
    assert made.exit_code == 0, made.output
    run = subprocess.run(
        [server.bin / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", server.dsn(database, "postgres")], input=made.stdout,
        capture_output=True, text=True, timeout=60, cwd="/", env=clean_environment())
    assert run.returncode == 0, run.stderr
    with server.connect(database) as db:
        db.execute(f"ALTER ROLE {MASKED_ROLE} PASSWORD '{PASSWORD}'")  # type: ignore[call-overload]  # words of our own
    return made.stdout


def remove(server: PostgresServer) -> None:
    """Its roles, once no database has anything of theirs."""
    with server.connect() as db:
        db.execute(f"DROP ROLE IF EXISTS {MASKED_ROLE}, {SCHEMA}_owner")  # type: ignore[call-overload]
