"""The signing keys of identity providers: fetched in the background, kept through outages, never asked for in a storm.

One KeyCache per configured issuer. A known key is answered at once. Around it:

* older than its soft age, a set is refreshed behind the answer; older than the hard age it is not used at all;
* an unknown key id starts a fetch (a provider may have rotated) and waits a little for it. There is one fetch at a time
  and one per half minute, failures counted, so that forged key ids cannot make us attack the provider;
* an error or garbage never replaces a good set; a good set without a key removes that key at once.

Why not PyJWKClient: it blocks the loop, forgets its keys after five minutes of outage, counts its cool-down from
successes only and reads bodies of any size. Used by `control/gate.py`; belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator

import httpx
import jwt

from hoopfast import limits
from hoopfast.config import Config, Issuer
from hoopfast.errors import AuthenticationFailed, ClientFault, ConfigError, Problem
from hoopfast.identity.keyset import check_url, discovery_url, parse_discovery, parse_key_set
from hoopfast.identity.tokens import HINT
from hoopfast.model import Frozen

log = logging.getLogger(__name__)

Clock = Callable[[], float]


class Fetched(Frozen, frozen=True):
    """A document and how long its sender says it stays good (seconds; None: it does not say)."""

    body: bytes
    max_age: float | None = None


Fetch = Callable[[str], Awaitable[Fetched]]


class FetchFailed(Exception):
    """The provider answered, but not with a document."""


class ProviderUnreachable(ClientFault):
    """There are no keys to check a token with: nobody's token is wrong, and nobody may enter."""

    reason = "provider_unreachable"

    def __init__(self, issuer: str) -> None:
        super().__init__(
            "57P03",
            "the identity provider cannot be reached",
            hint=f'Try again in a minute. Gateway secrets (hf_...) work without the provider "{issuer}".',
        )


