"""The key cache in rotation, outage and storm, with a clock that tests turn and a provider that they break."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Coroutine
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from hoopfast import limits
from hoopfast.config import Config
from hoopfast.control.keys import Fetched, FetchFailed, HttpFetch, KeyCache, KeyCaches, ProviderUnreachable, max_age
from hoopfast.errors import AuthenticationFailed, ConfigError
from tests.identity.minting import ISSUER, issuer, jwk, rsa_key

DISCOVERY = ISSUER + "/.well-known/openid-configuration"
JWKS = "https://keys.example.com/jwks"


class Provider:
    """A provider in a test: counts what is asked for, answers what `keys` and `fault` say, when `gate` is open."""

    def __init__(self, *kids: str) -> None:
        self.kids = kids or ("k1",)
        self.now = 0.0
        self.fault: Exception | bytes | None = None
        self.max_age: float | None = None
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None

    async def fetch(self, url: str) -> Fetched:
        self.asked.append(url)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.fault, Exception):
            raise self.fault
        if isinstance(self.fault, bytes):
            return Fetched(body=self.fault)
        if url == DISCOVERY:
            return Fetched(body=json.dumps({"issuer": ISSUER, "jwks_uri": JWKS}).encode())
        assert url == JWKS
        body = json.dumps({"keys": [jwk(rsa_key(), kid) for kid in self.kids]}).encode()
        return Fetched(body=body, max_age=self.max_age)

    def cache(self, wait_s: float = 3.0, **changes: Any) -> KeyCache:
        return KeyCache(issuer(**changes), self.fetch, lambda: self.now, wait_s=wait_s)

    @property
    def fetches(self) -> int:
        """Attempts so far: each begins with the discovery document."""
        return self.asked.count(DISCOVERY)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


async def settle(cache: KeyCache) -> None:
    """Let a background fetch end."""
    for _ in range(20):
        await asyncio.sleep(0)


async def refused(cache: KeyCache, kid: str) -> str:
    with pytest.raises((AuthenticationFailed, ProviderUnreachable)) as caught:
        await cache.key(kid)
    return caught.value.reason


def test_first_login_fetches_and_later_ones_do_not() -> None:
    async def test() -> None:
        provider = Provider("k1", "k2")
        cache = provider.cache()
        assert cache.age() == float("inf")
        assert (await cache.key("k1")).key_id == "k1"
        assert (await cache.key("k2")).key_id == "k2"
        assert provider.asked == [DISCOVERY, JWKS]
        provider.now = 100.0
        assert cache.age() == 100.0
        assert not cache.stale
    run(test())


def test_configured_address_skips_discovery() -> None:
    async def test() -> None:
        provider = Provider()
        await provider.cache(jwks_uri=JWKS).key("k1")
        assert provider.asked == [JWKS]
    run(test())


def test_many_logins_share_one_fetch() -> None:
    async def test() -> None:
        provider = Provider()
        provider.gate = asyncio.Event()
        cache = provider.cache()
        logins = [asyncio.create_task(cache.key("k1")) for _ in range(50)]
        await settle(cache)
        logins[0].cancel()                      # one who gives up does not take the fetch along
        await settle(cache)
        provider.gate.set()
        keys = await asyncio.gather(*logins[1:])
        assert {key.key_id for key in keys} == {"k1"}
        assert provider.asked == [DISCOVERY, JWKS]
    run(test())


def test_first_login_after_a_rotation() -> None:
    async def test() -> None:
        provider = Provider("k1")
        cache = provider.cache()
        await cache.key("k1")
        provider.kids = ("k2",)
        provider.now = 40.0
        assert (await cache.key("k2")).key_id == "k2"
        # A good set without a key removes that key at once.
        assert await refused(cache, "k1") == "unknown_key"
    run(test())


def test_storm_of_bad_key_ids() -> None:
    async def test() -> None:
        provider = Provider()
        cache = provider.cache()
        await cache.key("k1")
        provider.now = 31.0
        before = provider.fetches
        answers = await asyncio.gather(*(refused(cache, f"bad{n}") for n in range(2000)))
        assert set(answers) == {"unknown_key"}
        for n in range(500):
            assert await refused(cache, f"worse{n}") == "unknown_key"
        assert provider.fetches == before + 1
        assert len(cache._unknown) <= limits.KEY_UNKNOWN_MAX
        assert (await cache.key("k1")).key_id == "k1"
    run(test())


def test_storm_while_the_provider_is_down() -> None:
    """Failures count for the pace, or every forged token would be a request."""
    async def test() -> None:
        provider = Provider()
        cache = provider.cache()
        await cache.key("k1")
        provider.fault = OSError("no route to host")
        provider.now = 31.0
        before = provider.fetches
        for n in range(30):
            assert await refused(cache, f"bad{n}") == "unknown_key"
        assert provider.fetches == before + 1
    run(test())


def test_back_off_while_down() -> None:
    async def test() -> None:
        provider = Provider()
        cache = provider.cache()
        await cache.key("k1")
        provider.fault = OSError("down")
        times = []
        for second in range(31, 1500):
            provider.now = float(second)
            before = provider.fetches
            await refused(cache, f"bad{second}")
            if provider.fetches > before:
                times.append(second)
        pauses = [b - a for a, b in itertools.pairwise(times)]
        assert pauses == [30, 60, 120, 240, 300, 300, 300]
    run(test())


def test_unknown_ids_are_remembered_for_a_while() -> None:
    async def test() -> None:
        provider = Provider()
        cache = provider.cache()
        await cache.key("k1")
        provider.now = 31.0
        await refused(cache, "new")
        before = provider.fetches
        provider.now = 100.0
        await refused(cache, "new")
        assert provider.fetches == before, "asked a moment ago"
        # The provider published it late: the memory must not outlive that by much.
        provider.kids = ("k1", "new")
        provider.now = 31.0 + limits.KEY_UNKNOWN_S + 1
        assert (await cache.key("new")).key_id == "new"
    run(test())


def test_a_key_asked_for_within_the_pause_is_not_remembered_as_unknown() -> None:
    async def test() -> None:
        provider = Provider("k1")
        cache = provider.cache()
        await cache.key("k1")
        provider.kids = ("k1", "k2")
        provider.now = 5.0
        assert await refused(cache, "k2") == "unknown_key"
        provider.now = 30.0
        assert (await cache.key("k2")).key_id == "k2"
    run(test())


@pytest.mark.parametrize(("said", "soft"), [(None, 900), (1.0, 300), (600.0, 600), (1e9, 3600), (0.0, 300)])
def test_refresh_behind_the_answer(said: float | None, soft: int) -> None:
    async def test() -> None:
        provider = Provider()
        provider.max_age = said
        cache = provider.cache()
        await cache.key("k1")
        provider.now = soft - 1.0
        await cache.key("k1")
        await settle(cache)
        assert provider.fetches == 1
        provider.gate = asyncio.Event()
        provider.now = float(soft)
        await cache.key("k1")                   # answered although the provider hangs
        await settle(cache)
        assert provider.fetches == 2
        provider.gate.set()
        await settle(cache)
        assert cache.age() == 0.0
    run(test())


def test_outage_keeps_the_keys_until_the_hard_age(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        provider = Provider()
        cache = provider.cache()
        await cache.key("k1")
        provider.fault = OSError("down")
        for hour in range(1, 24):
            provider.now = hour * 3600.0
            assert await cache.key("k1")
            await settle(cache)
            assert cache.stale
        provider.now = limits.KEY_HARD_AGE_S
        assert await refused(cache, "k1") == "provider_unreachable"
        assert cache.age() == float("inf")
        provider.fault = None
        provider.now += limits.KEY_FETCH_INTERVAL_S
        assert await cache.key("k1")
        assert not cache.stale
    with caplog.at_level(logging.WARNING):
        run(test())
    assert "going on with the keys at hand" in caplog.text
    assert "its tokens are refused" in caplog.text


def test_cold_start_without_a_provider() -> None:
    async def test() -> None:
        provider = Provider()
        provider.fault = OSError("down")
        cache = provider.cache()
        with pytest.raises(ProviderUnreachable) as caught:
            await cache.key("k1")
        assert caught.value.sqlstate == "57P03"
        assert "cannot be reached" in caught.value.message
        # Everybody waits for it, so the pace does not slow down.
        for attempt in range(1, 8):
            provider.now = attempt * 30.0
            await refused(cache, "k1")
            assert provider.fetches == attempt + 1
        provider.fault = None
        provider.now = 240.0
        assert await cache.key("k1")
    run(test())


def test_a_hanging_provider_costs_a_login_the_wait_and_no_more() -> None:
    async def test() -> None:
        provider = Provider()
        provider.gate = asyncio.Event()
        cache = provider.cache(wait_s=0.05)
        assert await refused(cache, "k1") == "provider_unreachable"
        provider.gate.set()
        await settle(cache)
        assert await cache.key("k1")
        await cache.close()
    run(test())


GARBAGE = [
    b"", b"<html>", b"{}", b'{"keys":[]}', json.dumps({"issuer": ISSUER + "/", "jwks_uri": JWKS}).encode(),
    json.dumps({"issuer": ISSUER, "jwks_uri": "http://keys.example.com"}).encode(), FetchFailed("answered 500"),
    RecursionError(), MemoryError(), KeyError("x"),
]  # fmt: skip


@pytest.mark.parametrize("fault", GARBAGE, ids=repr)
def test_garbage_never_replaces_a_good_set(fault: Exception | bytes) -> None:
    async def test() -> None:
        provider = Provider()
        cache = provider.cache()
        await cache.key("k1")
        provider.fault = fault
        provider.now = 4000.0
        assert await cache.key("k1")
        await settle(cache)
        assert provider.fetches == 2
        assert cache.stale
        assert await cache.key("k1")
    run(test())


def test_plain_http_is_not_even_asked() -> None:
    async def test() -> None:
        provider = Provider()
        for changes in ({"issuer": "http://login.example.com"}, {"jwks_uri": "http://keys.example.com/jwks"},
                        {"issuer": "http://127.0.0.1:1"}):
            assert await refused(provider.cache(**changes), "k1") == "provider_unreachable"
        assert provider.asked == []
    run(test())


# ---------------------------------------------------------------- several issuers

def test_caches_follow_the_configuration() -> None:
    async def test() -> None:
        provider = Provider()
        first, second = issuer(name="a"), issuer(name="b", issuer="https://b.example.com")
        caches = KeyCaches(Config(identity=(first, second)), lambda _: provider.fetch, lambda: provider.now)
        kept = caches.select(ISSUER)
        assert kept is not None
        await kept.key("k1")
        assert caches.select(ISSUER + "/") is None
        assert caches.select("") is None
        caches.reload(Config(identity=(first,)))
        assert caches.select(ISSUER) is kept, "unchanged: its keys survive"
        assert caches.select("https://b.example.com") is None
        caches.reload(Config(identity=(issuer(name="a", audience="other"),)))
        assert caches.select(ISSUER) is not kept
        await caches.warm()
        assert [cache.age() for cache in caches] == [0.0]
        await caches.close()
    run(test())


def test_two_issuers_of_one_name_are_refused_and_change_nothing() -> None:
    caches = KeyCaches(Config(identity=(issuer(),)), lambda _: Provider().fetch)
    with pytest.raises(ConfigError):
        caches.reload(Config(identity=(issuer(name="a"), issuer(name="b"))))
    assert [cache.issuer.name for cache in caches] == ["okta"]


def test_close_ends_a_hanging_fetch() -> None:
    async def test() -> None:
        provider = Provider()
        provider.gate = asyncio.Event()
        caches = KeyCaches(Config(identity=(issuer(),)), lambda _: provider.fetch)
        warming = asyncio.create_task(caches.warm())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await caches.close()
        await warming
    run(test())


# ---------------------------------------------------------------- over HTTP

@pytest.mark.parametrize(("header", "seconds"), [
    ("", None), ("no-store", None), ("max-age=60", 60.0), ("public, Max-Age = 60", 60.0), ('max-age="60"', 60.0),
    ("max-age=-1", None), ("max-age=x", None), ("s-maxage=9", None), ("max-age=" + "9" * 5000, None),
    ("max-age=\u0661", None),
])  # fmt: skip
def test_max_age(header: str, seconds: float | None) -> None:
    assert max_age(header) == seconds


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return
        body = b"x" * (limits.KEY_SET_MAX_BYTES + 1) if self.path == "/huge" else b"{}"
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Cache-Control", "public, max-age=77")
        if self.path == "/packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def test_http_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")          # must not be asked about loopback
    server = HTTPServer(("127.0.0.1", 0), Pages)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"

    async def test() -> None:
        fetch = HttpFetch(issuer(issuer=url, development=True))
        assert await fetch(url + "/good") == Fetched(body=b"{}", max_age=77.0)
        assert (await fetch(url + "/packed")).body == b"{}", "never unpacked"
        for path in ("/moved", "/broken", "/huge"):
            with pytest.raises(FetchFailed):
                await fetch(url + path)
        with pytest.raises(OSError):
            await HttpFetch(issuer(ca="/nowhere/ca.pem"))(url)
    try:
        run(test())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
