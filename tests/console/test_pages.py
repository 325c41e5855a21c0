"""The console: nothing unescaped, cookies that other sites cannot use, sign-in by paste and by provider, roles."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
import pytest
from starlette.applications import Starlette

from hoopfast.config import Admin, Config, Issuer, SelfService
from hoopfast.console.cookies import safe_next
from hoopfast.console.pages import Console
from hoopfast.control.principal import Principal, Refused
from hoopfast.errors import AuthenticationFailed
from hoopfast.model import Identity

EVIL = "<script>alert(1)</script>'\"&{{7*7}}"
ORIGIN = "http://127.0.0.1:8432"
ISSUER = Issuer(name="okta", issuer="https://okta.example.com", audience="hoopfast", client_id="client")
PEOPLE = {"t-adm": ("hoopfast-admin",), "t-aud": ("auditors",), "t-dba": ("dba",), "t-none": ("engineering",)}


def approval(**changes: Any) -> dict[str, Any]:
    return {
        "id": "apr_abcdefgh", "state": "waiting", "session": "07", "requester": EVIL, "requester_issuer": EVIL,
        "connection": EVIL, "peer": EVIL, "application": EVIL, "rule": EVIL, "sql": f"DROP TABLE t -- {EVIL}",
        "role": EVIL,
        "parameters": [EVIL, None], "approver_groups": [EVIL], "needed": 1, "created_at": 1.0, "expires_at": 2.0,
        "votes": [{"reviewer": EVIL, "approve": False, "reason": EVIL, "at": 1.0}], "why_not": "", "can_decide": True,
    } | changes


EVENTS = [
    {
        "event": "statement", "at": "2026-01-31T12:00:00.123Z", "session": "07", "user": EVIL, "connection": EVIL,
        "sql": EVIL, "verdict": "allow", "rule": EVIL, "outcome": "error", "tag": EVIL, "rows": 1, "bytes": 2048,
        "duration_us": 1500, "parameters": [EVIL, None, {"oid": 1, "hex": EVIL}], "masks": [EVIL],
        "error": {"sqlstate": EVIL, "message": EVIL},
        "results": [{"columns": [{"name": EVIL}], "rows": [[EVIL], [None]], "copy": EVIL, "truncated": True}],
    },
    {"event": "note", "at": "2026-01-31T12:00:00Z", "session": "07", "user": "", "connection": "",
     "note": {EVIL: EVIL}},
    {"event": "gateway", "at": "2026-01-31T12:00:00Z", "session": "0" * 16, "user": EVIL, "connection": "",
     "action": EVIL, "fields": {EVIL: EVIL}},
    {"event": "session_end", "at": "2026-01-31T12:00:00Z", "session": "07", "user": EVIL, "connection": "",
     "reason": EVIL},
]
SESSION = {
    "session": EVIL, "live": True, "user": EVIL, "issuer": EVIL, "groups": [EVIL], "connection": EVIL, "role": EVIL,
    "client": EVIL, "application": EVIL, "started_at": "2026-01-31T12:00:00Z", "ended_at": None, "reason": EVIL,
}


class Own:
    """What people may do for themselves, with the worst names too."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, float]] = []
        self.decided: list[tuple[str, bool]] = []
        self.granted: list[tuple[str, str, float]] = []

    def connections(self, who: Principal) -> list[str]:
        return [EVIL]

    def place(self, reached_as: str) -> dict[str, Any]:
        return {"host": reached_as, "port": 6432, "tls": True}

    def why_none(self, who: Principal) -> str:
        return ""

    async def secrets(self, who: Principal) -> list[dict[str, Any]]:
        return [{
            "id": "sec_1", "label": EVIL, "created_by": EVIL, "expires_at": 2.0, "last_used_at": 1.0, "state": "active",
        }]

    async def make_secret(self, who: Principal, *, label: str, ttl_s: float) -> dict[str, Any]:
        self.made.append((who.identity.user, label, ttl_s))
        return {"id": "sec_2", "secret": "hf_SHOWN", "user": EVIL, "expires_at": 2.0, "connections": [EVIL]}

    async def revoke_secret(self, who: Principal, name: str) -> dict[str, Any]:
        raise Refused(404, f"you have no secret {name}")

    def grant_terminal(self, who: Principal, challenge: str, name: str, ttl_s: float) -> str:
        self.granted.append((challenge, name, ttl_s))
        return "c0de"

    def look_at_terminal(self, who: Principal, letters: str) -> dict[str, Any]:
        return {"letters": "BCDFGHJK", "name": EVIL, "peer": EVIL}

    def decide_terminal(self, who: Principal, letters: str, *, allow: bool) -> None:
        self.decided.append((letters, allow))


