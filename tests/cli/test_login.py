"""The files of `hoopfast login`: private, whole at every moment, and nobody else's lines touched."""

from __future__ import annotations

import stat
import threading
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from hoopfast.cli import credfiles
from hoopfast.cli.credfiles import Login
from hoopfast.cli.loopback import Waiting
from hoopfast.cli.main import main

GIVEN = Login(
    server="https://gw.example.com", id="sec_1", user="ada@example.com", host="gw.example.com", port=6432, tls=True,
    expires_at=4e9, connections=("orders", "people"), ca="/etc/ca.pem",
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "PGSERVICEFILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_what_is_written(home: Path) -> None:
    assert credfiles.keep(GIVEN, "hf_x") == (["orders", "people"], [])
    at = home / ".config/hoopfast/gw.example.com"
    assert (at / "pgpass").read_text() == "gw.example.com:6432:*:*:hf_x\n"
    services = (home / ".pg_service.conf").read_text()
    assert (
        "[people]\ndbname=people\nhost=gw.example.com\nport=6432\nuser=ada@example.com\n"
        f"passfile={at}/pgpass\n" in services
    )
    assert "sslmode=verify-full\nsslrootcert=/etc/ca.pem\n" in services
    for path in (at / "pgpass", at / "login.json", home / ".pg_service.conf"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "hf_x" not in services + (at / "login.json").read_text()
    assert credfiles.known() == [GIVEN]
    assert credfiles.secret_of(GIVEN) == "hf_x"


def test_other_sections_stay(home: Path) -> None:
    path = home / ".pg_service.conf"
    path.write_text("# mine\n[people]\nhost=elsewhere")
    assert credfiles.keep(GIVEN, "hf_x") == (["orders"], ["people"])
    again = msgspec.structs.replace(GIVEN, connections=("orders",))
    credfiles.keep(again, "hf_y")
    assert path.read_text().startswith("# mine\n[people]\nhost=elsewhere\n# >>> hoopfast")
    assert path.read_text().count("[orders]") == 1
    other = msgspec.structs.replace(GIVEN, server="https://other:8432", connections=("third", "orders"))
    assert credfiles.keep(other, "hf_z") == (["third"], ["orders"])
    credfiles.forget(GIVEN.server)
    assert "[third]" in path.read_text()
    assert "[orders]" not in path.read_text()
    credfiles.forget(other.server)
    assert path.read_text() == "# mine\n[people]\nhost=elsewhere\n"
    assert credfiles.known() == []


def test_a_file_of_ours_alone_goes_with_us(home: Path) -> None:
    credfiles.keep(GIVEN, "hf_x")
    credfiles.forget(GIVEN.server)
    credfiles.forget(GIVEN.server)
    assert not (home / ".pg_service.conf").exists()


def test_a_link_stays_a_link(home: Path) -> None:
    target = home / "dotfiles.conf"
    target.write_text("[mine]\nhost=x\n")
    (home / ".pg_service.conf").symlink_to(target)
    credfiles.keep(GIVEN, "hf_x")
    assert (home / ".pg_service.conf").is_symlink()
    assert "[orders]" in target.read_text()


@pytest.mark.parametrize("name", ["a]b", "a\nhost=evil", " a", ""])
def test_names_that_no_service_file_can_hold(home: Path, name: str) -> None:
    assert credfiles.keep(msgspec.structs.replace(GIVEN, connections=(name,)), "hf_x") == ([], [name])
    assert "evil" not in (home / ".pg_service.conf").read_text()


def test_the_port_takes_its_own_answer_only() -> None:
    waiting = Waiting("right")
    seen: list[int] = []

    def browse() -> None:
        for query in ("?state=wrong&code=stolen", "favicon.ico", "?state=right&code=c1"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{waiting.port}/{query}", timeout=10) as page:
                    seen.append(page.status)
            except urllib.error.HTTPError as refused:
                with refused:
                    seen.append(refused.code)

    browser = threading.Thread(target=browse)
    browser.start()
    assert waiting.wait(20) == {"state": "right", "code": "c1"}
    browser.join()
    assert seen == [404, 404, 200]


def test_nobody_comes() -> None:
    assert Waiting("x").wait(0.05) == {}


def test_token_prints_the_secret_while_it_is_good() -> None:
    credfiles.keep(GIVEN, "hf_x")
    assert CliRunner().invoke(main, ["token"]).output == "hf_x\n"
    credfiles.keep(msgspec.structs.replace(GIVEN, expires_at=1.0), "hf_x")
    ended = CliRunner().invoke(main, ["token"])
    assert ended.exit_code == 1
    assert "run `hoopfast login https://gw.example.com`" in ended.output


def test_which_gateway() -> None:
    assert "not signed in" in CliRunner().invoke(main, ["token"]).output
    credfiles.keep(GIVEN, "hf_x")
    credfiles.keep(msgspec.structs.replace(GIVEN, server="https://b:1"), "hf_y")
    assert "say which gateway" in CliRunner().invoke(main, ["token"]).output
    assert CliRunner().invoke(main, ["token", "b:1"]).output == "hf_y\n"


def test_a_secret_does_not_travel_in_the_clear() -> None:
    refused = CliRunner().invoke(main, ["login", "http://gw.example.com"])
    assert refused.exit_code == 2
    assert "https" in refused.output
