"""What people do for themselves: only their own, only after a real sign-in, and not for longer than it is worth."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hoopfast.config import Config, Listen, SelfService, ServerTls
from hoopfast.control.principal import Principal, Refused, principal_of
from hoopfast.control.terminals import challenge_of
from hoopfast.identity import credentials
from hoopfast.model import Identity
from hoopfast.store.rows import SecretRow
from hoopfast.supervisor.own import Own

NOW = 1_000_000.0
HOUR = 3600.0
ADA = Identity(user="ada@example.com", subject="1", issuer="okta", groups=("engineering",), expires_at=NOW + 8 * HOUR)
VERIFIER = "v" * 64


class Store:
    def __init__(self) -> None:
        self.rows: dict[str, SecretRow] = {}
        self.digests: dict[str, bytes] = {}

    def add_secret(
        self, id: str, digest: bytes, user: str, groups: tuple[str, ...], label: str, created_by: str,
        created_at: float, expires_at: float,
    ) -> None:
        self.digests[id] = digest
        self.rows[id] = SecretRow(
            id=id, user=user, groups=groups, label=label, created_by=created_by, created_at=created_at,
            expires_at=expires_at,
        )

    def list_secrets(self) -> list[SecretRow]:
        return list(self.rows.values())


class Bench:
    def __init__(self, **config: Any) -> None:
        self.store = Store()
        self.now = NOW
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.config = Config(connections={"orders": {}, "people": {}}, **config)     # type: ignore[dict-item]
        snapshot = SimpleNamespace(may_enter=lambda who, name: name == "orders" and "engineering" in who.groups)
        self.own = Own(
            self.store, lambda: SimpleNamespace(config=self.config, snapshot=snapshot),
            lambda who, action, **fields: self.notes.append((action, fields)), self.end, lambda: self.now,
        )

    async def end(self, name: str, by: str) -> tuple[bool, int]:
        self.store.rows[name] = msgspec.structs.replace(self.store.rows[name], revoked_at=self.now, revoked_by=by)
        return True, 2

    def make(self, who: Identity = ADA, *, ttl_s: float = HOUR, label: str = "DBeaver") -> dict[str, Any]:
        return asyncio.run(self.own.make_secret(self.principal(who), label=label, ttl_s=ttl_s))

    def principal(self, who: Identity = ADA) -> Principal:
        return principal_of(who, self.config.admin)

    def refused(self, who: Identity = ADA, **asked: Any) -> int:
        with pytest.raises(Refused) as caught:
            self.make(who, **asked)
        return caught.value.status


def test_a_secret_stands_for_its_maker() -> None:
    bench = Bench()
    made = bench.make()
    row = bench.store.rows[made["id"]]
    assert (row.user, row.groups, row.created_by, row.expires_at) == (ADA.user, ADA.groups, ADA.user, NOW + HOUR)
    assert bench.store.digests[made["id"]] == credentials.digest(made["secret"])
    assert made["connections"] == ["orders"]
    assert bench.notes[0][0] == "own_secret_create"
    assert made["secret"] not in str(bench.notes)


def test_not_for_longer_than_the_sign_in_is_worth() -> None:
    bench = Bench()
    bench.now += 7 * HOUR                                           # the console was open for long
    assert bench.make(ttl_s=12 * HOUR)["expires_at"] == NOW + 12 * HOUR
    bench.now = NOW + 12 * HOUR
    assert bench.refused() == 403
    assert "too old" in bench.own.why_none(bench.principal())


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, 59.0, 12 * HOUR + 1, float("nan"), float("inf")])
def test_lifetimes_that_cannot_be(ttl_s: float) -> None:
    assert Bench().refused(ttl_s=ttl_s) == 400


@pytest.mark.parametrize("label", ["x" * 201, "a\nb", "\x1b[2J"])
def test_labels_that_cannot_be(label: str) -> None:
    assert Bench().refused(label=label) == 400


def test_a_secret_makes_no_secret() -> None:
    bench = Bench()
    assert bench.refused(msgspec.structs.replace(ADA, method="secret")) == 403
    assert bench.refused(msgspec.structs.replace(ADA, method="socket")) == 403


def test_only_for_those_who_may_use_something() -> None:
    assert Bench().refused(msgspec.structs.replace(ADA, groups=("visitors",))) == 403


def test_it_can_be_switched_off() -> None:
    assert Bench(self_service=SelfService(enabled=False)).refused() == 403


def test_not_too_many() -> None:
    bench = Bench(self_service=SelfService(max_secrets=2))
    bench.make()
    bench.make()
    assert bench.refused() == 409
    bench.now += HOUR
    bench.make()                                                    # the others have ended


def test_only_ones_own_are_seen_and_revoked() -> None:
    bench = Bench()
    mine = bench.make()["id"]
    bench.store.add_secret("sec_bob", b"", "bob@example.com", (), "", "adm", NOW, NOW + HOUR)
    bench.store.add_secret("sec_by_admin", b"", "Ada@example.com", (), "", "adm", NOW, NOW + HOUR)
    seen = asyncio.run(bench.own.secrets(bench.principal()))
    assert {row["id"] for row in seen} == {mine, "sec_by_admin"}
    with pytest.raises(Refused) as caught:
        asyncio.run(bench.own.revoke_secret(bench.principal(), "sec_bob"))
    assert caught.value.status == 404
    assert asyncio.run(bench.own.revoke_secret(bench.principal(), mine)) == {"revoked": mine, "sessions": 2}
    assert bench.store.rows[mine].revoked_by == ADA.user
    assert {row["id"] for row in asyncio.run(bench.own.secrets(bench.principal()))} == {"sec_by_admin"}


@pytest.mark.parametrize(("listen", "place"), [
    (Listen(address="0.0.0.0:6432"), {"host": "gw.example.com", "port": 6432, "tls": False}),
    (Listen(address="*:6432"), {"host": "gw.example.com", "port": 6432, "tls": False}),
    (Listen(address="127.0.0.1:6432"), {"host": "127.0.0.1", "port": 6432, "tls": False}),
    (Listen(address="unix:/run/hf/.s.PGSQL.5432"), {"host": "/run/hf", "port": 5432, "tls": False}),
    (Listen(address="0.0.0.0:6432", public_address="db.example.com:5432", tls=ServerTls(cert="c", key="k")),
     {"host": "db.example.com", "port": 5432, "tls": True}),
])
def test_where_clients_connect(listen: Listen, place: dict[str, Any]) -> None:
    assert Bench(listen=listen).own.place("gw.example.com") == place


def test_a_terminal_is_let_in_by_letters() -> None:
    bench = Bench()
    begun = bench.own.begin_terminal(challenge_of(VERIFIER), "192.0.2.7:9", "ada@build", 0.0)
    assert asyncio.run(bench.own.redeem_terminal(begun["code"], VERIFIER, "gw")) is None
    assert bench.own.look_at_terminal(bench.principal(), begun["letters"])["peer"] == "192.0.2.7:9"
    bench.own.decide_terminal(bench.principal(), begun["letters"], allow=True)
    made = asyncio.run(bench.own.redeem_terminal(begun["code"], VERIFIER, "gw"))
    assert made is not None
    assert (made["user"], made["host"], made["expires_at"]) == (ADA.user, "127.0.0.1", NOW + 12 * HOUR)
    assert [action for action, _ in bench.notes] == ["terminal_let_in", "own_secret_create"]
    with pytest.raises(Refused):
        asyncio.run(bench.own.redeem_terminal(begun["code"], VERIFIER, "gw"))


def test_nobody_lets_a_terminal_in_who_could_make_no_secret() -> None:
    bench = Bench()
    by_secret = bench.principal(msgspec.structs.replace(ADA, method="secret"))
    begun = bench.own.begin_terminal(challenge_of(VERIFIER), "unix", "x", 0.0)
    for refused in (
        lambda: bench.own.grant_terminal(by_secret, challenge_of(VERIFIER), "x", 0.0),
        lambda: bench.own.decide_terminal(by_secret, begun["letters"], allow=True),
    ):
        with pytest.raises(Refused) as caught:
            refused()
        assert caught.value.status == 403
