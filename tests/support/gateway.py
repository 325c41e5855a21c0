"""A gateway under test: configuration in a scratch directory, `hoopfast serve` as a child process, eyes into its state.

Used by tests/gateway, bench/ and loadtest/. It talks to the gateway only as an operator can: signals, the admin API on
its Unix socket, the command line, the files in the state directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import httpx
import psutil
import psycopg
import yaml

from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer, clean_environment, free_port, scratch_directory
from tests.support.schema import faults_of

ROOT = Path(__file__).resolve().parents[2]
# The `hoopfast` script, also where the package is not installed.
HOOPFAST = (sys.executable, "-c", "from hoopfast.cli.main import main; main(prog_name='hoopfast')")


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 15.0, interval: float = 0.05) -> Any:
    """The first true value of `condition`; AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still not after {timeout:g} s: {what}")
        time.sleep(interval)


def upstream_of(server: PostgresServer, database: str, *, user: str = "app", **changes: Any) -> dict[str, Any]:
    """An item of `connections:` for `server`."""
    upstream = {
        "host": "127.0.0.1", "port": server.port, "database": database, "user": user,
        "password": "env:TEST_UPSTREAM_PASSWORD", "tls": "disable",
    }
    return {"upstream": upstream | changes}


OPEN_POLICY: dict[str, Any] = {"access": [{"groups": ["engineering"], "connections": ["*"]}]}


