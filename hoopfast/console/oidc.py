"""Signing in with the identity provider: authorization code with PKCE, state and nonce, bound to the browser.

The provider's token goes through the same gate as everybody else's (`verify`); this module only fetches it. The browser
has nothing of the flow but a random cookie and the state. Called by console/pages.py.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import orjson

from hoopfast.config import Issuer
from hoopfast.control.principal import Refused
from hoopfast.errors import ClientFault
from hoopfast.model import Frozen, Identity

log = logging.getLogger("hoopfast.console.oidc")

FLOW_S = 600.0
FLOWS_MAX = 1000
TIMEOUT_S = 10.0
ANSWER_MAX_BYTES = 256 * 1024

Verify = Callable[[str, str], Awaitable[Identity]]


class Flow(Frozen, frozen=True):
    """One sign-in under way."""

    issuer: Issuer
    browser: bytes                  # digest of the flow cookie
    nonce: str
    verifier: str
    redirect_uri: str
    token_endpoint: str
    next: str
    ends_at: float


class SignIn:
    """The flows under way. `clock` is unix seconds; `transport` is for tests."""

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
        self._flows: dict[str, Flow] = {}

    async def begin(self, issuer: Issuer, redirect_uri: str, next_path: str) -> tuple[str, str]:
        """(where to send the browser, value of the flow cookie). Raises Refused(502)."""
        found = await self._fetch(issuer, "GET", f"{issuer.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer.issuer:
            raise Refused(502, f"the provider {issuer.name} says that it is another one")
        authorize, token = (_endpoint(found, name, issuer) for name in ("authorization_endpoint", "token_endpoint"))
        cookie, state = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        flow = Flow(
            issuer=issuer, browser=_digest(cookie), nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48),
            redirect_uri=redirect_uri, token_endpoint=token, next=next_path, ends_at=self._clock() + FLOW_S,
        )
        self._remember(state, flow)
        query = urlencode({
            "response_type": "code", "client_id": issuer.client_id, "redirect_uri": redirect_uri,
            "scope": "openid email profile", "state": state, "nonce": flow.nonce,
            "code_challenge": _b64(hashlib.sha256(flow.verifier.encode()).digest()), "code_challenge_method": "S256",
        })
        return f"{authorize}{'&' if '?' in authorize else '?'}{query}", cookie

    async def finish(self, query: dict[str, str], cookie: str, peer: str) -> tuple[Identity, str]:
        """(who signed in, where to go on). Raises Refused or ClientFault; a flow is good for one try."""
        flow = self._flows.pop(query.get("state", ""), None)
        if flow is None or flow.ends_at <= self._clock() or not hmac.compare_digest(flow.browser, _digest(cookie)):
            raise Refused(400, "this sign-in is not one that was begun here", hint="Sign in again.")
        if query.get("iss", flow.issuer.issuer) != flow.issuer.issuer:
            raise Refused(400, "another provider answered than the one that was asked", hint="Sign in again.")
        if error := query.get("error", ""):
            raise Refused(403, f"{flow.issuer.name} refused: {error[:100]} {query.get('error_description', '')[:300]}")
        tokens = await self._exchange(flow, query.get("code", ""))
        id_token = str(tokens.get("id_token", ""))
        # From the provider itself over TLS; the signature is the gate's to check.
        if not hmac.compare_digest(str(_claims(id_token).get("nonce", "")).encode(), flow.nonce.encode()):
            raise Refused(400, "the provider's answer belongs to another sign-in", hint="Sign in again.")
        return await self._admit(id_token, str(tokens.get("access_token", "")), peer), flow.next

    async def _admit(self, id_token: str, access_token: str, peer: str) -> Identity:
        try:
            return await self._verify(id_token, peer)
        except ClientFault:
            # Where the audience is an API of its own, the access token is the one that is meant for us.
            if not access_token.startswith("eyJ"):
                raise
        return await self._verify(access_token, peer)

    async def _exchange(self, flow: Flow, code: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": flow.redirect_uri,
            "client_id": flow.issuer.client_id, "code_verifier": flow.verifier,
        }
        if flow.issuer.client_secret:
            form["client_secret"] = await asyncio.to_thread(self._resolve_secret, flow.issuer.client_secret)
        return await self._fetch(flow.issuer, "POST", flow.token_endpoint, form)

    async def _fetch(self, issuer: Issuer, method: str, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            verify = await asyncio.to_thread(ssl.create_default_context, cafile=issuer.ca or None)
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

    def _remember(self, state: str, flow: Flow) -> None:
        now = self._clock()
        for old, other in list(self._flows.items()):
            if other.ends_at <= now:
                del self._flows[old]
        while len(self._flows) >= FLOWS_MAX:
            del self._flows[next(iter(self._flows))]
        self._flows[state] = flow


def _endpoint(found: dict[str, Any], name: str, issuer: Issuer) -> str:
    url = found.get(name)
    schemes = ("https", "http") if issuer.development else ("https",)
    if not isinstance(url, str) or urlsplit(url).scheme not in schemes:
        raise Refused(502, f"the provider {issuer.name} names no usable {name}")
    return url


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


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()
