"""The admin API: HTTP in front of supervisor/operations.py, for the CLI, the console, scripts and Prometheus.

Two doors. Over TCP a person proves themselves by `Authorization: Bearer` (an OIDC token or a gateway secret), or by the
console's cookie with an Origin check on everything that changes something. Over the admin socket, which only the
service's own user can open, the caller is the local admin. `/healthz`, `/readyz` and `/metrics` ask nobody.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import orjson
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hoopfast.audit.finding import FILTERS
from hoopfast.control.principal import Principal, Refused, local_principal, principal_of
from hoopfast.errors import ClientFault
from hoopfast.model import Identity
from hoopfast.supervisor import metrics
from hoopfast.supervisor.operations import Operations
from hoopfast.supervisor.own import host_name

log = logging.getLogger("hoopfast.supervisor.api")

BODY_MAX_BYTES = 64 * 1024
LIMIT_DEFAULT = 100
LIMIT_MAX = 1000
PAGING = ("limit", "after", "live")
HEADERS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer"),
)

Verify = Callable[[str, str], Awaitable[Identity]]          # (bearer token, peer)
Handler = Callable[[Request], Awaitable[Response]]


class CookieDoor(Protocol):
    """The console's part in proving who asks: its cookie, checked against cross-site requests."""

    def principal(self, request: Request) -> Principal | None: ...


class Json(JSONResponse):
    """orjson instead of the standard library's encoder."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class Hardened:
    """Adds HEADERS to every answer without its own: errors, metrics and JSON are nobody's to embed or keep."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                message = {**message, "headers": headers + [item for item in HEADERS if item[0] not in present]}
            await send(message)

        await self._app(scope, receive, with_headers)


