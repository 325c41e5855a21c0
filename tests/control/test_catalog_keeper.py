"""The supervisor's catalogs: one load for many who ask, reloads that are told once, failures that are answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hoopfast.analysis.catalog import Catalog
from hoopfast.config import Config, Connection, Upstream
from hoopfast.control import catalog as module
from hoopfast.control.catalog import CatalogKeeper
from tests.support.waiting import until

CONFIG = Config(connections={"shop": Connection(upstream=Upstream(host="127.0.0.1", database="d", user="u"))})


class Upstreams:
    """Stands for the database: `digest` is what a poll sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loads = 0
        self.digest = "1"
        self.fail = False
        monkeypatch.setattr(module, "load_catalog", self.load)
        monkeypatch.setattr(CatalogKeeper, "_digest", self.look)

    async def load(self, connection: Any, password: str, masked: Any, epoch: int) -> Catalog:
        self.loads += 1
        await asyncio.sleep(0.01)
        if self.fail:
            raise OSError("no route")
        return Catalog(epoch=epoch, problems=("beware",))

    async def look(self, _connection: Connection) -> str:
        return self.digest


def keeper(told: list[int]) -> CatalogKeeper:
    masked = ("public", "customers", "ssn")
    return CatalogKeeper(CONFIG, 1, lambda _: [masked], lambda _: "", lambda update: told.append(update.epoch))


def test_many_ask_and_one_load_serves_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        upstream, told = Upstreams(monkeypatch), list[int]()
        desk = keeper(told)
        first, second = await asyncio.gather(desk.get("shop"), desk.get("shop"))
        assert first is second is await desk.get("shop")
        assert (upstream.loads, told, first.epoch) == (1, [], 1)
        assert desk.problems() == {"shop": ("beware",)}
        await desk.close()
    asyncio.run(run())


def test_changes_in_a_row_are_told_once_with_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        upstream, told = Upstreams(monkeypatch), list[int]()
        desk = keeper(told)
        await desk.get("shop")
        for _ in range(5):
            desk.changed("shop")
        await until(lambda: bool(told))
        assert told == [3] and upstream.loads == 3
        await desk.close()
    asyncio.run(run())


def test_poll_reloads_only_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        upstream, told = Upstreams(monkeypatch), list[int]()
        desk = keeper(told)
        await desk.get("shop")
        await desk.poll()
        await asyncio.sleep(0.03)
        assert told == []
        upstream.digest = "2"
        await desk.poll()
        await until(lambda: bool(told))
        assert told == [2]
        await desk.close()
    asyncio.run(run())


def test_failure_is_an_answer_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        upstream, told = Upstreams(monkeypatch), list[int]()
        desk = keeper(told)
        upstream.fail = True
        broken = await desk.get("shop")
        assert broken.catalog is None and "OSError" in broken.error
        upstream.fail = False
        assert (await desk.get("shop")).catalog is not None
        assert (await desk.get("nowhere")).error
        await desk.close()
    asyncio.run(run())


def test_catalogs_belong_to_the_policy_they_were_read_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that is under way when the policy changes answers nobody: it does not know the new masked columns."""
    seen: list[frozenset[tuple[str, str, str]]] = []

    async def load(_connection: Any, _password: str, masked: Any, epoch: int) -> Catalog:
        seen.append(frozenset(masked))
        await asyncio.sleep(0.01)
        return Catalog(epoch=epoch)

    async def run() -> None:
        Upstreams(monkeypatch)
        monkeypatch.setattr(module, "load_catalog", load)
        told: list[tuple[int, int]] = []
        ssn, card = ("public", "customers", "ssn"), ("public", "customers", "card")
        desk = CatalogKeeper(
            CONFIG, 1, lambda _: [ssn], lambda _: "", lambda update: told.append((update.policy, update.epoch)))
        assert (await desk.get("shop")).policy == 1
        desk.changed("shop")
        early = asyncio.create_task(desk.get("shop"))
        await asyncio.sleep(0.005)
        desk.reload(CONFIG, 2, lambda _: [ssn, card])
        assert (await desk.get("shop")).policy == 2
        assert (await early).policy == 2
        await until(lambda: bool(told))
        assert all(policy == 2 for policy, _ in told)
        assert seen[-1] == {ssn, card}
        await desk.close()

    asyncio.run(run())