class Gateway:
    """One gateway. `config` and `policy` are merged over defaults that listen on free loopback ports."""

    running: ClassVar[list[Gateway]] = []       # for leak accounting

    def __init__(
        self,
        issuer: TestIssuer,
        connections: Mapping[str, Any],
        *,
        policy: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        descriptors: int = 0,
    ) -> None:
        self.issuer = issuer
        self.directory = directory or scratch_directory("gw")
        self.port = free_port()
        self.admin_port = free_port()
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.state_dir = self.directory / "state"
        self.config_file = self.directory / "hoopfast.yaml"
        self.policy_file = self.directory / "policy.yaml"
        self.log = self.directory / "gateway.log"
        self.config: dict[str, Any] = {
            "listen": {"address": f"127.0.0.1:{self.port}", "workers": 2},
            "admin": {"address": f"127.0.0.1:{self.admin_port}", "approvers": ["dba"], "auditors": ["auditors"]},
            "state_dir": str(self.state_dir),
            "identity": [issuer.configuration()],
            "relay": os.environ.get("HOOPFAST_TEST_RELAY", "auto"),
            "connections": dict(connections),
            "sessions": {"drain": 5.0},
            "policy": "policy.yaml",
        }
        for name, section in (config or {}).items():
            known = self.config.get(name)
            self.config[name] = {**known, **section} if isinstance(known, dict) else section
        self.policy: dict[str, Any] = dict(policy if policy is not None else OPEN_POLICY)
        self._environment = clean_environment(TEST_UPSTREAM_PASSWORD="correct horse", **(environment or {}))
        self._environment["PYTHONPATH"] = str(ROOT)
        # 0: as many as we may have ourselves
        self._limits = ["prlimit", f"--nofile={descriptors}:{descriptors}", "--"] if descriptors else []
        self._process: subprocess.Popen[bytes] | None = None

    # ---------------------------------------------------------------- life

    def write(self) -> None:
        """Write configuration and policy; secrets of the state directory need a private directory."""
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        self.policy_file.write_text(yaml.safe_dump(self.policy, sort_keys=False))
        self.state_dir.mkdir(mode=0o700, exist_ok=True)

    def start(self, timeout: float = 30.0) -> Self:
        self.write()
        command = [*HOOPFAST, "serve", "-c", str(self.config_file)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self._limits, *command],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory, env=self._environment,
                start_new_session=True,
            )
        try:
            wait_until(self._is_ready, "the gateway is ready", timeout)
        except AssertionError:
            self.kill9()
            raise
        Gateway.running.append(self)
        return self

    def _left(self) -> None:
        if self in Gateway.running:
            Gateway.running.remove(self)

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the gateway ended with {self._process.returncode}:\n{self.log_text()[-4000:]}")
        try:
            return httpx.get(f"{self.admin_url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, timeout: float = 20.0) -> int:
        """SIGTERM, and the exit status. Fails when the gateway does not end in time."""
        self._left()
        process, self._process = self._process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self._process = process
            self.kill9()
            raise AssertionError(f"SIGTERM did not end the gateway:\n{self.log_text()[-4000:]}") from error

    def kill9(self) -> None:
        """SIGKILL for the supervisor alone; waits until every other process of it has gone by itself."""
        self._left()
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait(10)
            _, alive = psutil.wait_procs(family, timeout=15)
            for orphan in alive:
                orphan.kill()
            self.orphans = [orphan.pid for orphan in alive]

    orphans: list[int] = []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            sys.stderr.write(f"--- gateway log ---\n{self.log_text()[-6000:]}\n")
        self.stop()
        if kind is None:
            wrong = faults_of(self.state_dir / "audit")
            assert not wrong, "\n".join(["events against their schema:", *wrong])

    def reload(self) -> None:
        """SIGHUP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    # ---------------------------------------------------------------- people

    def token(self, person: str = "alice", **claims: Any) -> str:
        return self.issuer.mint(person, **claims)

    def dsn(self, connection: str, person: str = "alice", *, password: str | None = None, **options: Any) -> str:
        """A libpq connection string. The password is a fresh token of `person` unless given."""
        parts = {
            "host": "127.0.0.1", "port": self.port, "dbname": connection, "user": person, "connect_timeout": 15,
            "password": self.token(person) if password is None else password, "sslmode": "disable",
        } | options
        return psycopg.conninfo.make_conninfo(**parts)

    def connect(self, connection: str, person: str = "alice", **options: Any) -> psycopg.Connection[Any]:
        """psycopg through the gateway, autocommit."""
        return psycopg.connect(self.dsn(connection, person, **options), autocommit=True)

    # ---------------------------------------------------------------- the operator's side

    def admin(self, token: str | None = None) -> httpx.Client:
        """The admin API: over the Unix socket as the service's own user, or over HTTP with a token."""
        url, headers, socket = "http://gateway", {}, str(self.state_dir / "admin.sock")
        if token is not None:
            url, headers, socket = self.admin_url, {"Authorization": f"Bearer {token}"}, ""
        # No TLS here, so no authorities either: to load them takes longer than most tests.
        transport = httpx.HTTPTransport(uds=socket or None, verify=False)
        return httpx.Client(base_url=f"{url}/api/v1", headers=headers, transport=transport, trust_env=False, timeout=30)

    def cli(self, *arguments: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """`hoopfast ARGUMENTS`, with this gateway's configuration in HOOPFAST_CONFIG."""
        done = subprocess.run(
            [*HOOPFAST, *arguments],
            capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, cwd=self.directory,
            env=self._environment | {"HOOPFAST_CONFIG": str(self.config_file)},
        )
        if check and done.returncode != 0:
            raise AssertionError(f"hoopfast {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def metrics(self) -> dict[str, float]:
        """Samples of /metrics by name with labels, as Prometheus writes them; sums under the bare name as well."""
        text = httpx.get(f"{self.admin_url}/metrics", timeout=10, trust_env=False, verify=False).raise_for_status().text
        samples: dict[str, float] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
                bare = name.split("{")[0]
                if bare != name:
                    samples[bare] = samples.get(bare, 0.0) + float(value)
        return samples

    def approvals(self, state: str = "waiting") -> list[dict[str, Any]]:
        """Requests in a state, newest first."""
        with self.admin() as api:
            answer = api.get("/approvals", params={"state": state}).raise_for_status().json()
        found: list[dict[str, Any]] = answer["approvals"] if isinstance(answer, dict) else answer
        return found

    def wait_approval(self, text: str, timeout: float = 15.0) -> dict[str, Any]:
        """The waiting request whose statement contains `text`."""
        def find() -> list[dict[str, Any]]:
            return [row for row in self.approvals() if text in row["sql"]]

        return wait_until(find, f"an approval request for {text!r}", timeout)[0]  # type: ignore[no-any-return]

    def decide(self, approval: str, verb: str, person: str, reason: str = "") -> httpx.Response:
        """`verb`: approve | reject, by `person` with a token of theirs."""
        with self.admin(self.token(person)) as api:
            return api.post(f"/approvals/{approval}/{verb}", json={"reason": reason})

    # ---------------------------------------------------------------- processes

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[psutil.Process]:
        """The supervisor and everything under it."""
        supervisor = psutil.Process(self.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """Worker processes, found by the relay thread that only they have (its name is set by the worker)."""
        with self.admin() as api:
            listed = api.get("/workers")
        if listed.status_code == 200:
            found = []
            for item in listed.json()["workers"]:
                with contextlib.suppress(psutil.NoSuchProcess):     # killed, and not replaced yet
                    found.append(psutil.Process(item["pid"]))
            return found
        return [p for p in self.processes()[1:] if "worker" in " ".join(p.cmdline()) or _is_worker(p)]

    def descriptors(self) -> dict[int, int]:
        """Open descriptors per worker, for leak accounting."""
        return {process.pid: process.num_fds() for process in self.workers()}

    # ---------------------------------------------------------------- the audit trail

    def audit_database(self) -> Path:
        suffixes = {".db", ".sqlite", ".sqlite3"}
        found = [p for p in self.state_dir.rglob("*") if p.suffix in suffixes and "audit" in p.name]
        assert found, f"no audit store in {[str(p) for p in self.state_dir.rglob('*')]}"
        return found[0]

    def audit_jsonl(self) -> list[dict[str, Any]]:
        """Events of the JSONL sink, oldest first."""
        events = []
        for path in sorted(self.state_dir.rglob("*.jsonl")):
            events += [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        return events

    def audit_sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Read the SQLite store beside the running gateway."""
        with contextlib.closing(sqlite3.connect(f"file:{self.audit_database()}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(query, parameters).fetchall()

    def audited(self, marker: str) -> list[dict[str, Any]]:
        """Events whose statement text contains `marker`."""
        return [e for e in self.audit_jsonl() if marker in str(e.get("sql") or e.get("statement") or "")]

    def wait_audited(self, marker: str, count: int = 1, timeout: float = 20.0) -> list[dict[str, Any]]:
        return wait_until(  # type: ignore[no-any-return]
            lambda: found if len(found := self.audited(marker)) >= count else None,
            f"{count} audit events with {marker!r}", timeout,
        )

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _is_worker(process: psutil.Process) -> bool:
    """A worker has the relay's eventfd; nothing else of ours has three of them."""
    with contextlib.suppress(psutil.Error, OSError):
        names = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")]
        return sum(name == "anon_inode:[eventfd]" for name in names) >= 1 and process.num_threads() >= 2
    return False


MARKER = re.compile(r"hf-marker-[0-9a-z-]+")


def markers_in(text: str) -> set[str]:
    """Marker comments (`/* hf-marker-... */`) in a text: what reached PostgreSQL, from its log."""
    return set(MARKER.findall(text))
