"""The demo's configuration is one that a gateway takes, its policy means what the tour says, its interlocks hold."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hoopfast import config as configuration
from hoopfast.config import Config, Connection, Issuer, Upstream
from hoopfast.demo import settings
from hoopfast.demo.issuer import PEOPLE
from hoopfast.errors import ConfigError
from hoopfast.model import Identity, StatementFacts
from hoopfast.policy.snapshot import Snapshot, compile_policy
from hoopfast.policy.source import parse_policy

ISSUER = Issuer(
    name="demo", issuer="http://127.0.0.1:1234/run-1", audience="hoopfast", client_id="hoopfast", accept="id_token",
    development=True,
)


def demo_config(directory: Path, **changes: Any) -> Config:
    made = settings.make(
        directory, port=6432, admin_port=8432, issuer=ISSUER, tls=settings.certificate(directory), upstream_port=5555,
        database="shop", user="gateway",
    )
    return msgspec.structs.replace(made, **changes)


def test_what_is_written_is_what_a_gateway_reads(tmp_path: Path) -> None:
    config = demo_config(tmp_path)
    path = settings.write(tmp_path, config)
    loaded = configuration.load(path)
    assert loaded.listen == config.listen
    assert loaded.connections == config.connections
    assert loaded.identity == (ISSUER,)
    assert Path(loaded.policy).read_text() == settings.POLICY


def test_production_refuses_it(tmp_path: Path) -> None:
    path = settings.write(tmp_path, demo_config(tmp_path))
    with pytest.raises(ConfigError, match="development"):
        configuration.load(path, production=True)


def test_files_are_private_and_hold_no_secret(tmp_path: Path) -> None:
    settings.write(tmp_path, demo_config(tmp_path))
    files = {path.name: path for path in tmp_path.iterdir()}
    assert set(files) == {"hoopfast.yaml", "policy.yaml", "server.crt", "server.key"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files.values())
    assert f"env:{settings.PASSWORD_VARIABLE}" in files["hoopfast.yaml"].read_text()


def test_the_certificate_serves_tls(tmp_path: Path) -> None:
    pair = settings.certificate(tmp_path)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair.cert, pair.key)
    with pytest.raises(FileExistsError):
        settings.certificate(tmp_path)


BREAKS: dict[str, Callable[[Config, Path], dict[str, Any]]] = {
    "listen": lambda c, _: {"listen": msgspec.structs.replace(c.listen, address="0.0.0.0:6432")},
    "socket": lambda c, _: {"listen": msgspec.structs.replace(c.listen, address="unix:/tmp/x", tls=None)},
    "admin": lambda c, _: {"admin": msgspec.structs.replace(c.admin, address="192.0.2.1:8432")},
    "issuer": lambda c, _: {"identity": (*c.identity, msgspec.structs.replace(ISSUER, name="real", development=False))},
    "upstream": lambda c, _: {"connections": {
        **c.connections, "prod": Connection(upstream=Upstream(host="db.example.com", database="x", user="x"))}},
    "state": lambda c, path: {"state_dir": str(path)},
}


@pytest.mark.parametrize("what", BREAKS)
def test_interlocks(tmp_path: Path, what: str) -> None:
    config = demo_config(tmp_path)
    settings.interlock(config)
    with pytest.raises(settings.NotADemo):
        settings.write(tmp_path, msgspec.structs.replace(config, **BREAKS[what](config, tmp_path)))
    assert not (tmp_path / "hoopfast.yaml").exists()


# ---------------------------------------------------------------- what the policy means

def snapshot() -> Snapshot:
    shop = Connection(upstream=Upstream(host="127.0.0.1", database="shop", user="gateway"))
    policy = parse_policy(settings.POLICY, "policy.yaml", ["shop"])
    return compile_policy(Config(connections={"shop": shop}), policy, 1, b"k" * 32)


def person(login: str) -> Identity:
    known = next(p for p in PEOPLE if p.login == login)
    return Identity(user=known.email, subject=login, issuer="demo", groups=known.groups)


def test_who_may_enter() -> None:
    policy = snapshot()
    assert [login for login in ("ana", "max", "ada") if policy.may_enter(person(login), "shop")] == ["ana", "max"]


def test_masks() -> None:
    def columns(*groups: str) -> set[str]:
        who = Identity(user="u", subject="u", issuer="demo", groups=groups)
        return {f"{m.table}.{m.column}" for m in snapshot().masks_for(who, "shop")}

    everything = {"customers.ssn", "customers.card_number", "customers.email", "employees.salary"}
    assert columns("engineering") == columns("dba") == everything
    assert columns("support-leads") == everything - {"customers.email"}
    assert columns("hr") == {"customers.email"}


@pytest.mark.parametrize(("kinds", "unfiltered", "action"), [
    (("drop_table",), False, "approve"), (("truncate",), False, "approve"), (("update",), True, "approve"),
    (("delete",), True, "approve"), (("update",), False, "allow"), (("delete",), False, "allow"),
    (("grant",), False, "deny"), (("alter_role",), False, "deny"), (("select",), False, "allow"),
])
def test_rules(kinds: tuple[str, ...], unfiltered: bool, action: str) -> None:
    facts = (StatementFacts(kinds=kinds, unfiltered=unfiltered),)
    ruling = snapshot().decide(person("ana"), "shop", facts)
    assert ruling.action == action
    if action == "approve":
        assert ruling.approver_groups == ("dba",)
        assert ruling.expires_s == 900
    if action == "deny":
        assert ruling.reason == "roles are managed in Terraform"
