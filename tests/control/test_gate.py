"""The gate: what gets in, what is refused with which words, and that refusals slow an address down."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from hoopfast.config import Config, Issuer, Listen, Sessions
from hoopfast.control import gate as gate_module
from hoopfast.control.gate import Gate, reason_of
from hoopfast.control.keys import Fetched, KeyCaches
from hoopfast.control.throttle import FailureThrottle, network_of
from hoopfast.errors import AuthenticationFailed, ClientFault, ConfigError
from hoopfast.identity import claims as claims_module
from hoopfast.identity import credentials, tokens
from hoopfast.model import AuthReply, AuthWanted, Identity
from hoopfast.store.rows import SecretRow
from tests.identity.minting import NOW, ec_key, issuer, jwk, mint, rsa_key

ALL_REASONS = gate_module.REASONS | tokens.REASONS | claims_module.REASONS
SECRET = credentials.encode_secret(b"s" * 32)
VAGUE = "the gateway did not accept this credential"


class Store:
    """The store in a test. `fault` makes every call fail."""

    def __init__(self) -> None:
        self.secrets: dict[bytes, SecretRow] = {}
        self.pins: dict[str, tuple[str, str]] = {}
        self.touched: list[tuple[str, float]] = []
        self.pin_calls = 0
        self.fault: Exception | None = None

    def add(self, secret: str = SECRET, **changes: Any) -> None:
        row = SecretRow(**{
            "id": "s1", "user": "ana@example.com", "groups": ("engineering",), "label": "", "created_by": "max",
            "created_at": NOW - 10, "expires_at": NOW + 3600, **changes,
        })
        self.secrets[credentials.digest(secret)] = row

    def find_secret(self, digest: bytes) -> SecretRow | None:
        if self.fault:
            raise self.fault
        return self.secrets.get(digest)

    def touch_secret(self, id: str, at: float) -> None:
        if self.fault:
            raise self.fault
        self.touched.append((id, at))

    def pin_identity(self, user: str, issuer: str, subject: str) -> bool:
        if self.fault:
            raise self.fault
        self.pin_calls += 1
        return self.pins.setdefault(user.casefold(), (issuer, subject)) == (issuer, subject)


class World:
    """A gate with a store, a provider and a clock that a test can turn."""

    def __init__(self, *identity: Issuer, **changes: Any) -> None:
        self.now = NOW
        self.store = Store()
        self.slept: list[float] = []
        self.provider_up = True
        self.config = Config(identity=identity or (issuer(jwks_uri="https://keys.example.com/jwks"),), **changes)
        keys = KeyCaches(self.config, lambda _: self.fetch, lambda: self.now)
        self.gate = Gate(self.config, self.store, keys, lambda: self.now, sleep=self.sleep)

    async def fetch(self, _url: str) -> Fetched:
        if not self.provider_up:
            raise OSError("down")
        return Fetched(body=json.dumps({"keys": [jwk(rsa_key()), jwk(ec_key(), "k2")]}).encode())

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def ask(
        self, credential: bytes | str, *, peer: str = "192.0.2.7:50123", tls: bool = True, user: str = "postgres"
    ) -> tuple[AuthReply, str]:
        data = credential.encode() if isinstance(credential, str) else credential
        wanted = AuthWanted(request=7, credential=data, user=user, database="orders", peer=peer, tls=tls)
        reply, reason = await self.gate.authenticate(wanted)
        assert reply.request == 7
        assert (reply.identity is None) == bool(reason) == bool(reply.sqlstate) == bool(reply.message)
        if reason:
            assert reason in ALL_REASONS
            assert reply.hint
            assert len(data) < 8 or data.decode("latin-1") not in reply.message + reply.hint
        return reply, reason

    async def admit(self, credential: bytes | str, **options: Any) -> Identity:
        reply, reason = await self.ask(credential, **options)
        assert reply.identity is not None, reason
        return reply.identity

    async def refuse(self, credential: bytes | str, **options: Any) -> str:
        return (await self.ask(credential, **options))[1]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


# ---------------------------------------------------------------- tokens

def test_token_becomes_an_identity() -> None:
    async def test() -> None:
        world = World(sessions=Sessions(max_duration=1000.0))
        assert await world.admit(mint()) == Identity(
            user="ana@example.com", subject="u1", issuer="okta", groups=("engineering",), method="token",
            credential="j1", expires_at=NOW + 1000.0,
        )
        # The session outlives the token: psql would only reconnect with the dead one.
        world.now += 3540 + 29
        assert (await world.admit(mint())).expires_at == world.now + 1000.0
        world.now += 2
        assert await world.refuse(mint()) == "expired"
    run(test())


def test_startup_user_is_not_an_identity() -> None:
    async def test() -> None:
        world = World()
        for user in ("postgres", "max@example.com", "", "ana@example.com", "x" * 500):
            assert (await world.admit(mint(), user=user)).user == "ana@example.com"
    run(test())


def test_tokens_that_prove_nothing_get_the_same_words() -> None:
    async def test() -> None:
        world = World()
        seen = set()
        for token, true_reason in (
            (mint(rsa_key("stranger")), "signature"),
            (mint(iss="https://evil.example.com"), "wrong_issuer"),
            (mint(header={"kid": "k9"}), "unknown_key"),
            (mint(header={"typ": "logout+jwt"}), "type"),
            (mint(ec_key(), "ES256"), "algorithm"),
            (credentials.encode_secret(b"x" * 32).encode(), "secret_unknown"),
            (credentials.new_secret(demo=True).encode(), "secret_of_demo"),
        ):
            reply, reason = await world.ask(token, peer=f"192.0.2.{len(seen)}:1")
            assert reason == true_reason
            seen.add((reply.sqlstate, reply.message, reply.hint))
        assert seen == {("28P01", VAGUE, tokens.HINT)}
    run(test())


def test_keys_never_cross_issuers() -> None:
    async def test() -> None:
        world = World(issuer(jwks_uri="https://a/jwks"), issuer(name="b", issuer="https://b.example.com"))

        async def fetch(url: str) -> Fetched:
            key = jwk(rsa_key()) if url == "https://a/jwks" else jwk(rsa_key("b"))
            if "openid-configuration" in url:
                return Fetched(body=b'{"issuer":"https://b.example.com","jwks_uri":"https://b.example.com/jwks"}')
            return Fetched(body=json.dumps({"keys": [key]}).encode())
        world.gate._keys = KeyCaches(world.config, lambda _: fetch, lambda: world.now)
        assert (await world.admit(mint(rsa_key("b"), iss="https://b.example.com", email="b@example.com"))).issuer == "b"
        assert await world.refuse(mint(iss="https://b.example.com")) == "signature"
        assert await world.refuse(mint(rsa_key("b"))) == "signature"
    run(test())


def test_provider_down_at_a_cold_start_is_not_the_persons_fault() -> None:
    async def test() -> None:
        world = World()
        world.provider_up = False
        for _ in range(30):
            reply, reason = await world.ask(mint())
            assert (reply.sqlstate, reason) == ("57P03", "provider_unreachable")
            assert "cannot be reached" in reply.message
        assert world.slept == [], "nobody is slowed down for it"
        world.store.add()
        assert await world.admit(SECRET), "secrets need no provider"
    run(test())


def test_missing_groups_are_none_and_unknown_groups_a_refusal() -> None:
    async def test() -> None:
        world = World()
        assert (await world.admit(mint(groups=None))).groups == ()
        assert await world.refuse(mint(groups=None, hasgroups=True)) == "groups_unknown"
    run(test())


# ---------------------------------------------------------------- pins

def test_an_address_belongs_to_its_first_subject(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        world = World()
        await world.admit(mint())
        reply, reason = await world.ask(mint(sub="u2"))
        assert reason == "identity_conflict"
        assert "administrator" in reply.hint
        assert await world.refuse(mint(sub="u2", email="ANA@example.com")) == "identity_conflict"
        assert await world.admit(mint(sub="u2", email="bea@example.com"))
        for _ in range(5):
            await world.admit(mint())
        assert world.store.pin_calls == 4, "a pin that held once is not asked for again"
        assert world.store.pins["ana@example.com"] == ("https://login.example.com", "u1")
    with caplog.at_level(logging.WARNING):
        run(test())
    assert "second subject" in caplog.text


# ---------------------------------------------------------------- secrets

def test_secret_becomes_an_identity() -> None:
    async def test() -> None:
        world = World(sessions=Sessions(max_duration=600.0))
        world.store.add(expires_at=NOW + 300)
        assert await world.admit(SECRET) == Identity(
            user="ana@example.com", subject="ana@example.com", issuer="gateway", groups=("engineering",),
            method="secret", credential="s1", expires_at=NOW + 300,
        )
        world.store.add(expires_at=NOW + 9000)
        assert (await world.admit(SECRET)).expires_at == NOW + 600
        world.store.add(expires_at=0.0)
        assert (await world.admit(SECRET)).expires_at == NOW + 600
        await world.gate.close()
        assert world.store.touched == [("s1", NOW)] * 3
    run(test())


def test_revoked_and_expired_secrets() -> None:
    async def test() -> None:
        world = World()
        world.store.add(revoked_at=NOW - 1)
        reply, reason = await world.ask(SECRET)
        assert reason == "secret_revoked"
        assert "revoked" in reply.message
        world.store.add(expires_at=NOW)
        reply, reason = await world.ask(SECRET)
        assert reason == "secret_expired"
        assert "expired at 08:00 UTC on 2027-01-15" in reply.message
        world.store.add(expires_at=NOW + 1)
        assert await world.admit(SECRET)
        await world.gate.close()
        assert len(world.store.touched) == 1
    run(test())


def test_cut_and_wrong_secrets() -> None:
    async def test() -> None:
        world = World()
        world.store.add()
        for n, broken in enumerate((SECRET[:-1], SECRET + "x", SECRET + "\n", "hf_", SECRET[:-1] + "-")):
            assert await world.refuse(broken, peer=f"192.0.2.{n}:1") == "secret_incomplete"
        assert await world.refuse(SECRET.swapcase(), peer="192.0.2.99:1") == "no_password"
        assert await world.refuse("hf_" + SECRET[3:].swapcase(), peer="192.0.2.99:1") == "secret_unknown"
    run(test())


def test_demo_secrets_live_in_the_demo_only() -> None:
    async def test() -> None:
        secret = credentials.new_secret(demo=True)
        world = World()
        world.store.add(secret)
        assert await world.refuse(secret) == "secret_of_demo"
        demo = World(issuer(issuer="http://127.0.0.1:1", development=True))
        demo.store.add(secret)
        assert await demo.admit(secret)
        await demo.gate.close()
    run(test())


# ---------------------------------------------------------------- neither

@pytest.mark.parametrize("credential", [
    b"swordfish", b"Basic eyJ", b"\xff\xfe", b"\x00", b" " + SECRET.encode(), b"x" * 70_000,
])  # fmt: skip
def test_there_are_no_passwords(credential: bytes) -> None:
    async def test() -> None:
        reply, reason = await World().ask(credential)
        assert reason == "no_password"
        assert "no passwords" in reply.message
        assert "hf_" in reply.hint
    run(test())


def test_empty_credential() -> None:
    async def test() -> None:
        assert await World().refuse(b"") == "empty"
    run(test())


@pytest.mark.parametrize(("listen", "peer", "tls", "fine"), [
    ("127.0.0.1:6432", "127.0.0.1:5", False, True),
    ("[::1]:6432", "[::1]:5", False, True),
    ("unix:/run/hoopfast", "unix", False, True),
    ("localhost:6432", "127.0.0.1:5", False, True),
    ("127.0.0.1:6432", "192.0.2.7:5", False, False),
    ("0.0.0.0:6432", "127.0.0.1:5", False, False),
    ("0.0.0.0:6432", "192.0.2.7:5", False, False),
    ("0.0.0.0:6432", "192.0.2.7:5", True, True),
    ("127.0.0.1:6432", "", False, False),
    ("127.0.0.1:6432", "localhost:5", False, False),
])  # fmt: skip
def test_tls_is_needed_outside_loopback(listen: str, peer: str, tls: bool, fine: bool) -> None:
    async def test() -> None:
        world = World(listen=Listen(address=listen))
        reply, reason = await world.ask(mint(), peer=peer, tls=tls)
        assert reason == ("" if fine else "tls_required")
        if not fine:
            assert reply.sqlstate == "28000"
            assert "TLS" in reply.message
    run(test())


def test_every_unforeseen_failure_is_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        world = World()
        world.store.fault = RuntimeError("the store is gone")
        for credential in (SECRET.encode(), mint()):
            reply, reason = await world.ask(credential)
            assert (reply.sqlstate, reason) == ("XX000", "internal")
            assert "store" not in reply.message
            with pytest.raises(ClientFault):
                await world.gate.verify_bearer(credential.decode())
    with caplog.at_level(logging.ERROR):
        run(test())
    assert "the store is gone" in caplog.text
    assert SECRET not in caplog.text


def test_failure_to_note_the_use_of_a_secret_does_not_matter() -> None:
    async def test() -> None:
        world = World()
        world.store.add()
        assert await world.admit(SECRET)
        world.store.fault = RuntimeError("busy")
        await world.gate.close()
        assert world.store.touched == []
    run(test())


# ---------------------------------------------------------------- bearer

def test_bearer() -> None:
    async def test() -> None:
        world = World()
        world.store.add()
        assert (await world.gate.verify_bearer(mint().decode())).subject == "u1"
        assert (await world.gate.verify_bearer(SECRET)).method == "secret"
        for bad in ("", "swordfish", "eyJ\ud800", "hf_\u00fc" + "x" * 42):
            with pytest.raises(AuthenticationFailed) as caught:
                await world.gate.verify_bearer(bad, "192.0.2.9:1")
            assert reason_of(caught.value) in ALL_REASONS
        await world.gate.close()
    run(test())


def test_reason_of_a_stranger() -> None:
    assert reason_of(ClientFault("08P01", "x")) == "internal"


# ---------------------------------------------------------------- throttle

def test_failures_slow_their_address_down() -> None:
    async def test() -> None:
        world = World()
        for _ in range(10):
            await world.refuse("swordfish")
        assert world.slept == []
        for _ in range(20):
            await world.refuse("swordfish")
        assert world.slept[0] == 0.5
        assert world.slept == sorted(world.slept)
        assert world.slept[-1] == 5.0
        # Slowed, not locked out; and nobody else notices.
        assert await world.admit(mint())
        world.slept.clear()
        await world.admit(mint(), peer="192.0.2.8:50123")
        assert world.slept == []
        # Another port is the same address; ten minutes later all is forgotten.
        await world.refuse("swordfish", peer="192.0.2.7:1")
        assert world.slept
        world.slept.clear()
        world.now += 180
        await world.refuse("swordfish")
        assert world.slept == []
    run(test())


def test_ten_a_minute_are_free() -> None:
    throttle = FailureThrottle()
    for n in range(1000):
        assert throttle.delay("192.0.2.7", n * 6.0) == 0.0
        throttle.failed("192.0.2.7", n * 6.0)


def test_throttle_memory_is_bounded() -> None:
    throttle = FailureThrottle(addresses_max=100)
    for n in range(1000):
        throttle.failed(f"10.0.{n // 256}.{n % 256}", 0.0)
    assert len(throttle) == 100
    throttle.failed("x" * 100_000, 0.0)
    assert all(len(key) <= 64 for key in throttle._levels)


def test_a_clock_that_goes_back_does_no_harm() -> None:
    throttle = FailureThrottle()
    for _ in range(50):
        throttle.failed("192.0.2.7", 1000.0)
    assert throttle.delay("192.0.2.7", 10.0) == 5.0


def test_what_counts_as_one_address() -> None:
    assert network_of("192.0.2.7") == network_of("::ffff:192.0.2.7") != network_of("192.0.2.8")
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("unix") == "unix"


# ---------------------------------------------------------------- reload

def test_reload() -> None:
    async def test() -> None:
        world = World()
        await world.admit(mint())
        with pytest.raises(ConfigError):
            world.gate.reload(Config(identity=(issuer(name="a"), issuer(name="b"))))
        assert await world.admit(mint()), "a refused configuration changes nothing"
        moved = Config(identity=(issuer(issuer="https://other.example.com"),), sessions=Sessions(max_duration=5.0))
        world.gate.reload(moved)
        assert await world.refuse(mint()) == "wrong_issuer"
        world.store.add()
        assert (await world.admit(SECRET)).expires_at == NOW + 5.0
        await world.gate.close()
    run(test())
