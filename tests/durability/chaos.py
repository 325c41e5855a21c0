"""Faults at random moments under load, then the account. Used by test_durability and `python -m tests.durability`."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from tests.durability import faults
from tests.durability.account import Account, account
from tests.durability.faults import Damage
from tests.durability.load import LEDGER, Load
from tests.support.gateway import OPEN_POLICY, Gateway, upstream_of, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer

# Small, so that segments change often and a store that hangs soon holds the sessions up.
JOURNAL = "32MiB"
KILLS = ("worker", "worker", "worker", "shipper", "shipper", "supervisor", "everything")
TROUBLES = ("slow", "broken", "disk", "damage")


class Chaos:
    """One gateway, one load. `kill` and `trouble` do one thing each; `finish` stops everything and counts."""

    def __init__(
        self, gateway: Gateway, postgres: PostgresServer, load: Load, seed: int, *, disk: bool, keep: Path | None,
    ) -> None:
        self.done: Counter[str] = Counter()
        self._gateway = gateway
        self._postgres = postgres
        self._load = load
        self._chance = random.Random(seed)
        self._disk = disk
        self._keep = keep
        self._damages: list[Damage] = []

    def kill(self, what: str) -> None:
        """SIGKILL at a random moment within the next second."""
        time.sleep(self._chance.uniform(0.05, 1.0))
        self.done[what] += {
            "worker": self._kill_worker,
            "shipper": lambda: faults.kill(faults.shipper_of(self._gateway) or 2**22 + 1),
            "supervisor": lambda: faults.kill_supervisor(self._gateway),
            "everything": lambda: faults.kill_everything(self._gateway),
        }[what]()

    def _kill_worker(self) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            workers = self._gateway.workers()
            if workers:
                # The one with more sessions is in the middle of more.
                victim = max(workers, key=lambda p: (p.num_fds(), self._chance.random()))
                return faults.kill(victim.pid)
        return False

    def trouble(self, what: str) -> None:
        run: dict[str, Callable[[], None]] = {
            "slow": lambda: faults.stop_shipper(self._gateway, self._chance.uniform(0.5, 3.0)),
            "broken": lambda: faults.break_store(
                self._gateway, self._chance.uniform(0.3, 1.5), self._chance.randint(1, 4)),
            "disk": self._fill_disk,
            "damage": self._damage,
        }
        if what != "disk" or self._disk:
            run[what]()
            self.done[what] += 1

    def _fill_disk(self) -> None:
        """And a worker dies meanwhile: its successor starts on a full disk."""
        with faults.full_disk(self._gateway):
            time.sleep(self._chance.uniform(0.5, 2.0))
            self._kill_worker()
            time.sleep(self._chance.uniform(0.5, 2.0))
            if self._chance.random() < 0.5:
                faults.kill(faults.shipper_of(self._gateway) or 2**22 + 1)
                time.sleep(1.0)

    def _damage(self) -> None:
        faults.leave_corpses(self._gateway)
        self._damages += faults.damage_last_records(self._gateway)
        self._gateway.start(faults.START_S)

    def _is_shipped(self) -> bool:
        """No segment has anything that is not in the stores: the shipper stops after five seconds, done or not."""
        return self._gateway.metrics()["hoopfast_shipping_lag_seconds"] == 0.0

    def finish(self, log_from: int) -> Account:
        """Until PostgreSQL is done and everything is shipped."""
        faults.settled(self._gateway)
        before = len(self._load.answered)
        wait_until(lambda: len(self._load.answered) > before + 20, "the load runs again after all that", 60)
        self._load.__exit__()
        assert not self._load.alive, "a client hangs"
        busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'"
        with self._postgres.connect() as db:
            wait_until(lambda: db.execute(busy).fetchone() == (0,), "the server is done", 30)
        wait_until(self._is_shipped, "all is shipped", 300, interval=1.0)
        assert self._gateway.stop(60) == 0
        log = self._postgres.log_text(log_from)
        result = account(self._gateway, log, self._load, self._damages)
        if result.problems and self._keep is not None:
            shutil.copytree(self._gateway.directory, self._keep, ignore=_no_sockets)
            (self._keep / "server.log").write_text(log)
        return result


@contextlib.contextmanager
def chaos(
    issuer: TestIssuer, postgres: PostgresServer, *, seed: int, threads: int = 6,
    disk_mib: int = 256, durability: str = "process", name: str = "d", keep: Path | None = None,
) -> Iterator[Callable[[Sequence[str]], tuple[Chaos, Account]]]:
    """A function that does a list of faults, in this order, and returns the account."""
    with postgres.database(f"chaos_{name}", LEDGER) as database:
        gateway = Gateway(
            issuer, {"shop": upstream_of(postgres, database)}, policy=OPEN_POLICY,
            config={"audit": {"max_bytes": JOURNAL, "durability": durability, "results": "1KiB"}},
        )
        with faults.small_disk(gateway.state_dir, disk_mib) as disk:
            log_from = postgres.log.stat().st_size
            gateway.start(faults.START_S)
            load = Load(gateway, name, threads, seed)

            def run(plan: Sequence[str]) -> tuple[Chaos, Account]:
                made = Chaos(gateway, postgres, load, seed, disk=disk, keep=keep)
                with load:
                    wait_until(lambda: len(load.answered) > 200, "the load runs", 30)
                    for number, what in enumerate(plan):
                        made.kill(what) if what in KILLS else made.trouble(what)
                        if number % 10 == 9:
                            sys.stderr.write(f"{number + 1} of {len(plan)}: {dict(made.done)}, "
                                             f"{len(load.answered)} answered\n")
                    return made, made.finish(log_from)

            try:
                yield run
            finally:
                if gateway in Gateway.running:
                    gateway.kill9()
                    sys.stderr.write(gateway.log_text()[-4000:])


def _no_sockets(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(directory) / name).is_socket()]


def random_plan(kills: int, seed: int) -> list[str]:
    """`kills` kills, and one other trouble after about every eighth."""
    chance = random.Random(seed)
    plan: list[str] = []
    for number in range(kills):
        plan.append(chance.choice(KILLS))
        if number % 8 == 7:
            plan.append(TROUBLES[number // 8 % len(TROUBLES)])
    return plan

