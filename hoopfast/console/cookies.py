"""Who is signed in to the console: a random cookie per browser, the identity on our side only.

The cookie is HttpOnly and SameSite=Strict; what changes something must also come from our own pages (Origin). Sessions
live in memory: a restart of the gateway signs everybody out. Used by console/pages.py and by the admin API.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from hoopfast.config import Config
from hoopfast.control.principal import Principal, Refused, principal_of
from hoopfast.model import Identity

SESSIONS_MAX = 10_000
LIFETIME_S = 8 * 3600.0
SAFE_METHODS = frozenset(("GET", "HEAD"))


class Cookies:
    """`config()` is what is in force now: roles follow it at every request. `clock` is unix seconds."""

    def __init__(self, config: Callable[[], Config], clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        # Digests of the cookies: a dump of our memory or a log of it signs nobody in.
        self._sessions: dict[bytes, tuple[Identity, float]] = {}

    def sign_in(self, request: Request, response: Response, identity: Identity) -> None:
        """A new session for this browser; the cookie goes out with the response."""
        self.sign_out(request, response)
        self._drop_expired()
        cookie = secrets.token_urlsafe(32)
        ends_at = self._clock() + LIFETIME_S
        if identity.expires_at:
            ends_at = min(ends_at, identity.expires_at)
        self._sessions[_digest(cookie)] = (identity, ends_at)
        secure = self.is_secure(request)
        response.set_cookie(_name(secure), cookie, secure=secure, httponly=True, samesite="strict", path="/")

    def sign_out(self, request: Request, response: Response) -> None:
        secure = self.is_secure(request)
        if old := request.cookies.get(_name(secure)):
            self._sessions.pop(_digest(old), None)
            response.delete_cookie(_name(secure), secure=secure, httponly=True, samesite="strict", path="/")

    def identity(self, request: Request) -> Identity | None:
        cookie = request.cookies.get(_name(self.is_secure(request)), "")
        found = self._sessions.get(_digest(cookie)) if cookie else None
        if found is None or found[1] <= self._clock():
            return None
        return found[0]

    def principal(self, request: Request) -> Principal | None:
        """The person of the cookie, with the roles of now. Raises Refused(403) for a request from another site."""
        identity = self.identity(request)
        if identity is None:
            return None
        self.check_origin(request)
        return principal_of(identity, self._config().admin)

    def check_origin(self, request: Request) -> None:
        """What changes something comes from our own pages. Raises Refused(403)."""
        if request.method in SAFE_METHODS:
            return
        origin = request.headers.get("origin", "")
        # Without Origin there is nothing that a browser vouches for.
        if origin and urlsplit(origin).netloc and origin in self._own_origins(request):
            return
        raise Refused(403, "this came from another site, so it was not done", hint="Open the console and do it there.")

    def forget(self, credential: str) -> None:
        """End the sessions of a credential that was revoked."""
        for digest, (identity, _) in list(self._sessions.items()):
            if identity.credential == credential:
                del self._sessions[digest]

    def is_secure(self, request: Request) -> bool:
        """Whether people reach us by https, be it through a proxy in front."""
        return request.url.scheme == "https" or self._config().admin.public_url.startswith("https://")

    def _own_origins(self, request: Request) -> set[str]:
        own = {f"{request.url.scheme}://{request.headers.get('host', '')}"}
        public = urlsplit(self._config().admin.public_url)
        if public.netloc:
            own.add(f"{public.scheme}://{public.netloc}")
        return own

    def _drop_expired(self) -> None:
        now = self._clock()
        for digest, (_, ends_at) in list(self._sessions.items()):
            if ends_at <= now:
                del self._sessions[digest]
        while len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]


def _name(secure: bool) -> str:
    # The prefix makes browsers insist on Secure and on this very host.
    return "__Host-hoopfast" if secure else "hoopfast"


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()


def safe_next(target: str) -> str:
    """A path of our own to go on to after signing in; "/" for anything that could lead elsewhere."""
    if not target.startswith("/") or target.startswith(("//", "/\\")) or not target.isprintable() or "\\" in target:
        return "/"
    return target
