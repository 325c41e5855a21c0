"""Reloads: swapped whole or not at all; a file that is still being written, or is cut short, is no policy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from hoopfast.config import Config, Listen, ServerTls
from hoopfast.errors import ConfigError, Problem
from hoopfast.store.rows import PolicyRow
from hoopfast.supervisor import reload as reloading
from hoopfast.supervisor.reload import Accepted, Reloader
from hoopfast.supervisor.trail import Trail
from tests.support.certs import Certificates


class Store:
    def __init__(self) -> None:
        self.rows: list[PolicyRow] = []
        self.broken = False

    def policy_accepted(self, version: int, at: float, digest: str, source_text: str) -> None:
        if self.broken:
            raise OSError("disk full")
        self.rows.insert(0, PolicyRow(version=version, accepted_at=at, digest=digest, source=source_text))

    def policy_history(self) -> list[PolicyRow]:
        return self.rows


def parse(text: str, file: str, connections: Collection[str]) -> str:
    if "broken" in text:
        raise ConfigError([Problem(file, "$.masks[0]", "one"), Problem(file, "$.rules[1]", "two")])
    return text


class Bench:
    def __init__(self, directory: Path) -> None:
        self.policy = directory / "policy.yaml"
        self.policy.write_text("first")
        self.store = Store()
        self.config = Config(policy=str(self.policy))
        self.events: list[Any] = []
        self.trail = Trail(self.events.append)
        self.accepted: list[int] = []
        self.reloader = self.make()

    def make(self) -> Reloader:
        made = Reloader(
            self.policy.with_name("hoopfast.yaml"), load=lambda _: self.config, parse_policy=parse,
            compile_policy=lambda config, policy, version, key: (policy, version), mask_key=b"",
            policy_builtins=lambda policy: {"text": policy}, store=self.store, clock=lambda: 1.0,
        )
        made.on_accept.append(self._accept)
        return made

    def _accept(self, accepted: Accepted) -> None:
        self.accepted.append(accepted.version)


def run(tmp_path: Path, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.reloader.start(bench.config)
        await scenario(bench)

    asyncio.run(main())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "SETTLE_S", 0.01)


def test_a_change_is_accepted_whole_and_recorded(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.policy.write_text("second")
        new = await bench.reloader.reload(bench.trail, "ana")
        assert (new.version, new.snapshot) == (2, ("second", 2))
        assert bench.reloader.update().policy == {"text": "second"}
        assert bench.accepted == [2]
        assert [row.source for row in bench.store.rows] == ["second", "first"]
        assert (bench.events[-1].action, bench.events[-1].user) == ("policy", "ana")
        assert await bench.reloader.reload(bench.trail, "ana") is new
        assert bench.accepted == [2], "nothing changed, so nothing is swapped"

    run(tmp_path, scenario)


@pytest.mark.parametrize("content", [b"broken", b"", b"  \n\n", b"\x00\xff", None])
def test_a_broken_file_changes_nothing_and_says_so(tmp_path: Path, content: bytes | None) -> None:
    async def scenario(bench: Bench) -> None:
        before = bench.reloader.current
        if content is None:
            bench.policy.unlink()
        else:
            bench.policy.write_bytes(content)
        with pytest.raises(ConfigError):
            await bench.reloader.reload(bench.trail, "SIGHUP")
        assert bench.reloader.current is before
        assert bench.reloader.failures == 1
        assert len(bench.reloader.problems) == (2 if content == b"broken" else 1)
        assert bench.accepted == []
        bench.policy.write_text("first")
        await bench.reloader.reload(bench.trail, "SIGHUP")
        assert bench.reloader.problems == []

    run(tmp_path, scenario)


def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "SETTLE_S", 0.05)

    async def scenario(bench: Bench) -> None:
        with bench.policy.open("w") as file:        # cut to nothing, as editors do
            task = asyncio.create_task(bench.reloader.reload(bench.trail, "SIGHUP"))
            for part in ("acc", "ess", " and", " masks"):
                await asyncio.sleep(0.03)
                file.write(part)
                file.flush()
        assert (await task).text == "access and masks"
        assert bench.accepted == [2]

    run(tmp_path, scenario)


def test_watching_waits_until_a_change_has_settled(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.reloader.watch(bench.trail)
        bench.policy.write_text("sec")
        await bench.reloader.watch(bench.trail)
        bench.policy.write_text("second")
        await bench.reloader.watch(bench.trail)
        assert bench.accepted == []
        await bench.reloader.watch(bench.trail)
        assert bench.accepted == [2]
        bench.policy.write_text("broken")
        for _ in range(4):
            await bench.reloader.watch(bench.trail)
        assert bench.reloader.failures == 1, "one change is told once"

    run(tmp_path, scenario)


def test_what_cannot_be_recorded_is_not_put_into_force(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.store.broken = True
        bench.policy.write_text("second")
        with pytest.raises(ConfigError, match="could not be recorded"):
            await bench.reloader.reload(bench.trail, "x")
        assert bench.reloader.current.text == "first"

    run(tmp_path, scenario)


def test_a_check_before_may_still_refuse(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        def refuse(config: Config) -> None:
            raise ConfigError([Problem("hoopfast.yaml", "$.identity", "twice")])

        bench.reloader.before_accept.append(refuse)
        bench.policy.write_text("second")
        with pytest.raises(ConfigError, match="twice"):
            await bench.reloader.reload(bench.trail, "x")
        assert bench.reloader.current.text == "first"
        assert len(bench.store.rows) == 1

    run(tmp_path, scenario)


def test_renewed_certificates_are_a_change(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        files = Certificates(tmp_path)
        tls = ServerTls(cert=str(files.cert), key=str(files.key))
        bench.config = Config(policy=str(bench.policy), listen=Listen(tls=tls))
        with_tls = await bench.reloader.reload(bench.trail, "a test")
        assert (await bench.reloader.reload(bench.trail, "a test")).version == with_tls.version
        files.issue("server", names=("renewed.test",))
        assert (await bench.reloader.reload(bench.trail, "a test")).version == with_tls.version + 1
        assert bench.accepted == [with_tls.version, with_tls.version + 1]

    run(tmp_path, scenario)


def test_versions_rise_over_restarts_and_stay_for_the_same_text(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        again = bench.make()
        assert (await again.start(bench.config)).version == 1
        assert len(bench.store.rows) == 1
        bench.policy.write_text("other")
        os.utime(bench.policy)
        assert (await bench.make().start(bench.config)).version == 2

    run(tmp_path, scenario)
