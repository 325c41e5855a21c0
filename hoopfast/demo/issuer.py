"""The development issuer: a small OpenID provider for `hoopfast demo`, with three people and no passwords.

Real discovery, key set, code flow with PKCE and RS256 tokens, so the gateway runs its production path; only the issuer
is a toy. What keeps the toy out of production: it binds 127.0.0.1 only, makes its key at start and keeps it in memory,
carries a random run id in its name (tokens die with the process), and nothing outside `demo/` and the command line
imports this module. Started by `hoopfast demo` and by tests with `start`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from hoopfast.config import Issuer
from hoopfast.model import Frozen
from hoopfast.units import is_loopback_address

AUDIENCE = "hoopfast"
CLIENT_ID = "hoopfast"
_CODE_LIFE_S = 60.0
_CODES_MAX = 100
_FORM_MAX_BYTES = 16_384
_TOKEN_LIFE_S = 3600
_START_TIMEOUT_S = 10.0


class Person(Frozen, frozen=True):
    """Somebody to sign in as."""

    login: str
    name: str
    role: str
    groups: tuple[str, ...]

    @property
    def email(self) -> str:
        return f"{self.login}@example.com"


PEOPLE = (
    Person(login="ana", name="Ana Souza", role="engineer", groups=("engineering",)),
    Person(login="max", name="Max Keller", role="manager, may approve", groups=("dba", "engineering")),
    Person(login="ada", name="Ada Okafor", role="administrator and auditor", groups=("hoopfast-admin", "auditors")),
)


class _Code(Frozen, frozen=True):
    person: Person
    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str
    expires_at: float


class DevelopmentIssuer:
    """The provider's state and endpoints. `url` is the issuer's name; `clock` is unix time."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        if not is_loopback_address(urlsplit(url).hostname or ""):
            raise ValueError("the development issuer exists on loopback only")
        self.url = url
        self._clock = clock
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._kid = secrets.token_hex(8)
        self._codes: dict[str, _Code] = {}
        parts = urlsplit(url)
        path = parts.path
        self.app = Starlette(
            routes=[
                Route(f"{path}/.well-known/openid-configuration", self._discovery),
                Route(f"{path}/jwks", self._jwks),
                Route(f"{path}/authorize", self._authorize, methods=["GET", "POST"]),
                Route(f"{path}/token", self._token, methods=["POST"]),
                # Asked for by browsers themselves; "nothing" is an answer, 404 a complaint in their consoles.
                Route("/favicon.ico", self._nothing),
            ],
            # A web page whose name was pointed at 127.0.0.1 arrives with its own Host.
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[str(parts.hostname)])],
        )

    def mint(
        self, person: str, ttl: float = _TOKEN_LIFE_S, audience: str = AUDIENCE, *, nonce: str = ""
    ) -> str:
        """A signed ID token of `person` ("ana", "max", "ada"), good for `ttl` seconds. Raises KeyError."""
        who = {p.login: p for p in PEOPLE}[person]
        now = int(self._clock())
        claims: dict[str, Any] = {
            "iss": self.url, "sub": f"demo-{who.login}", "aud": audience, "azp": CLIENT_ID, "iat": now,
            "exp": int(now + ttl), "auth_time": now, "jti": secrets.token_hex(12),
            "name": who.name, "preferred_username": who.login,
            "email": who.email, "email_verified": True, "groups": list(who.groups),
        }
        if nonce:
            claims["nonce"] = nonce
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._kid})

    # ---------------------------------------------------------------- endpoints

    async def _discovery(self, _request: Request) -> Response:
        return JSONResponse({
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "scopes_supported": ["openid", "email", "profile", "groups"],
            "claims_supported": ["sub", "email", "email_verified", "name", "groups"],
            "authorization_response_iss_parameter_supported": True,
        })

    async def _nothing(self, _: Request) -> Response:
        return Response(status_code=204)

    async def _jwks(self, _request: Request) -> Response:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return JSONResponse(
            {"keys": [public | {"kid": self._kid, "use": "sig", "alg": "RS256"}]},
            headers={"Cache-Control": "max-age=300"},
        )

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        fault = _authorize_fault(asked)
        if fault:
            return _page("This link does not work", f"<p>{html.escape(fault)}</p>", status=400)
        if request.method == "GET":
            return _page("Who are you today?", _choices(asked))
        chosen = (await _form(request)).get("person", "")
        person = {p.login: p for p in PEOPLE}.get(chosen)
        if person is None:
            return _page("Nobody of that name", "<p>Go back and choose one of the people on the page.</p>", status=400)
        code = self._issue_code(person, asked)
        answer = {"code": code, "iss": self.url} | ({"state": asked["state"]} if "state" in asked else {})
        joint = "&" if urlsplit(asked["redirect_uri"]).query else "?"
        return RedirectResponse(asked["redirect_uri"] + joint + urlencode(answer), 303, headers=_NO_STORE)

    def _issue_code(self, person: Person, asked: dict[str, str]) -> str:
        now = self._clock()
        self._codes = {code: held for code, held in self._codes.items() if held.expires_at > now}
        while len(self._codes) >= _CODES_MAX:
            del self._codes[next(iter(self._codes))]
        code = secrets.token_urlsafe(24)
        self._codes[code] = _Code(
            person=person, client_id=asked["client_id"], redirect_uri=asked["redirect_uri"],
            challenge=asked["code_challenge"], nonce=asked.get("nonce", ""), expires_at=now + _CODE_LIFE_S,
        )
        return code

    async def _token(self, request: Request) -> Response:
        form = await _form(request)
        if form.get("grant_type") != "authorization_code":
            return _token_error("unsupported_grant_type")
        # Taken out before it is judged: a code works once, and a wrong guess at its verifier spends it.
        held = self._codes.pop(form.get("code", ""), None)
        if held is None or held.expires_at <= self._clock():
            return _token_error("invalid_grant")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=")
        if not hmac.compare_digest(challenge, held.challenge.encode()):
            return _token_error("invalid_grant")
        if form.get("client_id") != held.client_id or form.get("redirect_uri") != held.redirect_uri:
            return _token_error("invalid_grant")
        token = self.mint(held.person.login, nonce=held.nonce)
        answer = {"access_token": token, "id_token": token, "token_type": "Bearer", "expires_in": _TOKEN_LIFE_S}
        return JSONResponse(answer, headers=_NO_STORE)


