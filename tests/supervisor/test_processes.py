"""The pool with workers that do nothing: start, death, back-off, silence, descriptors, end."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hoopfast import model
from hoopfast.supervisor.processes import BACKOFF_MAX_S, Entry, Pool, Worker
from tests.supervisor import workers
from tests.support.waiting import until


class Seen:
    def __init__(self) -> None:
        self.started: list[int] = []
        self.messages: list[Any] = []
        self.died: list[tuple[int, str]] = []

    def worker_started(self, worker: Worker) -> None:
        self.started.append(worker.index)

    def worker_message(self, worker: Worker, message: Any) -> None:
        self.messages.append(message)

    def worker_died(self, worker: Worker, how: str) -> None:
        self.died.append((worker.index, how))


def run(entry: Entry, tmp_path: Path, scenario: Callable[[Pool, Seen], Awaitable[None]], **options: Any) -> None:
    @asynccontextmanager
    async def pool() -> Any:
        seen = Seen()
        it = Pool(2, entry, seen, state_dir=tmp_path, **options)
        it.start()
        try:
            yield it, seen
        finally:
            await it.stop(0.2)

    async def main() -> None:
        async with pool() as (it, seen):
            await scenario(it, seen)

    asyncio.run(main())


def test_a_dead_worker_is_replaced_and_the_other_does_not_notice(tmp_path: Path) -> None:
    async def scenario(pool: Pool, seen: Seen) -> None:
        await until(lambda: len(pool.workers) == 2 and all(w.ready for w in pool.workers.values()))
        victim, other = pool.workers[0], pool.workers[1]
        born, others = victim.counters.read()[2], other.counters.read()[2]
        assert born != others and pool.is_live(0, born) and pool.is_live(1, others) and not pool.is_live(0, others)
        assert victim.counters.read()[:2] == [1, 5]
        os.kill(victim.pid, signal.SIGKILL)
        await until(lambda: seen.died == [(0, "SIGKILL")])
        await until(lambda: 0 in pool.workers and pool.workers[0].ready)
        assert pool.workers[0].pid != victim.pid
        assert pool.workers[1] is other
        assert pool.restarts == 1
        assert not pool.is_live(0, born)
        assert pool.is_live(0, pool.workers[0].counters.read()[2])
        assert pool.is_live(1, others)
        # Totals survive the process; what was open does not.
        await until(lambda: pool.workers[0].counters.read()[1] == 5)
        assert pool.retired[model.COUNTERS.index("sessions_total")] == 5
        assert pool.retired[model.COUNTERS.index("sessions_open")] == 0

    run(workers.polite, tmp_path, scenario, backoff_first_s=0.01)


def test_a_step_of_the_clock_makes_no_live_worker_look_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ever further back in time, as when a clock is set: each process gets a number of its own all the same.
    now = itertools.count(10**18, -(10**9))
    monkeypatch.setattr("hoopfast.supervisor.processes.time.time_ns", lambda: next(now))

    async def scenario(pool: Pool, seen: Seen) -> None:
        await until(lambda: len(pool.workers) == 2 and all(w.ready for w in pool.workers.values()))
        first = {index: worker.counters.read()[2] for index, worker in pool.workers.items()}
        assert all(pool.is_live(index, boot) for index, boot in first.items())
        os.kill(pool.workers[0].pid, signal.SIGKILL)
        await until(lambda: 0 in pool.workers and pool.workers[0].ready and bool(seen.died))
        assert not pool.is_live(0, first[0])
        assert pool.is_live(0, pool.workers[0].counters.read()[2])

    run(workers.polite, tmp_path, scenario, backoff_first_s=0.01)


def test_exit_status_is_told(tmp_path: Path) -> None:
    async def scenario(pool: Pool, seen: Seen) -> None:
        await until(lambda: all(w.ready for w in pool.workers.values()))
        pool.workers[1].send(model.KillSessions())
        await until(lambda: seen.died == [(1, "exit status 7")])

    run(workers.polite, tmp_path, scenario)


def test_a_crash_loop_slows_down(tmp_path: Path) -> None:
    async def scenario(pool: Pool, seen: Seen) -> None:
        await until(lambda: pool._backoff.get(0, 0.0) >= 0.04)
        assert pool.least_loaded() is None
        assert len(seen.died) >= 3
        pool._backoff[0] = 8.0
        pool._restart_later(0, lived_s=0.5)
        assert pool._backoff[0] == BACKOFF_MAX_S
        pool._restarting.pop(0).cancel()
        pool._restart_later(0, lived_s=3600.0)
        assert pool._backoff[0] == 0.01

    run(workers.crashing, tmp_path, scenario, backoff_first_s=0.01)


def test_a_worker_whose_loop_is_stuck_is_killed(tmp_path: Path) -> None:
    async def scenario(pool: Pool, seen: Seen) -> None:
        await until(lambda: ("SIGKILL" in [how for _, how in seen.died]))

    run(workers.stuck, tmp_path, scenario, ping_every_s=0.05, silence_max_s=0.2)


def test_pongs_keep_a_worker_alive(tmp_path: Path) -> None:
    async def scenario(pool: Pool, seen: Seen) -> None:
        await until(lambda: sum(isinstance(m, model.Pong) for m in seen.messages) > 20)
        assert seen.died == []

    run(workers.polite, tmp_path, scenario, ping_every_s=0.02, silence_max_s=1.0)


def test_a_supervisor_that_was_stopped_kills_nobody_for_it(tmp_path: Path) -> None:
    async def scenario(pool: Pool, seen: Seen) -> None:
        for _ in range(3):
            heard = len(seen.messages)
            await until(lambda: len(seen.messages) >= heard + 2)        # noqa: B023  (used at once)
            time.sleep(0.4)                         # the loop stands still
        await asyncio.sleep(0.2)
        assert seen.died == []

    run(workers.polite, tmp_path, scenario, ping_every_s=0.05, silence_max_s=0.2)


def test_clients_go_to_the_least_loaded(tmp_path: Path) -> None:
    async def scenario(pool: Pool, seen: Seen) -> None:
        await until(lambda: len(pool.workers) == 2 and all(w.ready for w in pool.workers.values()))
        pool.workers[0].load = 3
        pool.workers[1].load = 2
        chosen = pool.least_loaded()
        assert chosen is pool.workers[1]
        chosen.load = 4
        assert pool.least_loaded() is pool.workers[0]

    run(workers.polite, tmp_path, scenario)


def test_stop_ends_polite_workers_at_once_and_leaves_no_page(tmp_path: Path) -> None:
    seen = Seen()

    async def main() -> float:
        pool = Pool(2, workers.polite, seen, state_dir=tmp_path)
        pool.start()
        await until(lambda: len(pool.workers) == 2 and all(w.ready for w in pool.workers.values()))
        begun = time.monotonic()
        await pool.stop(10.0)
        assert not pool.workers
        return time.monotonic() - begun

    assert asyncio.run(main()) < 5.0
    assert sorted(how for _, how in seen.died) == ["exit status 0", "exit status 0"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["workers.lock"]


@pytest.mark.parametrize("index", [0, 1])
def test_drained_workers_are_not_replaced(tmp_path: Path, index: int) -> None:
    async def scenario(pool: Pool, seen: Seen) -> None:
        await until(lambda: len(pool.workers) == 2 and all(w.ready for w in pool.workers.values()))
        pool.expect_exits()
        pool.workers[index].send(model.KillSessions())
        await until(lambda: index not in pool.workers)
        assert not await pool.wait_gone(0.2)
        pool.workers[1 - index].send(model.KillSessions())
        assert await pool.wait_gone(5.0)

    run(workers.polite, tmp_path, scenario)
