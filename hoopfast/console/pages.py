"""The console's pages: what the admin API says, for people. Server-rendered, escaped, usable without scripts.

One function per page. Who may see what is decided behind the desk; here it is only shown. `build` is called by
cli/serve.py and gives the routes, and the cookie door that the admin API uses too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from hoopfast import secrets
from hoopfast.config import Config
from hoopfast.console.cookies import Cookies, safe_next
from hoopfast.console.desk import Desk
from hoopfast.console.forms import base_url, form_of
from hoopfast.console.me import OwnPages
from hoopfast.console.oidc import FLOW_S, SignIn, Verify
from hoopfast.console.render import HEADERS, render
from hoopfast.control.principal import ADMIN, APPROVER, AUDITOR, Principal, Refused, principal_of
from hoopfast.errors import ClientFault
from hoopfast.model import Identity

log = logging.getLogger("hoopfast.console")

SEARCH_LIMIT = 100
REFRESH_S = 5                       # of pages that show what waits
SEARCH_FIELDS = (
    "user", "connection", "text", "table", "column", "kind", "event", "outcome", "verdict", "since", "until", "after",
)
SESSION_STATES = {"open": True, "ended": False}
APPROVAL_STATES = ("waiting", "approved", "rejected", "withdrawn", "expired", "used", "all")

Page = Callable[[Request, Principal], Awaitable[Response]]

_NOBODY = {"is_admin": False, "is_auditor": False, "is_approver": False, "has_role": False}


class Console:
    """`routes` for the admin application; `principal` and `forget` as supervisor/main.py wants them."""

    def __init__(
        self,
        desk: Desk,
        verify: Verify,
        config: Callable[[], Config],
        clock: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._desk = desk
        self._verify = verify
        self._config = config
        self._clock = clock
        self.cookies = Cookies(config, clock)
        self._sign_in = SignIn(verify, secrets.resolve, clock, transport)
        self.routes: list[BaseRoute] = [
            Route("/", self._page(self.overview)),
            Route("/sessions", self._page(self.sessions)),
            Route("/sessions/{name}", self._page(self.session)),
            Route("/sessions/{name}/kill", self._page(self.kill), methods=["POST"]),
            Route("/approvals", self._page(self.approvals)),
            Route("/approvals/{name}", self._page(self.approval)),
            Route("/approvals/{name}/decide", self._page(self.decide), methods=["POST"]),
            Route("/audit", self._page(self.audit)),
            Route("/policy", self._page(self.policy)),
            Route("/policy/reload", self._page(self.reload), methods=["POST"]),
            *OwnPages(desk.own, config, self._page, self._show).routes,
            Route("/signin", self.signin_form, methods=["GET"]),
            Route("/signin", self.signin, methods=["POST"]),
            Route("/signin/callback", self.callback),
            Route("/signin/with/{issuer}", self.signin_with),
            Route("/signout", self.signout, methods=["POST"]),
            Route("/style.css", _static("style.css", "text/css")),
            Route("/console.js", _static("console.js", "text/javascript")),
            Route("/icon.svg", _static("icon.svg", "image/svg+xml")),
            # Browsers ask for it by themselves where an answer is no page: a redirect, a page that was left early.
            Route("/favicon.ico", _static("icon.svg", "image/svg+xml")),
        ]

    def principal(self, request: Request) -> Principal | None:
        return self.cookies.principal(request)

    def forget(self, credential: str) -> None:
        self.cookies.forget(credential)

    # ------------------------------------------------------------ pages

    async def overview(self, request: Request, who: Principal) -> Response:
        if not who.roles:
            return RedirectResponse("/me", 303, HEADERS)
        waiting = await self._desk.approvals(who, "waiting")
        return self._show(
            request, who, "overview", refresh=REFRESH_S, status=self._desk.status(who), waiting=waiting["approvals"]
        )

    async def sessions(self, request: Request, who: Principal) -> Response:
        filters: dict[str, Any] = _given(request, ("user", "connection", "since"))
        state = request.query_params.get("state", "")
        found = await self._desk.sessions(who, live=SESSION_STATES.get(state), limit=SEARCH_LIMIT, **filters)
        return self._show(
            request, who, "sessions", sessions=found["sessions"], filters=filters, state=state, limit=SEARCH_LIMIT
        )

    async def session(self, request: Request, who: Principal) -> Response:
        found = await self._desk.session(who, request.path_params["name"])
        return self._show(request, who, "session", **found)

    async def kill(self, request: Request, who: Principal) -> Response:
        name = request.path_params["name"]
        self._desk.kill(who, name, (await form_of(request)).get("reason", ""))
        return RedirectResponse(f"/sessions/{quote(name)}", 303)

    async def approvals(self, request: Request, who: Principal) -> Response:
        state = request.query_params.get("state") or "waiting"
        if state not in APPROVAL_STATES:
            raise Refused(404, "there is no such state of an approval")
        found = await self._desk.approvals(who, None if state == "all" else state)
        return self._show(request, who, "approvals", refresh=REFRESH_S, approvals=found["approvals"], state=state)

    async def approval(self, request: Request, who: Principal) -> Response:
        found = await self._desk.approval(who, request.path_params["name"])
        return self._show(request, who, "approval", **found)

    async def decide(self, request: Request, who: Principal) -> Response:
        form = await form_of(request)
        verdict = form.get("decision", "")
        if verdict not in ("approve", "reject"):
            raise Refused(400, "the form says neither approve nor reject")
        name = request.path_params["name"]
        await self._desk.vote(who, name, verdict == "approve", form.get("reason", ""))
        return RedirectResponse(f"/approvals/{quote(name)}", 303)

    async def audit(self, request: Request, who: Principal) -> Response:
        # Statements unless told: looking at this page is an event too.
        filters: dict[str, Any] = {"event": "statement"} | _given(request, SEARCH_FIELDS)
        asked = {name: value for name, value in filters.items() if (name, value) != ("event", "all")}
        if after := asked.pop("after", ""):
            asked["after"] = int(after) if after.isascii() and after.isdecimal() and len(after) < 19 else 0
        events, problem, older = [], "", ""
        try:
            events = (await self._desk.search(who, limit=SEARCH_LIMIT, **asked))["events"]
        except Refused as refused:
            if refused.status != 400:
                raise
            problem = refused.message
        if len(events) >= SEARCH_LIMIT:
            older = urlencode(filters | {"after": str(events[-1]["id"])})
        return self._show(request, who, "audit", events=events, filters=filters, problem=problem, older=older)

    async def policy(self, request: Request, who: Principal) -> Response:
        history = await self._desk.policy_history(who)
        return self._show(request, who, "policy", policy=await self._desk.policy(who), history=history["history"])

    async def reload(self, _: Request, who: Principal) -> Response:
        await self._desk.reload(who)
        return RedirectResponse("/policy", 303)

    # ------------------------------------------------------------ signing in and out

    async def signin_form(self, request: Request) -> Response:
        return self._signin_page(safe_next(request.query_params.get("next", "/")))

    async def signin(self, request: Request) -> Response:
        target = "/"
        try:
            self.cookies.check_origin(request)
            form = await form_of(request)
            target = safe_next(form.get("next", "/"))
            identity = await self._verify(form.get("credential", "").strip(), _peer(request))
        except ClientFault as fault:
            return self._signin_page(target, fault.message, fault.hint, 401)
        except Refused as refused:
            return self._signin_page(target, refused.message, refused.hint, refused.status)
        return self._admit(request, identity, RedirectResponse(target, 303, HEADERS), target)

    def _admit(self, request: Request, identity: Identity, response: Response, target: str) -> Response:
        """Sign the person in with this response, if they have any business here."""
        config = self._config()
        if not config.self_service.enabled and not principal_of(identity, config.admin).roles:
            log.info("%s was not let into the console: no role", identity.user)
            return self._signin_page(target, f"{identity.user} has no role here", "Roles come from groups.", 403)
        self.cookies.sign_in(request, response, identity)
        log.info("%s signed in to the console", identity.user)
        return response

    async def signin_with(self, request: Request) -> Response:
        target = safe_next(request.query_params.get("next", "/"))
        name = request.path_params["issuer"]
        issuer = next((i for i in self._config().identity if i.name == name and i.client_id), None)
        if issuer is None:
            return self._signin_page(target, "there is no such identity provider here", "", 404)
        try:
            back = f"{base_url(request, self._config())}/signin/callback"
            url, cookie = await self._sign_in.begin(issuer, back, target)
        except Refused as refused:
            return self._signin_page(target, refused.message, refused.hint, refused.status)
        response = RedirectResponse(url, 303, HEADERS)
        secure = self.cookies.is_secure(request)
        # Lax: the provider's redirect back to us comes from another site.
        response.set_cookie(
            _flow_name(secure), cookie, max_age=int(FLOW_S), secure=secure, httponly=True, samesite="lax", path="/"
        )
        return response

    async def callback(self, request: Request) -> Response:
        try:
            query = dict(request.query_params)
            flow_cookie = request.cookies.get(_flow_name(self.cookies.is_secure(request)), "")
            identity, target = await self._sign_in.finish(query, flow_cookie, _peer(request), self._config().identity)
        except ClientFault as fault:
            return self._signin_page("/", fault.message, fault.hint, 401)
        except Refused as refused:
            return self._signin_page("/", refused.message, refused.hint, refused.status)
        # A page, not a redirect: on a redirect chain that began elsewhere, browsers hold the strict cookie back.
        response = render("onward", target=safe_next(target))
        secure = self.cookies.is_secure(request)
        response.delete_cookie(_flow_name(secure), path="/", secure=secure, httponly=True, samesite="lax")
        return self._admit(request, identity, response, target)

    async def signout(self, request: Request) -> Response:
        response = RedirectResponse("/signin", 303, HEADERS)
        try:
            self.cookies.check_origin(request)
        except Refused as refused:
            return self._signin_page("/", refused.message, refused.hint, refused.status)
        self.cookies.sign_out(request, response)
        return response

    # ------------------------------------------------------------ around every page

    def _page(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            who: Principal | None = None
            try:
                who = self.cookies.principal(request)
                if who is None:
                    return self._stranger(request)
                return await page(request, who)
            except Refused as refused:
                return self._failed(request, who, refused.status, refused.message, refused.hint)
            except Exception:
                log.exception("the page %s failed", request.url.path)
                return self._failed(request, who, 500, "the gateway failed to do this", "Its log says why.")

        return guarded

    def _stranger(self, request: Request) -> Response:
        target = safe_next(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
        if request.method != "GET":
            return self._signin_page("/", "you are signed out; nothing was done", "", 401)
        if request.headers.get("sec-fetch-site") == "cross-site":
            # Somebody followed a link from a chat: the strict cookie comes with the next request, from our own page.
            return render("onward", target=target)
        return RedirectResponse(f"/signin?next={quote(target, safe='')}", 303, HEADERS)

    def _show(self, request: Request, who: Principal, template: str, **values: Any) -> Response:
        waiting = self._desk.status(who)["approvals"]["waiting"] if who.roles else 0
        return render(
            template, who=who, path=request.url.path, now=self._clock(), waiting_count=waiting, **_roles(who), **values
        )

    def _failed(self, request: Request, who: Principal | None, status: int, message: str, hint: str) -> Response:
        roles = _roles(who) if who else _NOBODY
        path = request.url.path
        # A form posts to a path below the page that it stands on.
        back = path.rpartition("/")[0] if request.method == "POST" else ""
        return render("error", status, who=who, path=path, message=message, hint=hint, back=back, **roles)

    def _signin_page(self, target: str, message: str = "", hint: str = "", status: int = 200) -> Response:
        issuers = [issuer.name for issuer in self._config().identity if issuer.client_id]
        return render("signin", status, next=target, message=message, hint=hint, issuers=issuers)



def _roles(who: Principal) -> dict[str, bool]:
    return {
        "is_admin": ADMIN in who.roles,
        "is_auditor": not who.roles.isdisjoint((ADMIN, AUDITOR)),
        "is_approver": not who.roles.isdisjoint((ADMIN, APPROVER)),
        "has_role": bool(who.roles),
    }


def _flow_name(secure: bool) -> str:
    # The prefix keeps other hosts of our domain from planting a sign-in of their own.
    return "__Host-hoopfast-flow" if secure else "hoopfast-flow"


def _given(request: Request, names: tuple[str, ...]) -> dict[str, str]:
    return {name: request.query_params[name].strip() for name in names if request.query_params.get(name, "").strip()}


def _peer(request: Request) -> str:
    return f"{request.client.host}:{request.client.port}" if request.client else "unix"


def _static(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources.files("hoopfast.console").joinpath("static", name).read_bytes()

    async def file(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=HEADERS | {"Cache-Control": "max-age=300"})

    return file