# ---------------------------------------------------------------- requests and pages

_NO_STORE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:30rem;margin:8vh auto;padding:0 1rem;color:#1d2733}
.banner{background:#ffd84d;padding:.5rem 1rem;border-radius:.4rem;font-size:.9rem}
button{display:block;width:100%;text-align:left;font:inherit;margin:.7rem 0;padding:.8rem 1rem;border:1px solid #c3ccd6;
border-radius:.5rem;background:#fff;cursor:pointer}
button:hover,button:focus{border-color:#1b6ac9;box-shadow:0 0 0 2px #1b6ac933}
small{display:block;color:#5a6876}
"""


def _authorize_fault(asked: dict[str, str]) -> str:
    """What is wrong with an authorization request, "" when nothing is."""
    target = urlsplit(asked.get("redirect_uri", ""))
    if target.scheme not in ("http", "https") or not is_loopback_address(target.hostname or "") or target.fragment:
        return "redirect_uri must lead to a program on this machine (http://127.0.0.1:...)."
    if asked.get("response_type") != "code":
        return "response_type must be code."
    if asked.get("client_id") != CLIENT_ID:
        return f"client_id must be {CLIENT_ID}."
    if asked.get("code_challenge_method") != "S256" or not 43 <= len(asked.get("code_challenge", "")) <= 128:
        return "PKCE is required: code_challenge with code_challenge_method=S256."
    if not asked["code_challenge"].isascii():
        return "code_challenge must be base64url."
    return ""


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_MAX_BYTES:
            return {}
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        return {}
    # A field sent twice has two readings; it counts as not sent.
    return {name: values[0] for name, values in fields.items() if len(values) == 1}


def _token_error(code: str) -> Response:
    return JSONResponse({"error": code}, 400, headers=_NO_STORE)


def _choices(asked: dict[str, str]) -> str:
    action = html.escape("?" + urlencode(asked))
    buttons = "".join(
        f'<button name="person" value="{p.login}"><b>{html.escape(p.name)}</b>'
        f"<small>{html.escape(p.role)} &middot; {html.escape(', '.join(p.groups))}</small></button>"
        for p in PEOPLE
    )
    return f'<form method="post" action="{action}">{buttons}</form>'


def _page(title: str, body: str, *, status: int = 200) -> HTMLResponse:
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'"
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f'<style>{_STYLE}</style></head><body>'
        '<p class="banner">hoopfast demo: a sign-in without passwords, on this machine only.</p>'
        f"<h1>{html.escape(title)}</h1>{body}</body></html>"
    )
    return HTMLResponse(page, status, headers={"Content-Security-Policy": policy, **_NO_STORE})


# ---------------------------------------------------------------- running it

class RunningIssuer:
    """A started development issuer. `url` is its name and address, `mint` makes tokens, `stop` ends it."""

    def __init__(self, issuer: DevelopmentIssuer, server: uvicorn.Server, thread: threading.Thread) -> None:
        self.url = issuer.url
        self.mint = issuer.mint
        self._server = server
        self._thread = thread

    def configuration(self, name: str = "demo") -> Issuer:
        """This issuer as an item of `identity` in the gateway's configuration."""
        return Issuer(
            name=name, issuer=self.url, audience=AUDIENCE, client_id=CLIENT_ID, accept="id_token", development=True
        )

    def stop(self) -> None:
        """End the server; its tokens are worthless from now on. Harmless when called twice."""
        self._server.should_exit = True
        self._thread.join(_START_TIMEOUT_S)


def start(port: int = 0, host: str = "127.0.0.1") -> RunningIssuer:
    """Start an issuer with a fresh key and name in a thread. Raises ValueError when `host` is not 127.x.y.z."""
    if not is_loopback_address(host) or ":" in host:
        raise ValueError(f"the development issuer binds 127.0.0.1 only, not {host}")
    listener = socket.create_server((host, port))
    issuer = DevelopmentIssuer(f"http://{host}:{listener.getsockname()[1]}/run-{secrets.token_hex(6)}")
    settings = uvicorn.Config(
        issuer.app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(settings)
    # A daemon, so that a demo which dies does not hang on its issuer.
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="development-issuer", daemon=True
    )
    thread.start()
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            listener.close()
            raise RuntimeError("the development issuer did not start")
        time.sleep(0.01)
    return RunningIssuer(issuer, server, thread)
