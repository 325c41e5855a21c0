"""The contestants: PostgreSQL itself, PgBouncer, HAProxy and hoopfast, started on loopback ports and never as root.

PgBouncer pools by session with as many server connections as clients; HAProxy copies TCP; hoopfast has a policy with
masks and rules, the journal on and the shipper running. Everyone uses one process or thread for the data path.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from tests.support.certs import Certificates
from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import (
    PASSWORD,
    PostgresServer,
    clean_environment,
    free_port,
    give,
    scratch_directory,
    unprivileged,
)

DATABASE = "bench"
CLIENTS_MAX = 64
POLICY: dict[str, Any] = {
    "access": [{"groups": ["engineering"], "connections": [DATABASE]}],
    "masks": [
        {"columns": ["public.bulk_masked.email"], "with": "email"},
        {"columns": ["public.bulk_masked.card"], "with": {"partial": {"keep": 4}}},
        {"columns": ["public.people.ssn"], "with": "redact"},
    ],
    "rules": [
        {"name": "destructive", "when": {"statements": ["drop", "truncate"]}, "action": "approve",
         "approvers": {"groups": ["dba"]}},
        {"name": "unfiltered", "when": {"statements": ["delete", "update"], "unfiltered": True}, "action": "approve",
         "approvers": {"groups": ["dba"]}},
        {"name": "no-grants", "when": {"statements": ["grant", "alter_role"]}, "action": "deny", "reason": "no"},
    ],
}


@dataclass
class Peer:
    """Where to connect, as whom, and which processes to charge. `data_path` are those that move the bytes."""

    name: str
    port: int
    user: str
    password: str
    tls: bool = False
    processes: list[int] = field(default_factory=list)
    data_path: list[int] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        return clean_environment(
            PGHOST="127.0.0.1", PGPORT=str(self.port), PGUSER=self.user, PGDATABASE=DATABASE, PGPASSWORD=self.password,
            PGSSLMODE="require" if self.tls else "disable", PGGSSENCMODE="disable",
        )


def _find(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _wait_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"did not start:\n{log.read_text(errors='replace')[-2000:]}")


class Arena:
    """Everything that runs during a benchmark; a context manager. `connections` are more than the one to DATABASE."""

    def __init__(
        self, *, scale: int, bulk_rows: int, names: list[str], workers: int, policy: dict[str, Any] = POLICY,
        connections: dict[str, Any] | None = None,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._scale = scale
        self._bulk_rows = bulk_rows
        self._names = names
        self._workers = workers
        self._policy = policy
        self._connections = connections or {}
        self.directory = scratch_directory("bench")
        self.certificates = Certificates(scratch_directory("bench-certs"))
        self.postgres = PostgresServer(
            scratch_directory("bench-pg"), log_statements=False,
            settings={"shared_buffers": "256MB", "max_connections": "300", "log_min_messages": "fatal"},
        )
        self.peers: list[Peer] = []
        self.gateways: list[Gateway] = []
        self.skipped: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.postgres)
            self._stack.enter_context(self.postgres.database(DATABASE))
            self._load()
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _load(self) -> None:
        with self.postgres.connect(DATABASE) as db:
            # Owned by the role that the gateway logs in as.
            db.execute("SET ROLE app")
            db.execute("CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))")
            accounts = "INSERT INTO pgbench_accounts SELECT i, 1, 0, '' FROM generate_series(1, %s) i"
            db.execute(accounts, (self._scale * 100_000,))
            db.execute("CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88))")
            db.execute("INSERT INTO pgbench_branches SELECT i, 0, '' FROM generate_series(1, %s) i", (self._scale,))
            db.execute("CREATE TABLE people (id int, ssn text)")
            db.execute(
                "CREATE TABLE bulk AS SELECT i AS id, 'person ' || i AS name, 'user' || i || '@example.com' AS email,"
                " lpad(i::text, 16, '4') AS card, 'city ' || i %% 1000 AS city, (i * 1.25)::numeric(12,2) AS amount"
                " FROM generate_series(1, %s) i", (self._bulk_rows,),
            )
            db.execute("CREATE TABLE bulk_masked AS TABLE bulk")
        with self.postgres.connect(DATABASE) as db:
            db.execute("VACUUM ANALYZE")

    def _start(self) -> None:
        makers = {
            "direct": self._direct, "pgbouncer": lambda: self._pgbouncer(tls=False),
            "pgbouncer-tls": lambda: self._pgbouncer(tls=True), "haproxy": self._haproxy,
            "hoopfast": lambda: self._hoopfast("hoopfast"), "hoopfast-tls": lambda: self._hoopfast("hoopfast-tls"),
            "hoopfast-epoll": lambda: self._hoopfast("hoopfast-epoll"),
            "hoopfast-disk": lambda: self._hoopfast("hoopfast-disk"),
        }
        for name in self._names:
            peer = makers[name]()
            if peer is None:
                self.skipped.append(name)
            else:
                self.peers.append(peer)

    # ---------------------------------------------------------------- contestants

    def _direct(self) -> Peer:
        return Peer("direct", self.postgres.port, "app", PASSWORD)

    def _run(self, name: str, port: int, command: list[str | Path]) -> int:
        log = self.directory / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                unprivileged(command), stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd="/",
                env=clean_environment(),
            )

        def stop() -> None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)

        self._stack.callback(stop)
        _wait_port(port, process, log)
        return process.pid

    def _own(self, name: str, files: dict[str, str | bytes]) -> Path:
        directory = self.directory / name
        directory.mkdir()
        give(directory)
        for file, text in files.items():
            path = directory / file
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            path.chmod(0o600)
            give(path)
        return directory

    def _pgbouncer(self, *, tls: bool) -> Peer | None:
        program = _find("pgbouncer")
        if program is None:
            return None
        name, port = "pgbouncer-tls" if tls else "pgbouncer", free_port()
        directory = self.directory / name
        lines = [
            "[databases]",
            f"{DATABASE} = host=127.0.0.1 port={self.postgres.port} dbname={DATABASE} user=app password='{PASSWORD}'",
            "[pgbouncer]", "listen_addr = 127.0.0.1", f"listen_port = {port}", "unix_socket_dir =",
            "auth_type = scram-sha-256", f"auth_file = {directory}/users.txt", "pool_mode = session",
            f"default_pool_size = {CLIENTS_MAX * 2}", "max_client_conn = 500", "server_reset_query =",
            "server_tls_sslmode = disable", "ignore_startup_parameters = extra_float_digits",
            "log_connections = 0", "log_disconnections = 0", "log_stats = 0",
        ]
        files: dict[str, str | bytes] = {"users.txt": f'"app" "{PASSWORD}"\n'}
        if tls:
            files["server.crt"] = self.certificates.cert.read_bytes()
            files["server.key"] = self.certificates.key.read_bytes()
            lines += ["client_tls_sslmode = require", f"client_tls_cert_file = {directory}/server.crt",
                      f"client_tls_key_file = {directory}/server.key"]
        files["pgbouncer.ini"] = "\n".join(lines) + "\n"
        self._own(name, files)
        pid = self._run(name, port, [program, directory / "pgbouncer.ini"])
        return Peer(name, port, "app", PASSWORD, tls, [pid], [pid])

    def _haproxy(self) -> Peer | None:
        program = _find("haproxy")
        if program is None:
            return None
        port = free_port()
        text = (
            "global\n  nbthread 1\n  maxconn 1000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n"
            f"  timeout server 1h\nlisten bench\n  bind 127.0.0.1:{port}\n  server pg 127.0.0.1:{self.postgres.port}\n"
        )
        directory = self._own("haproxy", {"haproxy.cfg": text})
        pid = self._run("haproxy", port, [program, "-db", "-f", directory / "haproxy.cfg"])
        return Peer("haproxy", port, "app", PASSWORD, False, _family(pid), _family(pid))

    def _hoopfast(self, name: str) -> Peer:
        """`relay: auto` is io_uring where the kernel allows it; `hoopfast-epoll` is there to compare, as is `-disk`."""
        tls = name.endswith("-tls")
        issuer = self._stack.enter_context(TestIssuer())
        listen: dict[str, Any] = {"workers": self._workers, "max_sessions": 20_000}
        if tls:
            listen["tls"] = {"cert": str(self.certificates.cert), "key": str(self.certificates.key)}
        gateway = Gateway(
            issuer, {DATABASE: upstream_of(self.postgres, DATABASE), **self._connections}, policy=self._policy,
            config={"listen": listen, "relay": "epoll" if name.endswith("-epoll") else "auto",
                    "audit": {"durability": "disk" if name.endswith("-disk") else "process"}},
        )
        self._stack.enter_context(gateway)
        self.gateways.append(gateway)
        token = gateway.token("alice", exp=int(time.time()) + 4 * 3600)
        everyone = [p.pid for p in gateway.processes()]
        workers = [p.pid for p in gateway.workers()]
        return Peer(name, gateway.port, "alice", token, tls, everyone, workers)