class Desk:
    """Answers everything with the worst names there are."""

    def __init__(self) -> None:
        self.own = Own()
        self.votes: list[tuple[str, str, bool, str]] = []
        self.killed: list[str] = []
        self.searches: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = EVENTS
        self.approval_state: dict[str, Any] = {}

    def status(self, who: Principal) -> dict[str, Any]:
        return {
            "version": EVIL, "started_at": 1.0, "draining": True, "listen": EVIL, "connections": [EVIL],
            "workers": {"wanted": 2, "ready": 2, "restarts": 0},
            "sessions": {"open": 1, "max": 2, "by_connection": {EVIL: 1}},
            "policy": {"version": 1, "accepted_at": 1.0, "problems": [EVIL]},
            "audit": {"events": 1, "backlog_bytes": 5000, "failing": {EVIL: EVIL}},
            "issuers": [
                {"name": EVIL, "key_age_s": None, "stale": False}, {"name": "x", "key_age_s": 2.5, "stale": True},
            ],
            "auth_failures": {EVIL: 3}, "approvals": {"waiting": 1},
        }

    async def sessions(self, who: Principal, **filters: Any) -> dict[str, Any]:
        who.need("auditor", "admin")
        return {"sessions": [SESSION]}

    async def session(self, who: Principal, name: str) -> dict[str, Any]:
        return {"session": SESSION, "events": EVENTS}

    def kill(self, who: Principal, name: str, reason: str) -> dict[str, Any]:
        self.killed.append(name)
        return {}

    async def search(self, who: Principal, **filters: Any) -> dict[str, Any]:
        self.searches.append(filters)
        if filters.get("since") == "whenever":
            raise Refused(400, "since: what time is that?")
        return {"events": self.events}

    async def approvals(self, who: Principal, state: str | None) -> dict[str, Any]:
        return {"approvals": [approval()]}

    async def approval(self, who: Principal, name: str) -> dict[str, Any]:
        if name != "apr_abcdefgh":
            raise Refused(404, f"there is no approval request {name}")
        return {"approval": approval(**self.approval_state)}

    async def vote(self, who: Principal, name: str, approve: bool, reason: str) -> dict[str, Any]:
        self.votes.append((who.identity.user, name, approve, reason))
        return {}

    async def policy(self, who: Principal) -> dict[str, Any]:
        return {"version": 1, "file": EVIL, "accepted_at": 1.0, "digest": EVIL, "source": EVIL, "problems": [EVIL]}

    async def policy_history(self, who: Principal) -> dict[str, Any]:
        return {"history": [{"version": 1, "accepted_at": 1.0, "digest": EVIL}]}

    async def reload(self, who: Principal) -> dict[str, Any]:
        raise Refused(422, f"nothing was changed: {EVIL}")


class Bench:
    def __init__(self, admin: Admin, transport: httpx.AsyncBaseTransport | None) -> None:
        self.desk = Desk()
        self.now = 1000.0
        self.config = Config(admin=admin, identity=(ISSUER,))
        self.console = Console(self.desk, self.verify, lambda: self.config, lambda: self.now, transport)
        app = httpx.ASGITransport(Starlette(routes=self.console.routes))
        self.http = httpx.AsyncClient(transport=app, base_url=ORIGIN)
        self.verified: list[str] = []

    async def verify(self, token: str, peer: str) -> Identity:
        self.verified.append(token)
        if token not in PEOPLE and not token.startswith("eyJ"):
            raise AuthenticationFailed("signature", f"no: {EVIL}")
        return Identity(
            user=token[:10], subject=token, issuer="okta", groups=PEOPLE.get(token, ("dba",)), credential="sec_1",
            expires_at=5000.0,
        )

    async def post(self, path: str, origin: str | None = ORIGIN, **fields: str) -> httpx.Response:
        return await self.http.post(path, data=fields, headers={"Origin": origin} if origin is not None else {})

    async def sign_in(self, token: str = "t-adm") -> httpx.Response:
        return await self.post("/signin", credential=token, next="/approvals")