class Api:
    """Handlers for both doors; `app(local=...)` makes the ASGI application of one of them."""

    def __init__(
        self,
        operations: Operations,
        *,
        verify: Verify,
        registry: CollectorRegistry,
        ready: Callable[[], Awaitable[list[str]]],
        cookies: CookieDoor | None = None,
        pages: Sequence[BaseRoute] = (),
    ) -> None:
        self._operations = operations
        self._verify = verify
        self._registry = registry
        self._ready = ready
        self._cookies = cookies
        self._pages = pages

    def app(self, *, local: bool) -> Starlette:
        handlers = {ClientFault: _unauthenticated, Refused: _refused, HTTPException: _plain, Exception: _broken}
        routes: list[BaseRoute] = [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
            *self._routes(),
        ]
        if not local:
            routes += self._pages
        app = Starlette(
            routes=routes, middleware=[Middleware(Hardened)],
            exception_handlers=handlers,  # type: ignore[arg-type]  # keyed by class, as documented
        )
        app.state.local = local
        return app

    def _routes(self) -> list[BaseRoute]:
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/status", self.status),
            ("GET", "/workers", self.workers),
            ("GET", "/sessions", self.sessions),
            ("GET", "/sessions/{name}", self.session),
            ("DELETE", "/sessions/{name}", self.kill),
            ("POST", "/sessions/{name}/kill", self.kill),
            ("GET", "/audit/search", self.search),
            ("GET", "/audit/export", self.export),
            ("GET", "/audit/tail", self.tail),
            ("GET", "/audit/who-saw", self.who_saw),
            ("GET", "/approvals", self.approvals),
            ("GET", "/approvals/{name}", self.approval),
            ("POST", "/approvals/{name}/approve", self.approve),
            ("POST", "/approvals/{name}/reject", self.reject),
            ("GET", "/secrets", self.secrets),
            ("POST", "/secrets", self.create_secret),
            ("DELETE", "/secrets/{name}", self.revoke_secret),
            ("POST", "/secrets/{name}/revoke", self.revoke_secret),
            ("GET", "/me", self.me),
            ("POST", "/me/secrets", self.make_own_secret),
            ("POST", "/me/secrets/{name}/revoke", self.revoke_own_secret),
            ("POST", "/login/begin", self.begin_login),
            ("POST", "/login/redeem", self.redeem_login),
            ("GET", "/policy", self.policy),
            ("GET", "/policy/history", self.policy_history),
            ("POST", "/policy/reload", self.reload),
        ]
        return [Route("/api/v1" + path, handler, methods=[method]) for method, path, handler in table]

    async def who(self, request: Request) -> Principal:
        """Who asks. Raises ClientFault or Refused(401)."""
        if request.app.state.local:
            return local_principal()
        header = request.headers.get("authorization", "")
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer":
            identity = await self._verify(token.strip(), peer_of(request))
            return principal_of(identity, self._operations.config.admin)
        found = self._cookies.principal(request) if self._cookies is not None else None
        if found is None:
            raise Refused(401, "this needs a token", hint="Send `Authorization: Bearer <token or secret>`.")
        return found

    # ------------------------------------------------------------ for machines

    async def healthz(self, _: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def readyz(self, _: Request) -> Response:
        problems = await self._ready()
        return Response("\n".join(problems or ["ready"]) + "\n", 503 if problems else 200, media_type="text/plain")

    async def metrics(self, _: Request) -> Response:
        return Response(metrics.render(self._registry), media_type=metrics.CONTENT_TYPE)

    # ------------------------------------------------------------ overview, sessions

    async def status(self, request: Request) -> Response:
        return Json(self._operations.status(await self.who(request)))

    async def workers(self, request: Request) -> Response:
        return Json(self._operations.workers(await self.who(request)))

    async def sessions(self, request: Request) -> Response:
        who = await self.who(request)
        live = {"1": True, "true": True, "0": False, "false": False}.get(request.query_params.get("live", ""))
        return Json(await self._operations.sessions(who, live=live, **_filters(request)))

    async def session(self, request: Request) -> Response:
        return Json(await self._operations.session(await self.who(request), request.path_params["name"]))

    async def kill(self, request: Request) -> Response:
        who = await self.who(request)
        reason = await _text(request, "reason")
        return Json(self._operations.kill(who, request.path_params["name"], reason))

    # ------------------------------------------------------------ audit

    async def search(self, request: Request) -> Response:
        filters = _filters(request)
        if after := _number(request, "after", 0, 2**63 - 1):
            filters["after"] = after
        return Json(await self._operations.search(await self.who(request), **filters))

    async def export(self, request: Request) -> Response:
        filters = _filters(request)
        # An export is whole, or it is none.
        del filters["limit"]
        return _lines(self._operations.export(await self.who(request), **filters))

    async def tail(self, request: Request) -> Response:
        after = _number(request, "after", -1, 2**63 - 1)
        return _lines(self._operations.tail(await self.who(request), None if after < 0 else after))

    async def who_saw(self, request: Request) -> Response:
        filters = _filters(request)
        column = filters.pop("column", "")
        if not column:
            raise Refused(400, "say which column", hint="column=schema.table.column")
        return Json(await self._operations.who_saw(await self.who(request), column, **filters))

    # ------------------------------------------------------------ approvals

    async def approvals(self, request: Request) -> Response:
        return Json(await self._operations.approvals(await self.who(request), request.query_params.get("state")))

    async def approval(self, request: Request) -> Response:
        return Json(await self._operations.approval(await self.who(request), request.path_params["name"]))

    async def approve(self, request: Request) -> Response:
        return await self._vote(request, approve=True)

    async def reject(self, request: Request) -> Response:
        return await self._vote(request, approve=False)

    async def _vote(self, request: Request, *, approve: bool) -> Response:
        who = await self.who(request)
        reason = await _text(request, "reason")
        return Json(await self._operations.vote(who, request.path_params["name"], approve, reason))

    # ------------------------------------------------------------ secrets, policy

    async def secrets(self, request: Request) -> Response:
        return Json(await self._operations.secrets(await self.who(request)))

    async def create_secret(self, request: Request) -> Response:
        who = await self.who(request)
        body = await _body(request)
        groups = body.get("groups", [])
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise Refused(400, "`groups` is a list of names")
        made = await self._operations.create_secret(
            who, user=_string(body, "user"), groups=tuple(groups), ttl_s=_seconds(body, "ttl_s"),
            label=_string(body, "label"),
        )
        return Json(made, 201, {"Cache-Control": "no-store"})

    async def revoke_secret(self, request: Request) -> Response:
        return Json(await self._operations.revoke_secret(await self.who(request), request.path_params["name"]))

    # ------------------------------------------------------------ oneself, and `hoopfast login`

    async def me(self, request: Request) -> Response:
        who, own = await self.who(request), self._operations.own
        return Json({
            "user": who.identity.user, "groups": list(who.identity.groups), "roles": sorted(who.roles),
            "connections": own.connections(who), "secrets": await own.secrets(who), **own.place(_host(request)),
        })

    async def make_own_secret(self, request: Request) -> Response:
        who, body = await self.who(request), await _body(request)
        made = await self._operations.own.make_secret(who, label=_string(body, "label"), ttl_s=_seconds(body, "ttl_s"))
        return Json({**made, **self._operations.own.place(_host(request))}, 201)

    async def revoke_own_secret(self, request: Request) -> Response:
        return Json(await self._operations.own.revoke_secret(await self.who(request), request.path_params["name"]))

    async def begin_login(self, request: Request) -> Response:
        """Asks nobody: what it gives is worth nothing until a person has let the terminal in."""
        body = await _body(request)
        begun = self._operations.own.begin_terminal(
            _string(body, "challenge"), peer_of(request), _string(body, "name"), _seconds(body, "ttl_s"))
        return Json(begun, 201)

    async def redeem_login(self, request: Request) -> Response:
        """Asks nobody either: the code and the verifier prove who was let in."""
        body = await _body(request)
        made = await self._operations.own.redeem_terminal(
            _string(body, "code"), _string(body, "verifier"), _host(request))
        return Json(made, 201) if made is not None else Json({"waiting": True}, 202)

    async def policy(self, request: Request) -> Response:
        return Json(await self._operations.policy(await self.who(request)))

    async def policy_history(self, request: Request) -> Response:
        return Json(await self._operations.policy_history(await self.who(request)))

    async def reload(self, request: Request) -> Response:
        return Json(await self._operations.reload(await self.who(request)))


def peer_of(request: Request) -> str:
    """ "address:port" as the throttle wants it. Forwarding headers are not believed: anybody can write them."""
    return f"{request.client.host}:{request.client.port}" if request.client else "unix"


# ---------------------------------------------------------------- input

async def _body(request: Request) -> dict[str, Any]:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY_MAX_BYTES:
            raise Refused(413, f"the body is larger than {BODY_MAX_BYTES} bytes")
    try:
        body = orjson.loads(data or b"{}")
    except orjson.JSONDecodeError:
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object")
    return body


def _string(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise Refused(400, f"`{name}` is a text")
    return value


def _seconds(body: dict[str, Any], name: str) -> float:
    value = body.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(400, f"`{name}` is a number of seconds")
    return float(value)


def _host(request: Request) -> str:
    """The name by which whoever asks has reached us."""
    return host_name(f"http://{request.headers.get('host', '')}")


async def _text(request: Request, name: str) -> str:
    return _string(await _body(request), name) or request.query_params.get(name, "")


def _filters(request: Request) -> dict[str, Any]:
    # What is not understood is refused: a filter that does nothing would make an export of everything.
    if unknown := sorted(request.query_params.keys() - {*FILTERS, *PAGING}):
        raise Refused(400, f"there is no filter {unknown[0][:40]!r}", hint=f"Filters are {', '.join(FILTERS)}.")
    filters: dict[str, Any] = {name: request.query_params[name] for name in FILTERS if request.query_params.get(name)}
    filters["limit"] = _number(request, "limit", LIMIT_DEFAULT, LIMIT_MAX)
    return filters


def _number(request: Request, name: str, default: int, largest: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise Refused(400, f"`{name}` is a whole number")
    return min(int(text), largest)


# ---------------------------------------------------------------- output

def _lines(events: AsyncIterator[dict[str, Any]] | AsyncIterator[bytes]) -> Response:
    async def encoded() -> AsyncIterator[bytes]:
        async for event in events:
            yield event + b"\n" if isinstance(event, bytes) else orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)

    return StreamingResponse(encoded(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


async def _refused(_: Request, refused: Refused) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
    return Json({"error": refused.message, "hint": refused.hint}, refused.status, headers)


async def _unauthenticated(_: Request, fault: ClientFault) -> Response:
    # 57P03: the identity provider cannot be reached, so nobody's token is wrong.
    status = 503 if fault.sqlstate == "57P03" else 401
    return Json({"error": fault.message, "hint": fault.hint}, status, {"WWW-Authenticate": "Bearer"})


async def _plain(request: Request, failure: HTTPException) -> Response:
    said = f"there is nothing at {request.url.path}" if failure.status_code == 404 else failure.detail
    return Json({"error": said, "hint": ""}, failure.status_code, failure.headers)


async def _broken(request: Request, failure: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=failure)
    return Json({"error": "the gateway failed to do this", "hint": "Its log says why."}, 500)
