"""The shipper in its own process: opens, ships, comes back when it is killed, and ends with everything shipped."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from hoopfast.audit.events import gateway_event
from hoopfast.config import Audit, Config, Sink
from hoopfast.errors import AuditUnavailable
from hoopfast.supervisor.shipping import Shipping
from tests.audit.journal_writer import JournalWriter

S = 0xAB00_0000_0000_0001


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for name in ("run", "journal"):
        (tmp_path / name).mkdir()
    return tmp_path


@asynccontextmanager
async def shipping(state: Path, live: set[tuple[int, int]]) -> AsyncIterator[Shipping]:
    made = Shipping(Config(), state, is_live=lambda worker, boot: (worker, boot) in live)
    await made.start()
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await made.close()


def kinds(state: Path) -> list[str]:
    with closing(sqlite3.connect(state / "audit.db")) as db:
        rows = db.execute(
            "SELECT coalesce(k.outcome, k.event) FROM events e JOIN kinds k ON k.code = e.kind ORDER BY e.id")
        return [kind for (kind,) in rows]


async def until(state: Path, expected: list[str]) -> None:
    for _ in range(200):
        if kinds(state) == expected:
            return
        await asyncio.sleep(0.05)
    assert kinds(state) == expected


def test_ships_and_survives_its_own_death(state: Path) -> None:
    async def main() -> None:
        writer = JournalWriter(state / "journal", size=1 << 16)
        writer.start(S)
        query = writer.query(S, "SELECT 1")
        async with shipping(state, {(0, 1000)}) as ships:
            await until(state, ["session_start"])
            os.kill(ships.pid, signal.SIGKILL)
            ships.add(gateway_event("kill", 1, reason="while the shipper was dead"))
            writer.outcome(S, query)
            await until(state, ["session_start", "complete", "gateway"])
            assert ships.failures == 1
            assert ships.lag.seconds < 5
            writer.end(S)
        assert kinds(state) == ["session_start", "complete", "gateway", "session_end"]

    asyncio.run(main())


def test_a_worker_is_final_only_when_the_supervisor_says_so(state: Path) -> None:
    async def main() -> None:
        live = {(0, 1000)}
        writer = JournalWriter(state / "journal", size=1 << 16)
        writer.start(S)
        writer.query(S, "SELECT 1")
        async with shipping(state, live):
            await until(state, ["session_start"])
            await asyncio.sleep(0.3)
            assert kinds(state) == ["session_start"]
            live.clear()
            await until(state, ["session_start", "unknown", "session_end"])

    asyncio.run(main())


def test_a_store_that_cannot_be_opened_is_said_at_the_start(state: Path) -> None:
    async def main() -> None:
        with closing(sqlite3.connect(state / "audit.db")) as db:
            db.execute("PRAGMA user_version=99")
        made = Shipping(
            Config(audit=Audit(sinks=(Sink(kind="sqlite"),))), state, is_live=lambda worker, boot: True)
        with pytest.raises(AuditUnavailable, match="audit schema 99"):
            await made.start()

    asyncio.run(main())
