"""The console's pages for oneself: which databases one may use and how, one's own secrets, and letting a terminal in.

`hoopfast login` opens /terminal in the person's browser and waits on a loopback port for the code; a terminal without a
browser has its letters typed at /terminal/code. Used by console/pages.py, which guards every page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from hoopfast import units
from hoopfast.config import Config
from hoopfast.console.desk import OwnDesk
from hoopfast.console.forms import base_url, form_of
from hoopfast.console.render import HEADERS
from hoopfast.control.principal import Principal, Refused

Page = Callable[[Request, Principal], Awaitable[Response]]
Guard = Callable[[Page], Callable[[Request], Awaitable[Response]]]
TTLS = ("1h", "8h", "12h", "1d", "7d", "30d")
STATE_MAX = 200
NAME_MAX = 100


class OwnPages:
    """`show(request, who, template, **values)` renders a page with what every page has."""

    def __init__(
        self, own: OwnDesk, config: Callable[[], Config], guard: Guard, show: Callable[..., Response]
    ) -> None:
        self._own = own
        self._config = config
        self._show = show
        self.routes: list[BaseRoute] = [
            Route("/me", guard(self.me)),
            Route("/me/secrets", guard(self.make), methods=["POST"]),
            Route("/me/secrets/{name}/revoke", guard(self.revoke), methods=["POST"]),
            Route("/terminal", guard(self.terminal), methods=["GET"]),
            Route("/terminal", guard(self.let_in), methods=["POST"]),
            Route("/terminal/code", guard(self.typed), methods=["GET", "POST"]),
            Route("/terminal/decide", guard(self.decide), methods=["POST"]),
        ]

    async def me(self, request: Request, who: Principal) -> Response:
        return await self._page(request, who)

    async def make(self, request: Request, who: Principal) -> Response:
        form = await form_of(request)
        try:
            ttl_s = units.duration_s(form.get("ttl", ""))
        except ValueError as wrong:
            raise Refused(400, f"the lifetime {wrong}") from None
        made = await self._own.make_secret(who, label=form.get("label", ""), ttl_s=ttl_s)
        # Shown by this very answer: behind a redirect it would have to be kept somewhere.
        return await self._page(request, who, made)

    async def revoke(self, request: Request, who: Principal) -> Response:
        await self._own.revoke_secret(who, request.path_params["name"])
        return RedirectResponse("/me", 303, HEADERS)

    async def _page(self, request: Request, who: Principal, made: dict[str, Any] | None = None) -> Response:
        base = base_url(request, self._config())
        longest = self._config().self_service.max_ttl
        return self._show(
            request, who, "me", connections=self._own.connections(who), secrets=await self._own.secrets(who), made=made,
            place=self._own.place(urlsplit(base).hostname or ""), why_none=self._own.why_none(who), base=base,
            ttls=[text for text in TTLS if units.duration_s(text) <= longest] or [f"{longest:.0f}s"],
        )

    # ------------------------------------------------------------ terminals

    async def terminal(self, request: Request, who: Principal) -> Response:
        asked = _asked(dict(request.query_params))
        page = self._show(request, who, "terminal", asked=asked, letters="", peer="", why_none=self._own.why_none(who))
        # The form's answer leads to the terminal's own port; browsers look at form-action for that too.
        policy = page.headers["Content-Security-Policy"]
        page.headers["Content-Security-Policy"] = policy.replace(
            "form-action 'self'", f"form-action 'self' http://127.0.0.1:{asked['port']}")
        return page

    async def let_in(self, request: Request, who: Principal) -> Response:
        form = await form_of(request)
        asked = _asked(form)
        if form.get("decision") != "allow":
            return RedirectResponse(_at_terminal(asked, error="refused"), 303, HEADERS)
        code = self._own.grant_terminal(who, asked["challenge"], asked["name"], _seconds(asked["ttl"]))
        return RedirectResponse(_at_terminal(asked, code=code), 303, HEADERS)

    async def typed(self, request: Request, who: Principal) -> Response:
        if request.method == "GET":
            return self._show(request, who, "code", why_none=self._own.why_none(who))
        found = self._own.look_at_terminal(who, (await form_of(request)).get("letters", ""))
        asked = {"name": found["name"]}
        return self._show(
            request, who, "terminal", asked=asked, letters=found["letters"], peer=found["peer"],
            why_none=self._own.why_none(who),
        )

    async def decide(self, request: Request, who: Principal) -> Response:
        form = await form_of(request)
        allow = form.get("decision") == "allow"
        self._own.decide_terminal(who, form.get("letters", ""), allow=allow)
        return self._show(request, who, "let_in", allow=allow)


def _asked(fields: dict[str, str]) -> dict[str, str]:
    """What `hoopfast login` put into the address. Raises Refused(400)."""
    port, state = fields.get("port", ""), fields.get("state", "")
    if not (port.isascii() and port.isdecimal() and 1024 <= int(port) <= 65535) or not 0 < len(state) <= STATE_MAX:
        raise Refused(400, "this is not a sign-in that `hoopfast login` began", hint="Run it again.")
    return {
        "port": port, "state": state, "challenge": fields.get("challenge", ""),
        "name": fields.get("name", "")[:NAME_MAX], "ttl": fields.get("ttl", ""),
    }


def _at_terminal(asked: dict[str, str], **answer: str) -> str:
    return f"http://127.0.0.1:{asked['port']}/?{urlencode({'state': asked['state'], **answer}, quote_via=quote)}"


def _seconds(text: str) -> float:
    """0 for nothing: then the longest there is."""
    if not text:
        return 0.0
    try:
        return units.duration_s(text)
    except ValueError as wrong:
        raise Refused(400, f"the lifetime {wrong}") from None