def run(
    scenario: Callable[[Bench], Awaitable[None]], admin: Admin | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> None:
    async def main() -> None:
        bench = Bench(admin or Admin(auditors=("auditors",), approvers=("dba",)), transport)
        async with bench.http:
            await scenario(bench)

    asyncio.run(main())


PAGES = ["/", "/sessions?user=%3Cscript%3E", "/sessions/07", "/approvals", "/approvals/apr_abcdefgh",
         "/audit?text=%3Cscript%3E%22", "/policy", "/me"]


@pytest.mark.parametrize("path", PAGES)
def test_everything_is_escaped(path: str) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in()
        page = await bench.http.get(path)
        assert page.status_code == 200, page.text
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        scripts = re.findall("<script[^>]*>", page.text)
        if scripts:
            nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
            assert len(nonce) > 20
            assert scripts == [f'<script src="/console.js" nonce="{nonce}" defer>']
            assert nonce not in (await bench.http.get(path)).text
        else:
            assert "script" not in policy
        assert "unsafe" not in policy
        assert "{{7*7}}" in page.text or "%7B%7B7%2A7%7D%7D" in page.text       # shown, neither run nor lost
        assert "&lt;script&gt;" in page.text
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Cache-Control"] == "no-store"

    run(scenario)


@pytest.mark.parametrize("path", ["/icon.svg", "/favicon.ico"])
def test_the_icon_where_browsers_look_for_it(path: str) -> None:
    async def scenario(bench: Bench) -> None:
        icon = await bench.http.get(path)
        assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/svg+xml")

    run(scenario)


def test_nothing_hides_in_a_statement() -> None:
    """What reads as a harmless statement may be another one: bidirectional and invisible characters get a name."""
    async def scenario(bench: Bench) -> None:
        await bench.sign_in("t-dba")
        bench.desk.approval_state = {"sql": "DELETE FROM a -- \u202eb\x1b[2K\nWHERE true", "parameters": ["x\u200by"]}
        page = (await bench.http.get("/approvals/apr_abcdefgh")).text
        assert '<span class="odd">U+202E</span>b<span class="odd">U+001B</span>[2K\nWHERE true' in page
        assert 'x<span class="odd">U+200B</span>y' in page
        assert not {"\u202e", "\u200b", "\x1b"} & set(page)
        assert "Characters that cannot be seen" in page
        bench.desk.approval_state = {"sql": "DELETE FROM größe\n\tWHERE id = 1"}
        assert "Characters that cannot be seen" not in (await bench.http.get("/approvals/apr_abcdefgh")).text

    run(scenario)


def test_an_approval_shows_all_of_the_statement() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in("t-dba")
        bench.desk.approval_state = {"sql": "SELECT 1;" + "\n" * 500 + "DROP TABLE t"}
        page = (await bench.http.get("/approvals/apr_abcdefgh")).text
        assert "DROP TABLE t" in page
        assert "501 lines" in page
        assert '<pre class="whole">' in page         # not in a box that scrolls

    run(scenario)


def test_masked_cells_are_seen_as_such() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in()
        bench.desk.events = [EVENTS[0] | {
            "masks": ["public.customers.ssn"],
            "results": [{"columns": [{"name": "city"}, {"name": "ssn"}], "rows": [["Oslo", "***"], ["Rome", None]],
                         "copy": "", "truncated": False}],
        }]
        page = (await bench.http.get("/audit")).text
        assert page.count('<td class="masked"') == 2
        assert '<th class="masked">ssn (masked)</th>' in page
        assert "<td>Oslo</td>" in page
        assert "built-in" not in page               # dict.copy is not what the client copied

    run(scenario)


def test_audit_shows_statements_unless_told_and_pages() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in()
        await bench.http.get("/audit?user=%20&text=drop")
        assert bench.desk.searches[-1] == {"limit": 100, "event": "statement", "text": "drop"}
        await bench.http.get("/audit?event=all&after=17")
        assert bench.desk.searches[-1] == {"limit": 100, "after": 17}
        bench.desk.events = [EVENTS[0] | {"id": 1000 - i} for i in range(100)]
        page = (await bench.http.get("/audit?event=all&user=a%26b")).text
        assert "/audit?event=all&amp;user=a%26b&amp;after=901" in page
        wrong = await bench.http.get("/audit?since=whenever")
        assert "what time is that" in wrong.text
        assert 'value="whenever"' in wrong.text      # to be corrected, not typed again

    run(scenario)


def test_empty_pages_say_what_to_do() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in()
        bench.desk.events = []
        assert "Nothing was found" in (await bench.http.get("/audit")).text
        assert (await bench.http.get("/approvals?state=nonsense")).status_code == 404

    run(scenario)


def test_errors_are_escaped_too() -> None:
    async def scenario(bench: Bench) -> None:
        refused = await bench.sign_in(EVIL)
        assert refused.status_code == 401
        assert "<script" not in refused.text
        await bench.sign_in()
        missing = await bench.http.get("/approvals/%3Cscript%3E")
        assert missing.status_code == 404
        assert "<script" not in missing.text
        reload = await bench.post("/policy/reload")
        assert reload.status_code == 422
        assert "<script" not in reload.text

    run(scenario)


@pytest.mark.parametrize(
    ("admin", "name", "secure"),
    [(Admin(), "hoopfast", False), (Admin(public_url="https://gw.example.com"), "__Host-hoopfast", True)],
)
def test_the_cookie_is_as_strict_as_it_can_be(admin: Admin, name: str, secure: bool) -> None:
    async def scenario(bench: Bench) -> None:
        answer = await bench.sign_in()
        assert (answer.status_code, answer.headers["Location"]) == (303, "/approvals")
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith(f"{name}=")
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert "Path=/" in cookie
        assert "Domain" not in cookie
        assert ("Secure" in cookie) is secure
        assert "t-adm" not in cookie

    run(scenario, admin)


@pytest.mark.parametrize("path", [*PAGES, "/approvals/apr_abcdefgh"])
def test_strangers_are_sent_to_sign_in_and_back(path: str) -> None:
    async def scenario(bench: Bench) -> None:
        answer = await bench.http.get(path)
        assert answer.status_code == 303
        target = parse_qs(urlsplit(answer.headers["Location"]).query)["next"][0]
        assert target.startswith(path.partition("?")[0])

    run(scenario)


def test_a_link_from_a_chat_gets_the_strict_cookie_on_its_second_request() -> None:
    async def scenario(bench: Bench) -> None:
        answer = await bench.http.get("/approvals/apr_abcdefgh", headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 200
        assert 'content="0; url=/approvals/apr_abcdefgh"' in answer.text

    run(scenario)


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example.com", "http://127.0.0.1:1", ""])
def test_other_sites_cannot_change_anything(origin: str | None) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in()
        paths = ("/approvals/apr_abcdefgh/decide", "/sessions/07/kill", "/policy/reload", "/signout", "/signin")
        for path in paths:
            answer = await bench.post(path, origin, decision="approve", credential="t-adm")
            assert answer.status_code == 403, path
        assert bench.desk.votes == []
        assert bench.desk.killed == []
        assert (await bench.http.get("/")).status_code == 200        # still signed in

    run(scenario)


def test_deciding() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in("t-dba")
        assert (await bench.post("/approvals/apr_abcdefgh/decide", decision="maybe")).status_code == 400
        answer = await bench.post("/approvals/apr_abcdefgh/decide", decision="reject", reason="no")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/approvals/apr_abcdefgh")
        assert bench.desk.votes == [("t-dba", "apr_abcdefgh", False, "no")]

    run(scenario)


def test_who_cannot_decide_sees_why_and_no_buttons() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in("t-dba")
        bench.desk.approval_state = {"can_decide": False, "why_not": "you asked for it yourself"}
        page = await bench.http.get("/approvals/apr_abcdefgh")
        assert "you asked for it yourself" in page.text
        assert 'value="approve"' not in page.text

    run(scenario)


def test_roles_decide_what_is_shown() -> None:
    async def scenario(bench: Bench) -> None:
        bench.config = Config(admin=bench.config.admin, self_service=SelfService(enabled=False))
        assert (await bench.sign_in("t-none")).status_code == 403
        assert "hoopfast" not in bench.http.cookies
        bench.config = Config(admin=bench.config.admin)
        await bench.sign_in("t-none")
        assert (await bench.http.get("/")).headers["Location"] == "/me"
        mine = await bench.http.get("/me")
        assert 'href="/approvals"' not in mine.text
        assert 'href="/me"' in mine.text
        await bench.sign_in("t-dba")
        assert "/audit" not in (await bench.http.get("/approvals")).text
        assert (await bench.http.get("/sessions")).status_code == 403
        await bench.sign_in("t-aud")
        assert 'action="/sessions/' not in (await bench.http.get("/sessions/07")).text
        # Roles are those of now, not of the moment of signing in.
        bench.config = Config(admin=Admin())
        assert (await bench.http.get("/sessions")).status_code == 403

    run(scenario)


def test_a_secret_is_shown_by_the_answer_that_made_it() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in("t-none")
        made = await bench.post("/me/secrets", label="mine", ttl="8h")
        assert "hf_SHOWN" in made.text
        assert made.headers["Cache-Control"] == "no-store"
        assert "<script>alert" not in made.text
        assert bench.desk.own.made == [("t-none", "mine", 8 * 3600.0)]
        assert "hf_SHOWN" not in (await bench.http.get("/me")).text
        assert (await bench.post("/me/secrets", label="mine", ttl="soon")).status_code == 400
        assert (await bench.post("/me/secrets", "https://evil.example", ttl="8h")).status_code == 403
        assert len(bench.desk.own.made) == 1

    run(scenario)


def test_the_code_goes_to_the_persons_own_machine_only() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in("t-none")
        asked = {"port": "50123", "state": f"s&{EVIL}", "challenge": "c" * 43, "name": EVIL, "ttl": "1h"}
        page = await bench.http.get("/terminal", params=asked)
        assert "<script>alert" not in page.text
        assert "form-action 'self' http://127.0.0.1:50123;" in page.headers["Content-Security-Policy"]
        sent = urlsplit((await bench.post("/terminal", **asked, decision="allow")).headers["Location"])
        assert (sent.scheme, sent.netloc) == ("http", "127.0.0.1:50123")
        assert parse_qs(sent.query) == {"code": ["c0de"], "state": [asked["state"]]}
        refused = urlsplit((await bench.post("/terminal", **asked, decision="")).headers["Location"])
        assert "code" not in parse_qs(refused.query)
        assert bench.desk.own.granted == [("c" * 43, EVIL[:100], 3600.0)]
        for port in ("80", "0", "65536", "50123/x", "50123@evil.example", "evil.example", "\u0665\u0660\u0661\u0662"):
            assert (await bench.post("/terminal", **(asked | {"port": port}), decision="allow")).status_code == 400

    run(scenario)


def test_letters_are_looked_at_before_anybody_is_let_in() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in("t-none")
        shown = await bench.post("/terminal/code", letters="bcdf ghjk")
        assert "BCDF-GHJK" in shown.text
        assert "<script>alert" not in shown.text
        assert bench.desk.own.decided == []
        await bench.post("/terminal/decide", letters="BCDFGHJK", decision="allow")
        await bench.post("/terminal/decide", letters="BCDFGHJK")
        assert bench.desk.own.decided == [("BCDFGHJK", True), ("BCDFGHJK", False)]

    run(scenario)


def test_sessions_end() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.sign_in()
        bench.console.forget("sec_1")
        assert (await bench.http.get("/")).status_code == 303
        await bench.sign_in()
        assert (await bench.post("/signout")).status_code == 303
        assert (await bench.http.get("/")).status_code == 303
        await bench.sign_in()
        bench.now = 5000.0          # the credential's own end
        assert (await bench.http.get("/")).status_code == 303

    run(scenario)


@pytest.mark.parametrize("target", [
    "//evil.example.com", "https://evil.example.com", "/\\evil.example.com", "\\\\evil", "/a\r\nSet-Cookie: x=1",
    "javascript:x", "", "/\t/evil.example.com", "evil",
])
def test_next_stays_at_home(target: str) -> None:
    assert safe_next(target) == "/"


def test_next_keeps_paths_of_ours() -> None:
    assert safe_next("/approvals/apr_abcdefgh?x=1") == "/approvals/apr_abcdefgh?x=1"


# ---------------------------------------------------------------- signing in with the provider

def jwt(**claims: Any) -> str:
    payload = base64.urlsafe_b64encode(orjson.dumps(claims)).rstrip(b"=").decode()
    return f"eyJhbGciOiJSUzI1NiJ9.{payload}.c2ln"


class Provider:
    """Discovery and token endpoint; `change` may spoil the token."""

    def __init__(self) -> None:
        self.forms: list[dict[str, list[str]]] = []
        self.nonce = ""
        self.discovered = ISSUER.issuer
        self.discoveries = 0
        self.token_endpoint: Any = "https://okta.example.com/token"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("openid-configuration"):
            self.discoveries += 1
            return httpx.Response(200, json={
                "issuer": self.discovered, "authorization_endpoint": "https://okta.example.com/authorize",
                "token_endpoint": self.token_endpoint,
            })
        self.forms.append(parse_qs(request.content.decode()))
        return httpx.Response(200, json={"id_token": jwt(sub="s", nonce=self.nonce)})


async def begun(bench: Bench, provider: Provider, target: str = "/approvals") -> dict[str, str]:
    answer = await bench.http.get(f"/signin/with/okta?next={target}")
    assert answer.status_code == 303, answer.text
    assert "samesite=lax" in answer.headers["Set-Cookie"].lower()
    url = urlsplit(answer.headers["Location"])
    assert url.netloc == "okta.example.com"
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    provider.nonce = query["nonce"]
    return query


def test_sign_in_with_the_provider() -> None:
    provider = Provider()

    async def scenario(bench: Bench) -> None:
        query = await begun(bench, provider)
        assert query["code_challenge_method"] == "S256"
        assert query["redirect_uri"] == f"{ORIGIN}/signin/callback"
        answer = await bench.http.get(f"/signin/callback?state={query['state']}&code=abc")
        assert answer.status_code == 200
        assert 'content="0; url=/approvals"' in answer.text
        verifier = provider.forms[0]["code_verifier"][0]
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        assert challenge == query["code_challenge"]
        assert bench.verified[0].startswith("eyJ")
        assert (await bench.http.get("/approvals")).status_code == 200
        again = await bench.http.get(f"/signin/callback?state={query['state']}&code=abc")
        assert again.status_code == 400, "a flow is good for one try"

    run(scenario, transport=httpx.MockTransport(provider))


def test_strangers_cannot_push_a_sign_in_out_or_make_us_bother_the_provider() -> None:
    provider = Provider()

    async def scenario(bench: Bench) -> None:
        query = await begun(bench, provider)
        mine = dict(bench.http.cookies)
        nonce = provider.nonce
        for _ in range(300):
            bench.http.cookies.clear()
            await bench.http.get("/signin/with/okta")
        bench.http.cookies.clear()
        bench.http.cookies.update(mine)
        provider.nonce = nonce
        answer = await bench.http.get(f"/signin/callback?state={query['state']}&code=abc")
        assert answer.status_code == 200
        assert provider.discoveries == 1

    run(scenario, transport=httpx.MockTransport(provider))


def test_an_unreachable_provider_is_asked_rarely_and_asked_again() -> None:
    provider = Provider()
    provider.discovered = "https://evil.example.com"

    async def scenario(bench: Bench) -> None:
        for _ in range(20):
            assert (await bench.http.get("/signin/with/okta")).status_code == 502
        assert provider.discoveries == 1
        provider.discovered = ISSUER.issuer
        bench.now += 6
        assert (await bench.http.get("/signin/with/okta")).status_code == 303

    run(scenario, transport=httpx.MockTransport(provider))


def test_a_sign_in_belongs_to_the_browser_that_began_it() -> None:
    provider = Provider()

    async def scenario(bench: Bench) -> None:
        attackers = await begun(bench, provider)
        bench.http.cookies.clear()
        await begun(bench, provider)                    # the victim has a sign-in of its own under way
        answer = await bench.http.get(f"/signin/callback?state={attackers['state']}&code=attackers")
        assert answer.status_code == 400
        assert provider.forms == []
        name = "hoopfast-flow"
        sealed = bench.http.cookies[name]
        bench.http.cookies.clear()
        for forged in (sealed[:-2] + "AA", "AAAA", "", "é", sealed[:8]):
            headers = {"Cookie": f"{name}={forged}".encode()}
            answer = await bench.http.get(f"/signin/callback?state={attackers['state']}&code=abc", headers=headers)
            assert answer.status_code == 400

    run(scenario, transport=httpx.MockTransport(provider))


@pytest.mark.parametrize("endpoint", ["http://okta.example.com/token", "file:///etc/passwd", "https://", 7, None])
def test_endpoints_are_https(endpoint: Any) -> None:
    provider = Provider()
    provider.token_endpoint = endpoint

    async def scenario(bench: Bench) -> None:
        assert (await bench.http.get("/signin/with/okta")).status_code == 502

    run(scenario, transport=httpx.MockTransport(provider))


def test_behind_https_no_other_host_can_plant_a_sign_in() -> None:
    provider = Provider()

    async def scenario(bench: Bench) -> None:
        answer = await bench.http.get("/signin/with/okta")
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-hoopfast-flow=")
        assert "Path=/;" in cookie
        assert "Secure" in cookie
        assert "HttpOnly" in cookie

    run(scenario, Admin(public_url="https://gw.example.com"), httpx.MockTransport(provider))


def test_the_provider_does_not_let_in_who_has_no_role() -> None:
    provider = Provider()

    async def scenario(bench: Bench) -> None:
        # The token's group gives no role now, and people cannot make secrets of their own.
        bench.config = Config(admin=Admin(), identity=(ISSUER,), self_service=SelfService(enabled=False))
        query = await begun(bench, provider)
        answer = await bench.http.get(f"/signin/callback?state={query['state']}&code=abc")
        assert answer.status_code == 403
        assert "has no role here" in answer.text
        assert "hoopfast" not in bench.http.cookies

    run(scenario, transport=httpx.MockTransport(provider))


@pytest.mark.parametrize("spoil", ["state", "cookie", "nonce", "issuer", "late", "error"])
def test_a_spoiled_sign_in_signs_nobody_in(spoil: str) -> None:
    provider = Provider()

    async def scenario(bench: Bench) -> None:
        query = await begun(bench, provider)
        callback = {"state": query["state"], "code": "abc"}
        if spoil == "state":
            callback["state"] = "other"
        elif spoil == "cookie":
            bench.http.cookies.clear()
        elif spoil == "nonce":
            provider.nonce = "another"
        elif spoil == "issuer":
            callback["iss"] = "https://evil.example.com"
        elif spoil == "late":
            bench.now += 601
        else:
            callback |= {"error": "access_denied", "error_description": EVIL}
        answer = await bench.http.get("/signin/callback", params=callback)
        assert answer.status_code in (400, 403)
        assert "<script" not in answer.text
        assert bench.verified == []
        assert (await bench.http.get("/")).status_code == 303

    run(scenario, transport=httpx.MockTransport(provider))


def test_a_provider_that_is_another_one_is_not_followed() -> None:
    provider = Provider()
    provider.discovered = "https://evil.example.com"

    async def scenario(bench: Bench) -> None:
        assert (await bench.http.get("/signin/with/okta")).status_code == 502
        assert (await bench.http.get("/signin/with/unknown")).status_code == 404

    run(scenario, transport=httpx.MockTransport(provider))


def test_the_style_sheet_is_there() -> None:
    async def scenario(bench: Bench) -> None:
        answer = await bench.http.get("/style.css")
        assert answer.headers["content-type"].startswith("text/css")
        assert "prefers-color-scheme: dark" in answer.text

    run(scenario)
