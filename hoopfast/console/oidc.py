"""Signing in with the identity provider: authorization code with PKCE, state and nonce, bound to the browser.

The provider's token goes through the same gate as everybody else's (`verify`); this module only fetches it. What
belongs to one sign-in (nonce, verifier, where to go on) travels sealed in the browser's cookie: nothing is kept here
that a stranger could fill up or push out. Called by console/pages.py.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hoopfast.config import Issuer
from hoopfast.control.principal import Refused
from hoopfast.errors import ClientFault
from hoopfast.identity.keyset import check_url, discovery_url
from hoopfast.model import Frozen, Identity

log = logging.getLogger("hoopfast.console.oidc")

FLOW_S = 600.0
SPENT_MAX = 10_000
NEXT_MAX = 1000                     # browsers keep cookies of 4 kB
TIMEOUT_S = 10.0
ANSWER_MAX_BYTES = 256 * 1024
ENDPOINTS_KEPT_S = 600.0
FAILURE_KEPT_S = 5.0                # strangers may press the button as often as they like; the provider is asked rarely

Verify = Callable[[str, str], Awaitable[Identity]]


class Flow(Frozen, frozen=True):
    """One sign-in under way, as it travels in the cookie."""

    issuer: str
    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    next: str
    ends_at: float


class Endpoints(Frozen, frozen=True):
    """What discovery said, or why it failed; good until `until`."""

    until: float
    authorize: str = ""
    token: str = ""
    failure: str = ""


class SignIn:
    """`clock` is unix seconds; `transport` is for tests. A restart of the gateway ends the sign-ins under way."""

    def __init__(
        self,
        verify: Verify,
        resolve_secret: Callable[[str], str],
        clock: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._verify = verify
        self._resolve_secret = resolve_secret
        self._clock = clock
        self._transport = transport
        self._seal = AESGCM(AESGCM.generate_key(256))
        self._spent: dict[str, None] = {}
        self._endpoints: dict[Issuer, Endpoints] = {}
        self._discovering = asyncio.Lock()
        self._tls: dict[str, ssl.SSLContext] = {}

    async def begin(self, issuer: Issuer, redirect_uri: str, next_path: str) -> tuple[str, str]:
        """(where to send the browser, value of the flow cookie). Raises Refused(502)."""
        authorize = (await self._discover(issuer)).authorize
        flow = Flow(
            issuer=issuer.issuer, state=secrets.token_urlsafe(32), nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48), redirect_uri=redirect_uri, next=next_path[:NEXT_MAX],
            ends_at=self._clock() + FLOW_S,
        )
        query = urlencode({
            "response_type": "code", "client_id": issuer.client_id, "redirect_uri": redirect_uri,
            "scope": "openid email profile", "state": flow.state, "nonce": flow.nonce,
            "code_challenge": _b64(hashlib.sha256(flow.verifier.encode()).digest()), "code_challenge_method": "S256",
        })
        return f"{authorize}{'&' if '?' in authorize else '?'}{query}", self._sealed(flow)

    async def finish(
        self, query: dict[str, str], cookie: str, peer: str, issuers: Iterable[Issuer]
    ) -> tuple[Identity, str]:
        """(who signed in, where to go on). Raises Refused or ClientFault; a flow is good for one try."""
        flow = self._opened(cookie)
        state = query.get("state", "")
        mine = flow is not None and hmac.compare_digest(flow.state.encode(), state.encode())
        if flow is None or not mine or flow.ends_at <= self._clock():
            raise Refused(400, "this sign-in is not one that was begun here", hint="Sign in again.")
        if state in self._spent:
            raise Refused(400, "this sign-in has been used already", hint="Sign in again.")
        self._spent[state] = None
        while len(self._spent) > SPENT_MAX:
            del self._spent[next(iter(self._spent))]
        issuer = next((item for item in issuers if item.issuer == flow.issuer and item.client_id), None)
        if issuer is None:
            raise Refused(400, "this identity provider is not configured any more", hint="Sign in again.")
        if query.get("iss", issuer.issuer) != issuer.issuer:
            raise Refused(400, "another provider answered than the one that was asked", hint="Sign in again.")
        if error := query.get("error", ""):
            raise Refused(403, f"{issuer.name} refused: {error[:100]} {query.get('error_description', '')[:300]}")
        tokens = await self._exchange(issuer, flow, query.get("code", ""))
        id_token = str(tokens.get("id_token", ""))
        # From the provider itself over TLS; the signature is the gate's to check.
        if not hmac.compare_digest(str(_claims(id_token).get("nonce", "")).encode(), flow.nonce.encode()):
            raise Refused(400, "the provider's answer belongs to another sign-in", hint="Sign in again.")
        return await self._admit(id_token, str(tokens.get("access_token", "")), peer), flow.next

    def _sealed(self, flow: Flow) -> str:
        salt = secrets.token_bytes(12)
        return _b64(salt + self._seal.encrypt(salt, msgspec.msgpack.encode(flow), None))

    def _opened(self, cookie: str) -> Flow | None:
        try:
            data = base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))
            return msgspec.msgpack.decode(self._seal.decrypt(data[:12], data[12:], None), type=Flow)
        except (ValueError, InvalidTag):
            return None

    async def _admit(self, id_token: str, access_token: str, peer: str) -> Identity:
        try:
            return await self._verify(id_token, peer)
        except ClientFault:
            # Where the audience is an API of its own, the access token is the one that is meant for us.
            if not access_token.startswith("eyJ"):
                raise
        return await self._verify(access_token, peer)

    async def _exchange(self, issuer: Issuer, flow: Flow, code: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": flow.redirect_uri,
            "client_id": issuer.client_id, "code_verifier": flow.verifier,
        }
        endpoint = (await self._discover(issuer)).token
        if issuer.client_secret:
            form["client_secret"] = await asyncio.to_thread(self._resolve_secret, issuer.client_secret)
        return await self._fetch(issuer, "POST", endpoint, form)

    async def _discover(self, issuer: Issuer) -> Endpoints:
        async with self._discovering:
            known = self._endpoints.get(issuer)
            if known is None or known.until <= self._clock():
                try:
                    known = _endpoints(
                        await self._fetch(issuer, "GET", discovery_url(issuer.issuer)), issuer,
                        self._clock() + ENDPOINTS_KEPT_S,
                    )
                except Refused as refused:
                    known = Endpoints(until=self._clock() + FAILURE_KEPT_S, failure=refused.message)
                # Only those that are configured can come here; a reload may have changed them.
                self._endpoints = {kept: found for kept, found in self._endpoints.items() if kept.name != issuer.name}
                self._endpoints[issuer] = known
        if known.failure:
            raise Refused(502, known.failure)
        return known

    async def _trust(self, ca: str) -> ssl.SSLContext:
        # Reading the system's certificates takes tens of milliseconds.
        if ca not in self._tls:
            self._tls[ca] = await asyncio.to_thread(ssl.create_default_context, cafile=ca or None)
        return self._tls[ca]

    async def _fetch(self, issuer: Issuer, method: str, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            verify = await self._trust(issuer.ca)
            async with (
                httpx.AsyncClient(
                    verify=verify, timeout=TIMEOUT_S, follow_redirects=False, transport=self._transport,
                    trust_env=not issuer.development,
                ) as client,
                client.stream(method, url, data=form, headers={"Accept": "application/json"}) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > ANSWER_MAX_BYTES:
                        raise Refused(502, f"the provider {issuer.name} answered with too much")
        except (httpx.HTTPError, OSError) as failure:
            log.warning("identity provider %s: %s", issuer.name, type(failure).__name__)
            raise Refused(502, f"the identity provider {issuer.name} cannot be reached") from failure
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if response.status_code != 200 or not isinstance(answer, dict):
            said = str(answer.get("error", ""))[:100] if isinstance(answer, dict) else ""
            raise Refused(502, f"the identity provider {issuer.name} answered {response.status_code} {said}".rstrip())
        return answer


def _endpoints(found: dict[str, Any], issuer: Issuer, until: float) -> Endpoints:
    if found.get("issuer") != issuer.issuer:
        raise Refused(502, f"the provider {issuer.name} says that it is another one")
    urls = []
    for name in ("authorization_endpoint", "token_endpoint"):
        url = str(found.get(name))
        try:
            check_url(url, development=issuer.development)
        except ValueError:
            raise Refused(502, f"the provider {issuer.name} names no usable {name}") from None
        urls.append(url)
    return Endpoints(until=until, authorize=urls[0], token=urls[1])


def _claims(token: str) -> dict[str, Any]:
    """The payload of a JWT, unchecked; {} when it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

