"""kill -9 in mid load: every statement that PostgreSQL logged is in the audit store after the restart."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Self

import psutil
import psycopg
import pytest

from tests.gateway.conftest import SHOP_POLICY, connections
from tests.support.gateway import Gateway, markers_in, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer


@pytest.fixture
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    running = Gateway(issuer, connections(postgres, shop), policy=SHOP_POLICY)
    running.start()
    yield running
    running.stop()


class Load:
    """Threads that send marked statements until their connection breaks or they are told to stop."""

    def __init__(self, gateway: Gateway, postgres: PostgresServer, name: str, threads: int = 6) -> None:
        self.gateway = gateway
        self.name = name
        self.log_from = postgres.log.stat().st_size
        self.stopping = threading.Event()
        self.answered: set[str] = set()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]

    def _run(self, thread: int) -> None:
        number = 0
        with contextlib.suppress(psycopg.Error, OSError), self.gateway.connect("shop") as db:
            while not self.stopping.is_set() and number < 20_000:
                number += 1
                marker = f"hf-marker-{self.name}-{thread}-{number}"
                if thread % 3 == 0:
                    db.execute(f"SELECT {number} /* {marker} */")
                elif thread % 3 == 1:
                    db.execute(f"SELECT %s::int /* {marker} */", (number,))
                else:
                    with db.pipeline():
                        for part in "abc":
                            db.execute(f"SELECT %s::int /* {marker}{part} */", (number,))
                    self.answered |= {marker + part for part in "abc"}
                    continue
                self.answered.add(marker)

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(15)


def marked(text: str, name: str) -> set[str]:
    return {marker for marker in markers_in(text) if marker.startswith(f"hf-marker-{name}-")}


def in_the_trail(gateway: Gateway, name: str) -> set[str]:
    return marked("\n".join(str(e.get("sql", "")) for e in gateway.audit_jsonl()), name)


def everything_is_recorded(gateway: Gateway, postgres: PostgresServer, load: Load) -> None:
    # Servers whose client is gone may still have statements of a pipeline to run.
    busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'"
    with postgres.connect() as db:
        wait_until(lambda: db.execute(busy).fetchone() == (0,), "the server is done")
    reached = marked(postgres.log_text(load.log_from), load.name)
    assert load.answered <= reached and len(reached) > 300
    missing: set[str] = set()

    def complete() -> bool:
        missing.clear()
        missing.update(reached - in_the_trail(gateway, load.name))
        return not missing

    try:
        wait_until(complete, "all statements of PostgreSQL's log are audited", 30, interval=0.2)
    except AssertionError as error:
        raise AssertionError(f"{len(missing)} of {len(reached)} are not, such as {sorted(missing)[:5]}") from error


def test_kill_a_worker(gateway: Gateway, postgres: PostgresServer) -> None:
    with Load(gateway, postgres, "worker") as load:
        wait_until(lambda: len(load.answered) > 300, "the load runs")
        workers = {p.pid for p in gateway.workers()}
        victim = max(gateway.workers(), key=lambda p: p.num_fds())
        victim.kill()
        wait_until(lambda: victim.pid not in {p.pid for p in gateway.workers()}, "the worker is replaced")
        wait_until(lambda: len(gateway.workers()) == len(workers), "there are as many workers as before")
    with gateway.connect("shop") as db:
        assert db.execute("SELECT 1").fetchone() == (1,)
    everything_is_recorded(gateway, postgres, load)


def test_others_do_not_notice_a_dead_worker(gateway: Gateway) -> None:
    """Sessions of the other worker go on; the dead one's see a closed connection."""
    sessions = [gateway.connect("shop") for _ in range(8)]
    try:
        for db in sessions:
            db.execute("SELECT 1")
        victim = gateway.workers()[0]
        victim.kill()
        wait_until(
            lambda: len(now := gateway.workers()) == 2 and victim not in now, "another worker is in its place"
        )
        alive = 0
        for db in sessions:
            with contextlib.suppress(psycopg.OperationalError):
                db.execute("SELECT 1")
                alive += 1
        assert 0 < alive < 8
    finally:
        for db in sessions:
            db.close()


def test_kill_the_supervisor(gateway: Gateway, postgres: PostgresServer) -> None:
    with Load(gateway, postgres, "supervisor") as load:
        wait_until(lambda: len(load.answered) > 300, "the load runs")
        gateway.kill9()
    assert not gateway.orphans, "workers end when the supervisor is gone"
    gateway.start()
    everything_is_recorded(gateway, postgres, load)


def test_kill_everything(gateway: Gateway, postgres: PostgresServer) -> None:
    with Load(gateway, postgres, "all") as load:
        wait_until(lambda: len(load.answered) > 300, "the load runs")
        for process in gateway.processes()[::-1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        gateway.kill9()
    gateway.start()
    everything_is_recorded(gateway, postgres, load)


def test_a_crash_leaves_unknown_outcomes_not_holes(gateway: Gateway, postgres: PostgresServer) -> None:
    thread = threading.Thread(target=lambda: _sleep(gateway), daemon=True)
    thread.start()
    with postgres.connect() as db:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep.*hf-marker-sleeping'"
        wait_until(lambda: db.execute(query).fetchone() != (0,), "the statement runs")
    for process in gateway.workers():
        os.kill(process.pid, signal.SIGKILL)
    thread.join(15)
    event = gateway.wait_audited("hf-marker-sleeping")[0]
    assert event["outcome"] == "unknown"
    assert event["user"] == "alice@example.com"


def _sleep(gateway: Gateway) -> None:
    with contextlib.suppress(psycopg.Error), gateway.connect("shop") as db:
        db.execute("SELECT pg_sleep(30) /* hf-marker-sleeping */")


def test_sigterm_drains(gateway: Gateway) -> None:
    """Idle sessions end at once, a transaction may finish, and nobody new gets in."""

    def closed_to_new_ones() -> bool:
        try:
            gateway.connect("shop").close()
        except psycopg.OperationalError:
            return True
        return False

    with contextlib.closing(gateway.connect("shop")) as idle, contextlib.closing(gateway.connect("shop")) as busy:
        idle.execute("SELECT 1")
        busy.execute("BEGIN")
        busy.execute("SELECT 1")
        stopper = threading.Thread(target=gateway.stop, daemon=True)
        stopper.start()
        wait_until(closed_to_new_ones, "nobody new gets in", 4)
        assert busy.execute("SELECT 2 /* hf-marker-drain-1 */").fetchone() == (2,)
        with pytest.raises(psycopg.OperationalError) as caught:
            idle.execute("SELECT 1")
        assert caught.value.sqlstate in {"57P01", None}
        busy.execute("COMMIT")
        stopper.join(20)
        assert not stopper.is_alive()
    assert "hf-marker-drain-1" in in_the_trail(gateway, "drain")
