"""A whole supervisor with a worker that does nothing: start, the two doors of the API, reload, drain, locks."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hoopfast.console.pages import Console
from hoopfast.errors import ConfigError
from hoopfast.supervisor.main import serve
from hoopfast.supervisor.processes import Entry
from tests.supervisor import workers
from tests.support.postgres import free_port


class Running:
    def __init__(self, directory: Path) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.file = directory / "hoopfast.yaml"
        self.policy = directory / "policy.yaml"
        self.state = directory / "state"
        self.policy.write_text("access:\n  - {groups: [engineering], connections: [shop]}\n")
        self.config: dict[str, Any] = {
            "listen": {"address": f"127.0.0.1:{self.port}", "workers": 2},
            "admin": {"address": f"127.0.0.1:{self.admin_port}"},
            "state_dir": "state",
            "connections": {"shop": {"upstream": {"host": "127.0.0.1", "port": 1, "database": "d", "user": "u"}}},
            "sessions": {"drain": 2.0},
        }
        self.file.write_text(yaml.safe_dump(self.config))

    def local(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=str(self.state / "admin.sock"))
        return httpx.AsyncClient(transport=transport, base_url="http://gateway", trust_env=False)

    def remote(self, **headers: str) -> httpx.AsyncClient:
        base = f"http://127.0.0.1:{self.admin_port}"
        return httpx.AsyncClient(base_url=base, headers=headers, trust_env=False)

    async def ready(self) -> None:
        deadline = time.monotonic() + 20
        async with self.remote() as http:
            while True:
                try:
                    if (await http.get("/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                assert time.monotonic() < deadline, "not ready in time"
                await asyncio.sleep(0.05)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 10
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


def run(tmp_path: Path, scenario: Callable[[Running], Awaitable[None]], entry: Entry = workers.refusing) -> None:
    running = Running(tmp_path)

    async def main() -> None:
        task = asyncio.create_task(serve(running.file, worker=entry, console=Console))
        try:
            await running.ready()
            await scenario(running)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, 20)
        finally:
            # Not by a signal: where the gateway has failed nobody would catch it, and it is the whole test run's.
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_a_gateway_lives_and_ends(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        said = (await reader.read()).decode()
        assert said.startswith("worker ")
        assert said.endswith(f"127.0.0.1:{writer.get_extra_info('sockname')[1]}")
        writer.close()
        await writer.wait_closed()
        async with running.local() as http:

            async def complete() -> bool:
                # Ready is said as soon as one worker is.
                status = (await http.get("/api/v1/status")).json()
                return bool(status["workers"] == {"wanted": 2, "ready": 2, "restarts": 0})

            await until(complete)
            wanted = {"user": "ops", "groups": ["hoopfast-admin"], "ttl_s": 60}
            made = (await http.post("/api/v1/secrets", json=wanted)).json()
        async with running.remote() as http:
            assert (await http.get("/api/v1/status")).status_code == 401
            metrics = (await http.get("/metrics")).text
            assert 'hoopfast_sessions{connection="shop"} 0.0' in metrics
            assert "hoopfast_workers 2.0" in metrics
        async with running.remote(Authorization=f"Bearer {made['secret']}") as http:
            assert (await http.get("/api/v1/status")).status_code == 200
            events: list[str] = []

            async def searched() -> bool:
                found = (await http.get("/api/v1/audit/search?event=gateway")).json()["events"]
                events[:] = [event["fields"].get("operation", "") for event in found]
                return "secret_create" in events

            await until(searched)
            assert (await http.delete(f"/api/v1/secrets/{made['id']}")).status_code == 200
            assert (await http.get("/api/v1/status")).status_code == 401
        assert stat.S_IMODE((running.state / "admin.sock").stat().st_mode) == 0o600
        assert stat.S_IMODE(running.state.stat().st_mode) == 0o700
        assert stat.S_IMODE((running.state / "mask.key").stat().st_mode) == 0o600
        for path in running.state.rglob("*"):
            if path.is_file():
                assert made["secret"].encode() not in path.read_bytes(), path

    run(tmp_path, scenario)
    assert not (tmp_path / "state" / "admin.sock").exists()


def test_reloads(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with running.local() as http:
            before = (await http.get("/api/v1/policy")).json()
            running.policy.write_text("access: [")
            broken = await http.post("/api/v1/policy/reload")
            assert broken.status_code == 422
            assert "policy.yaml" in broken.json()["error"]
            after = (await http.get("/api/v1/policy")).json()
            assert after["version"] == before["version"]
            assert after["problems"]
            running.policy.write_text("access:\n  - {groups: [everybody], connections: [shop]}\n")

            async def picked_up() -> bool:
                now = (await http.get("/api/v1/policy")).json()
                return bool(now["version"] > before["version"] and not now["problems"])

            await until(picked_up)
            unchanged = (await http.post("/api/v1/policy/reload")).json()
            assert unchanged["version"] == (await http.get("/api/v1/policy")).json()["version"]
            history = (await http.get("/api/v1/policy/history")).json()["history"]
            assert "everybody" in history[0]["source"]

    run(tmp_path, scenario)


def test_two_gateways_cannot_share_a_directory(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        other = tmp_path / "other.yaml"
        listen = {"address": f"127.0.0.1:{free_port()}", "workers": 1}
        other.write_text(yaml.safe_dump(running.config | {"listen": listen, "admin": {"address": ""}}))
        with pytest.raises(ConfigError, match=f"in use by another gateway, process {os.getpid()}"):
            await serve(other, worker=workers.refusing)

    run(tmp_path, scenario)