class KeyCache:
    """The keys of one issuer. `fetch` gets an address and returns its document; `clock` is monotonic, in seconds."""

    def __init__(
        self, issuer: Issuer, fetch: Fetch, clock: Clock = time.monotonic, *, wait_s: float = limits.KEY_WAIT_S
    ) -> None:
        self.issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._wait_s = wait_s
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = 0.0
        self._soft_at = 0.0
        self._generation = 0                    # rises with every good set
        self._failures = 0                      # in a row
        self._next_attempt_at = float("-inf")
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    async def key(self, kid: str) -> jwt.PyJWK:
        """The key of that id. Raises AuthenticationFailed("unknown_key") or ProviderUnreachable."""
        now = self._clock()
        self._drop_too_old(now)
        key = self._keys.get(kid)
        if key is not None:
            if now >= self._soft_at:
                self._start_fetch(now)
            return key
        generation = self._generation
        if not self._is_known_unknown(kid, now):
            self._start_fetch(now)
            if self._task is not None:
                # wait, not wait_for: the fetch serves everybody and must outlive whoever gives up on it.
                await asyncio.wait({self._task}, timeout=self._wait_s)
            key = self._keys.get(kid)
        if key is not None:
            return key
        if not self._keys:
            raise ProviderUnreachable(self.issuer.name)
        if self._generation != generation:
            self._remember_unknown(kid)
        raise AuthenticationFailed("unknown_key", hint=HINT)

    async def warm(self) -> None:
        """Fetch the keys now if there are none, so that the first login need not wait; failures are only logged."""
        if not self._keys:
            self._start_fetch(self._clock())
        if self._task is not None:
            await asyncio.wait({self._task})

    def age(self) -> float:
        """Seconds since the keys were fetched; infinite when there are none."""
        return self._clock() - self._fetched_at if self._keys else float("inf")

    @property
    def stale(self) -> bool:
        """Whether keys beyond their soft age are in use because the provider cannot be reached."""
        return bool(self._keys) and self._failures > 0 and self._clock() >= self._soft_at

    async def close(self) -> None:
        """End a running fetch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    # ---------------------------------------------------------------- fetching

    def _start_fetch(self, now: float) -> None:
        if self._task is not None or now < self._next_attempt_at:
            return
        self._next_attempt_at = now + limits.KEY_FETCH_INTERVAL_S
        self._task = asyncio.get_running_loop().create_task(self._refresh(), name=f"keys of {self.issuer.name}")
        self._task.add_done_callback(self._on_fetched)

    def _on_fetched(self, _task: asyncio.Task[None]) -> None:
        self._task = None

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(limits.KEY_FETCH_TIMEOUT_S):
                document = await self._fetch_key_set()
            keys = parse_key_set(document.body)
        except Exception as error:  # noqa: BLE001 - whatever it is, the old keys stay and the next attempt comes later
            self._count_failure(error)
            return
        now = self._clock()
        asked = limits.KEY_SOFT_AGE_DEFAULT_S if document.max_age is None else document.max_age
        self._keys = keys
        self._fetched_at = now
        self._soft_at = now + min(max(asked, limits.KEY_SOFT_AGE_MIN_S), limits.KEY_SOFT_AGE_MAX_S)
        self._generation += 1
        self._failures = 0
        self._unknown.clear()

    async def _fetch_key_set(self) -> Fetched:
        development = self.issuer.development
        uri = self.issuer.jwks_uri
        if not uri:
            address = discovery_url(self.issuer.issuer)
            check_url(address, development=development)
            discovered = await self._fetch(address)
            uri = parse_discovery(discovered.body, issuer=self.issuer.issuer, development=development)
        check_url(uri, development=development)
        return await self._fetch(uri)

    def _count_failure(self, error: Exception) -> None:
        self._failures += 1
        # Without any key everybody waits, so the pace stays; with keys nobody does, so it slows down.
        doublings = min(self._failures - 1, 8) if self._keys else 0
        pause = min(limits.KEY_FETCH_INTERVAL_S * 2**doublings, limits.KEY_BACKOFF_MAX_S)
        self._next_attempt_at = self._clock() + pause
        log.warning(
            "cannot get the keys of identity provider %s: %s (%s)",
            self.issuer.name,
            str(error) or type(error).__name__,
            "going on with the keys at hand" if self._keys else "there are none, so its tokens are refused",
        )

    # ---------------------------------------------------------------- what is known

    def _drop_too_old(self, now: float) -> None:
        if self._keys and now - self._fetched_at >= limits.KEY_HARD_AGE_S:
            self._keys = {}
            # The back-off was for a provider whose keys we had.
            self._next_attempt_at = min(self._next_attempt_at, now + limits.KEY_FETCH_INTERVAL_S)

    def _is_known_unknown(self, kid: str, now: float) -> bool:
        return bool(self._keys) and self._unknown.get(kid, float("-inf")) > now - limits.KEY_UNKNOWN_S

    def _remember_unknown(self, kid: str) -> None:
        self._unknown[kid] = self._clock()
        while len(self._unknown) > limits.KEY_UNKNOWN_MAX:
            self._unknown.popitem(last=False)


class KeyCaches:
    """A KeyCache for every configured issuer, found by the issuer's exact name."""

    def __init__(
        self, config: Config, fetch: Callable[[Issuer], Fetch] | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._fetch = fetch or HttpFetch
        self._clock = clock
        self._caches: dict[str, KeyCache] = {}
        self._retired: list[KeyCache] = []
        self.reload(config)

    def __iter__(self) -> Iterator[KeyCache]:
        return iter(self._caches.values())

    def select(self, issuer: str) -> KeyCache | None:
        """The cache of the issuer that a token claims, byte for byte; None: nobody configured it."""
        return self._caches.get(issuer)

    def reload(self, config: Config) -> None:
        """Follow a new configuration; issuers that did not change keep their keys. Raises ConfigError."""
        caches: dict[str, KeyCache] = {}
        for number, issuer in enumerate(config.identity):
            if issuer.issuer in caches:
                what = "another item has the same issuer, and a token could not tell which one is meant"
                raise ConfigError([Problem("configuration", f"$.identity[{number}].issuer", what)])
            kept = self._caches.get(issuer.issuer)
            fresh = kept is None or kept.issuer != issuer
            caches[issuer.issuer] = KeyCache(issuer, self._fetch(issuer), self._clock) if fresh or not kept else kept
        self._retired += [cache for name, cache in self._caches.items() if caches.get(name) is not cache]
        self._caches = caches

    async def warm(self) -> None:
        """Fetch the keys of all issuers side by side, at start; at most the fetch timeout."""
        await asyncio.gather(*(cache.warm() for cache in self))

    async def close(self) -> None:
        """End every running fetch."""
        await asyncio.gather(*(cache.close() for cache in [*self, *self._retired]))
        self._retired = []


class HttpFetch:
    """Fetches one issuer's documents: certificates checked, no redirects, nothing compressed, bounded in size."""

    def __init__(self, issuer: Issuer) -> None:
        self._ca = issuer.ca
        # A proxy from the environment must not get between us and an issuer on loopback.
        self._use_proxy = not issuer.development
        self._tls: ssl.SSLContext | None = None

    async def __call__(self, url: str) -> Fetched:
        """Raises FetchFailed, httpx.HTTPError, OSError (the private CA cannot be read)."""
        if self._tls is None:
            # Reading the system's certificates takes tens of milliseconds.
            self._tls = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca or None)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        timeout = limits.KEY_FETCH_TIMEOUT_S
        async with (
            httpx.AsyncClient(
                verify=self._tls, headers=headers, timeout=timeout, follow_redirects=False, trust_env=self._use_proxy
            ) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != 200:
                raise FetchFailed(f"{url} answered {response.status_code}")
            body = bytearray()
            # Raw: whatever the sender compressed anyway is garbage to us, not a bomb.
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limits.KEY_SET_MAX_BYTES:
                    raise FetchFailed(f"{url} sent more than {limits.KEY_SET_MAX_BYTES} bytes")
            return Fetched(body=bytes(body), max_age=max_age(response.headers.get("Cache-Control", "")))


def max_age(cache_control: str) -> float | None:
    """Seconds of `max-age` in a Cache-Control header, None when it has none that is a number."""
    for directive in cache_control.split(","):
        name, _, value = directive.strip().partition("=")
        digits = value.strip().strip('"')
        if name.strip().lower() == "max-age" and digits.isascii() and digits.isdigit() and len(digits) < 12:
            return float(digits)
    return None
