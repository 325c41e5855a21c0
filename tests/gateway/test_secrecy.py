"""What must stay inside stays inside: credentials in no file, log, title or environment, files for nobody else; and
strangers who say nothing keep nobody out and cost little."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.gateway.conftest import SHOP_POLICY, connections
from tests.support import wire
from tests.support.gateway import Gateway, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PASSWORD, PostgresServer

HALF_OPEN = 1_400               # more than the places for logins of both workers


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    with Gateway(issuer, connections(postgres, shop), policy=SHOP_POLICY) as running:
        yield running


def secret_of(gateway: Gateway, user: str) -> str:
    done = gateway.cli("secret", "create", "--user", user, "--groups", "engineering")
    assert done.stdout.endswith("\n") and done.stdout.count("\n") == 1
    return done.stdout.strip()


def test_credentials_stay_inside(gateway: Gateway, tmp_path: Path) -> None:
    secret, token, admin = secret_of(gateway, "robot"), gateway.token("alice"), gateway.token("carol")
    unknown = secret[:-8] + "00000000"
    expired = gateway.token("alice", exp=int(time.time()) - 600)
    sessions = [gateway.connect("shop", "alice", password=word) for word in (secret, token)]
    for db in sessions:
        db.execute("SELECT name, ssn FROM customers /* secrecy */")
    for word in (unknown, expired, "swordfish-zqxj-swordfish"):
        with pytest.raises(psycopg.OperationalError) as refused:
            gateway.connect("shop", "alice", password=word)
        assert word not in str(refused.value)
    with gateway.admin(admin) as api:
        assert api.get("/status").status_code == 200
    with gateway.admin(expired) as api:
        assert expired not in api.get("/status").text
    gateway.wait_audited("secrecy", 2)

    # Two thirds of a token are no secret by themselves, its signature is.
    tokens = {"token": token, "admin": admin, "expired": expired}
    hidden = {"secret": secret, "unknown": unknown, "swordfish": "swordfish-zqxj", "upstream": PASSWORD} | {
        name: text.rpartition(".")[2] for name, text in tokens.items()
    }
    seen = {"the log": gateway.log.read_bytes()}
    for process in gateway.processes():
        seen[f"the title of {process.pid}"] = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        # The upstream's password is there by reference: env:TEST_UPSTREAM_PASSWORD.
        seen[f"the environment of {process.pid}"] = environment.replace(PASSWORD.encode(), b"")
    for path in gateway.state_dir.rglob("*"):
        if path.is_file():
            seen[str(path)] = path.read_bytes()
    for where, content in seen.items():
        for what, word in hidden.items():
            assert word.encode() not in content, f"{what} is in {where}"
    for db in sessions:
        db.close()


def test_files_are_for_nobody_else(gateway: Gateway) -> None:
    open_to_others = [
        f"{stat.filemode(path.lstat().st_mode)} {path}"
        for path in (gateway.state_dir, *gateway.state_dir.rglob("*"))
        if path.lstat().st_mode & 0o077 or path.lstat().st_uid != os.geteuid()
    ]
    assert open_to_others == []


def test_limits_of_all_processes(gateway: Gateway) -> None:
    for process in gateway.processes():
        soft, _ = resource.prlimit(process.pid, resource.RLIMIT_CORE)
        assert soft == 0, "memory holds tokens: no core dumps"
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert soft == hard


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_admin_socket_is_for_the_services_own_user(gateway: Gateway) -> None:
    script = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    path = gateway.state_dir / "admin.sock"
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", "--", "/usr/bin/python3", "-c", script, str(path)],
        capture_output=True, text=True, cwd="/",
    )
    assert "PermissionError" in done.stderr


def test_silent_clients_keep_nobody_out(gateway: Gateway) -> None:
    before = sum(process.memory_info().rss for process in gateway.processes())
    with contextlib.ExitStack() as held:
        for number in range(HALF_OPEN):
            client = held.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
            if number % 2:
                client.sendall(wire.startup(wire.PROTOCOL_3_0, user="alice", database="shop"))
        began = time.monotonic()
        with gateway.connect("shop") as db:
            assert db.execute("SELECT 1").fetchone() == (1,)
        assert time.monotonic() - began < 5
        grown = sum(process.memory_info().rss for process in gateway.processes()) - before
        assert grown < HALF_OPEN * 40_000, f"{grown / HALF_OPEN:.0f} bytes for each of them"
    wait_until(lambda: idle(gateway), "the workers have forgotten them")
    with gateway.connect("shop") as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


def idle(gateway: Gateway) -> bool:
    with gateway.admin() as api:
        return sum(worker["load"] for worker in api.get("/workers").json()["workers"]) == 0
