"""Tests of the supervisor fork their workers from a server that has imported them, as a real gateway does."""

from __future__ import annotations

import pytest

from hoopfast.supervisor.processes import start_fork_server


@pytest.fixture(scope="package", autouse=True)
def _fork_server() -> None:
    start_fork_server(("tests.supervisor.workers",))
