"""Which gateway the command line talks to, and what it says when there is none."""

from __future__ import annotations

from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner

from hoopfast.cli import sessions
from hoopfast.cli.client import AdminClient, connect, segment


@pytest.mark.parametrize("server", ["http://127.example.com", "http://127.0.0.1.example.com", "http://gw", "ftp://localhost.x"])
def test_a_token_never_leaves_the_machine_in_the_clear(server: str) -> None:
    with pytest.raises(click.UsageError, match="only travel over https"):
        connect(server=server, token="t")


@pytest.mark.parametrize("server", ["http://127.0.0.1:8432", "http://localhost:8432", "http://[::1]:8432", "https://gw"])
def test_where_it_may_go(server: str) -> None:
    with connect(server=server, token="t"):
        pass


def test_no_gateway_runs(tmp_path: Path) -> None:
    config = tmp_path / "hoopfast.yaml"
    config.write_text("state_dir: state\n")
    said = CliRunner().invoke(sessions.command, ["list", "-c", str(config)]).output
    assert f"there is no {tmp_path}/state/admin.sock" in said
    assert "hoopfast serve" in said


def test_the_file_in_the_working_directory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOOPFAST_CONFIG", raising=False)
    monkeypatch.delenv("HOOPFAST_SERVER", raising=False)
    assert "here is no hoopfast.yaml" in CliRunner().invoke(sessions.command, ["list"]).output
    Path("hoopfast.yaml").write_text("state_dir: state\n")
    assert "no gateway runs with this configuration" in CliRunner().invoke(sessions.command, ["list"]).output


def test_names_are_one_segment() -> None:
    assert segment("../secrets?x=/") == "..%2Fsecrets%3Fx%3D%2F"


def test_what_a_server_says_is_shown_without_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json={"error": "no\x1b[2J", "hint": "ask\nsomebody"})

    client = AdminClient(server="https://gw", token="t")
    client._http = httpx.Client(transport=httpx.MockTransport(answer), base_url="https://gw")
    with client, pytest.raises(click.ClickException) as refused:
        client.get("/status")
    assert refused.value.message == "no\ufffd[2J\nask\nsomebody"
