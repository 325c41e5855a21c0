"""The admin API: who may do what at which door, what a refusal looks like, what revoking does. With fakes behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from hoopfast import model
from hoopfast.config import Admin, Config
from hoopfast.control.approvals import Approvals
from hoopfast.control.principal import local_principal, principal_of
from hoopfast.errors import AuthenticationFailed, ClientFault, ConfigError, Problem
from hoopfast.model import Decision, Identity
from hoopfast.store.rows import PolicyRow, SecretRow
from hoopfast.supervisor.api import Api
from hoopfast.supervisor.operations import Operations
from hoopfast.supervisor.sessions import Sessions
from hoopfast.supervisor.trail import Trail
from tests.control.test_approvals import FakeStore, wanted

PEOPLE = {
    "adm": ("hoopfast-admin",), "aud": ("auditors",), "dba": ("dba",), "nobody": ("engineering",),
    "ana": ("dba", "hoopfast-admin"),
}


class Store(FakeStore):
    def __init__(self) -> None:
        super().__init__()
        self.secrets: dict[str, SecretRow] = {}
        self.digests: list[bytes] = []

    def add_secret(
        self, id: str, digest: bytes, user: str, groups: tuple[str, ...], label: str, created_by: str,
        created_at: float, expires_at: float,
    ) -> None:
        self.digests.append(digest)
        self.secrets[id] = SecretRow(
            id=id, user=user, groups=groups, label=label, created_by=created_by, created_at=created_at,
            expires_at=expires_at,
        )

    def list_secrets(self) -> list[SecretRow]:
        return list(self.secrets.values())

    def revoke_secret(self, id: str, by: str, at: float) -> bool:
        return id in self.secrets

    def policy_history(self) -> list[PolicyRow]:
        return [PolicyRow(version=1, accepted_at=1.0, digest="d", source="access: []")]


class FakeWorker:
    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.index, self.pid, self.ready, self.load, self.started_at = 0, 4711, True, 1, 0.0

    def send(self, message: Any, fd: int | None = None) -> None:
        self.sent.append(message)


class FakeReloader:
    problems: list[str] = []
    failures = 0

    def __init__(self) -> None:
        config = Config(admin=Admin(auditors=("auditors",), approvers=("dba",)))
        self.current = SimpleNamespace(version=3, digest="d", at=1.0, text="access: []", config=config)
        self.broken = False

    async def reload(self, trail: Trail, by: str) -> Any:
        if self.broken:
            raise ConfigError([Problem("policy.yaml", "$.masks[0]", "is wrong"), Problem("policy.yaml", "$.x", "too")])
        return self.current


class FakeAudit:
    def sessions(self, filters: Any = None, limit: int = 100) -> list[dict[str, Any]]:
        return [
            {"session": f"{7:016x}", "user": "ana", "connection": "orders", "statements": 4},
            {"session": f"{9:016x}", "user": "bob", "connection": "orders", "statements": 1},
        ]

    def session(self, id: str) -> dict[str, Any] | None:
        return {"session": id, "user": "ana", "events": [{"event": "note"}]} if id == f"{7:016x}" else None

    def search(self, **filters: Any) -> list[dict[str, Any]]:
        return [{"event": "statement", "filters": sorted(filters)}]

    def who_saw(self, column: str, **filters: Any) -> list[dict[str, Any]]:
        return [{"session": f"{7:016x}", "column": column}]

    def export(self, **filters: Any) -> Any:
        return iter([b'{"id":%d}' % n for n in range(1200)])

    def tail(self, after_rowid: int, limit: int = 1000) -> list[dict[str, Any]]:
        return [{"id": after_rowid + 1}]

    def last_id(self) -> int:
        return 0


class Bench:
    """An Api with everything behind it in view."""

    def __init__(self) -> None:
        self.store, self.worker, self.reloader = Store(), FakeWorker(), FakeReloader()
        self.events: list[Any] = []
        self.decisions: list[tuple[int, Decision]] = []
        self.trail = Trail(self.events.append)
        self.sessions = Sessions()
        self.forgotten: list[str] = []
        self.problems: list[str] = []
        self.approvals = Approvals(
            self.store, decide=lambda s, d: self.decisions.append((s, d)), announce=lambda event, row: None,
            record=lambda event, row, actor, detail: self.trail.record(event, user=actor), clock=lambda: 1000.0,
            url=lambda approval: approval,
        )
        pool = SimpleNamespace(
            workers={0: self.worker}, restarts=0, size=1, retired=[0] * 512, broadcast=self.worker.send,
        )
        operations = Operations(
            store=self.store, approvals=self.approvals, sessions=self.sessions, pool=pool,  # type: ignore[arg-type]
            reloader=self.reloader, trail=self.trail, audit=FakeAudit(),  # type: ignore[arg-type]
            status=lambda: {"version": "x"}, clock=lambda: 1000.0,
        )
        self.operations = operations
        operations.on_revoked.append(self.forgotten.append)
        self.api = Api(operations, verify=self.verify, registry=CollectorRegistry(), ready=self.ready)

    async def verify(self, token: str, peer: str) -> Identity:
        assert peer.startswith("127.0.0.1:")
        if token == "unreachable":
            raise ClientFault("57P03", "the identity provider cannot be reached")
        if token not in PEOPLE:
            raise AuthenticationFailed("signature")
        return Identity(user=token, subject=token, issuer="okta", groups=PEOPLE[token])

    async def ready(self) -> list[str]:
        return self.problems

    def http(self, token: str = "", *, local: bool = False) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.api.app(local=local), raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)

    def open_session(self, number: int = 7, credential: str = "") -> None:
        identity = Identity(user="ana", subject="s-ana", issuer="okta", credential=credential)
        self.sessions.opened(0, model.SessionOpened(
            session=number, identity=identity, connection="orders", database="o", role="r", peer="p", application="a",
            tls=True, started_at=1.5,
        ))

    async def request(self, token: str, method: str, path: str, **options: Any) -> httpx.Response:
        async with self.http(token, local=token == "local") as http:
            return await http.request(method, f"/api/v1{path}", **options)


def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(Bench())

    asyncio.run(main())


READS = ["adm", "aud", "local"]
MATRIX = [
    ("GET", "/status", {}, [*READS, "dba"]),
    ("GET", "/workers", {}, READS),
    ("GET", "/sessions", {}, READS),
    ("GET", "/sessions/0000000000000007", {}, READS),
    ("DELETE", "/sessions/0000000000000007", {}, ["adm", "local"]),
    ("POST", "/sessions/0000000000000007/kill", {"reason": "x"}, ["adm", "local"]),
    ("GET", "/audit/search", {}, READS),
    ("GET", "/audit/export", {}, READS),
    ("GET", "/audit/who-saw?column=t.c", {}, READS),
    ("GET", "/approvals", {}, [*READS, "dba"]),
    ("GET", "/secrets", {}, ["adm", "local"]),
    ("POST", "/secrets", {"user": "bot", "ttl_s": 60}, ["adm", "local"]),
    ("DELETE", "/secrets/sec_1", {}, ["adm", "local"]),
    ("GET", "/policy", {}, READS),
    ("GET", "/policy/history", {}, READS),
    ("POST", "/policy/reload", {}, ["adm", "local"]),
]


@pytest.mark.parametrize(("method", "path", "body", "allowed"), MATRIX)
def test_who_may_do_what(method: str, path: str, body: dict[str, Any], allowed: list[str]) -> None:
    async def scenario(bench: Bench) -> None:
        bench.open_session()
        bench.store.add_secret("sec_1", b"d", "bot", (), "", "adm", 0.0, 2000.0)
        for token in ("adm", "aud", "dba", "nobody", "local"):
            answer = await bench.request(token, method, path, json=body or None)
            if token in allowed:
                assert answer.is_success, (token, answer.text)
            else:
                assert answer.status_code == 403, (token, answer.text)
                assert "may not do this" in answer.json()["error"]
        for token in ("", "forged"):
            answer = await bench.request(token, method, path, json=body or None)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"

    run(scenario)


def test_every_route_is_in_the_matrix() -> None:
    async def scenario(bench: Bench) -> None:
        tested = {(method, path.split("/")[1], len(path.split("/"))) for method, path, _, _ in MATRIX}
        elsewhere = {
            ("GET", "audit", 3), ("GET", "approvals", 3), ("POST", "approvals", 4), ("POST", "secrets", 4),
            # Without a role, or before one has proved anything: test_own.py, gateway/test_signin.py
            ("GET", "me", 2), ("POST", "me", 3), ("POST", "me", 5), ("POST", "login", 3),
        }
        for route in bench.api._routes():
            methods = route.methods - {"HEAD"}  # type: ignore[attr-defined]
            path = route.path.removeprefix("/api/v1")  # type: ignore[attr-defined]
            key = (methods.pop(), path.split("/")[1], len(path.split("/")))
            assert key in tested | elsewhere, f"add {key} to the matrix"

    run(scenario)


def test_open_doors_name_nobody() -> None:
    async def scenario(bench: Bench) -> None:
        async with bench.http() as http:
            assert (await http.get("/healthz")).text == "ok\n"
            assert (await http.get("/metrics")).status_code == 200
            assert (await http.get("/readyz")).status_code == 200
            bench.problems = ["workers: none is ready"]
            not_ready = await http.get("/readyz")
            assert (not_ready.status_code, not_ready.text) == (503, "workers: none is ready\n")

    run(scenario)


def test_an_unreachable_provider_is_not_the_callers_fault() -> None:
    async def scenario(bench: Bench) -> None:
        assert (await bench.request("unreachable", "GET", "/status")).status_code == 503

    run(scenario)


def test_a_secret_is_shown_once_and_stored_as_a_digest() -> None:
    async def scenario(bench: Bench) -> None:
        made = await bench.request("adm", "POST", "/secrets", json={"user": "bot", "groups": ["etl"], "ttl_s": 60})
        assert made.status_code == 201
        assert made.headers["Cache-Control"] == "no-store"
        secret = made.json()["secret"]
        assert secret.startswith("hf_")
        listed = await bench.request("adm", "GET", "/secrets")
        assert secret not in listed.text
        assert listed.json()["secrets"][0]["expires_at"] == 1060.0
        assert all(secret.encode() not in digest for digest in bench.store.digests)
        assert all(secret not in repr(event) for event in bench.events)

    run(scenario)


@pytest.mark.parametrize("body", [
    {}, {"user": "", "ttl_s": 60}, {"user": "x"}, {"user": "x", "ttl_s": 0}, {"user": "x", "ttl_s": 1e12},
    {"user": "x", "ttl_s": True}, {"user": "x", "ttl_s": "60"}, {"user": "x", "ttl_s": 60, "groups": "dba"},
    {"user": "x", "ttl_s": 60, "groups": [1]}, {"user": "Local-Admin", "ttl_s": 60}, {"user": "a\nb", "ttl_s": 60},
    {"user": 7, "ttl_s": 60}, {"user": "x", "ttl_s": 60, "label": "y" * 300},
])
def test_bad_secrets_are_refused(body: dict[str, Any]) -> None:
    async def scenario(bench: Bench) -> None:
        answer = await bench.request("adm", "POST", "/secrets", json=body)
        assert answer.status_code == 400
        assert not bench.store.secrets

    run(scenario)


def test_revoking_reaches_every_worker_and_logins_under_way() -> None:
    async def scenario(bench: Bench) -> None:
        bench.store.add_secret("sec_1", b"d", "bot", (), "", "adm", 0.0, 2000.0)
        bench.open_session(7, "sec_1")
        bench.open_session(8, "sec_2")
        answer = await bench.request("adm", "DELETE", "/secrets/sec_1")
        assert answer.json()["sessions"] == 1
        assert [m.credential for m in bench.worker.sent if isinstance(m, model.KillSessions)] == ["sec_1"]
        assert bench.sessions.is_revoked("sec_1")
        assert bench.forgotten == ["sec_1"]
        assert (await bench.request("adm", "DELETE", "/secrets/sec_none")).status_code == 404

    run(scenario)


def test_killing_a_session_tells_its_worker_and_the_trail() -> None:
    async def scenario(bench: Bench) -> None:
        bench.open_session(0xABC)
        assert (await bench.request("adm", "DELETE", "/sessions/abc")).json() == {"killed": "0000000000000abc"}
        assert bench.worker.sent == [model.KillSessions(sessions=(0xABC,), reason="ended by an administrator")]
        assert bench.events[-1].action == "kill"
        for name in ("abd", "xyz", "1" * 17, "-1"):
            assert (await bench.request("adm", "DELETE", f"/sessions/{name}")).status_code == 404, name

    run(scenario)


def test_open_sessions_come_first_with_their_counts() -> None:
    async def scenario(bench: Bench) -> None:
        bench.open_session(7)
        rows = (await bench.request("aud", "GET", "/sessions")).json()["sessions"]
        assert [(row["session"], row["live"], row["statements"]) for row in rows] == [
            (f"{7:016x}", True, 4), (f"{9:016x}", False, 1)
        ]
        assert rows[0]["started_at"] == "1970-01-01T00:00:01.500000000Z"
        live = (await bench.request("aud", "GET", "/sessions?live=1")).json()["sessions"]
        assert [row["session"] for row in live] == [f"{7:016x}"]
        assert bench.events[-1].fields["operation"] == "sessions"

    run(scenario)


def test_votes_follow_the_rules_of_approvals() -> None:
    async def scenario(bench: Bench) -> None:
        opened = await bench.approvals.open(wanted(identity=Identity(user="ana", subject="ana", issuer="okta")))
        path = f"/approvals/{opened.approval}"
        shown = (await bench.request("dba", "GET", path)).json()["approval"]
        assert shown["can_decide"] is True
        assert shown["session"] == f"{7:016x}"
        for token, status in (("adm", 403), ("aud", 403), ("nobody", 403), ("ana", 403), ("", 401)):
            assert (await bench.request(token, "POST", f"{path}/approve", json={})).status_code == status, token
        assert bench.decisions == []
        approved = await bench.request("dba", "POST", f"{path}/approve", json={"reason": "ok"})
        assert approved.json()["approval"]["state"] == "approved"
        assert bench.decisions[0][1].reason == "ok"
        assert (await bench.request("local", "POST", f"{path}/reject", json={})).status_code == 409
        assert (await bench.request("dba", "GET", "/approvals?state=odd")).status_code == 400
        assert (await bench.request("dba", "GET", "/approvals/apr_none")).status_code == 404

    run(scenario)


def test_a_broken_reload_says_every_problem() -> None:
    async def scenario(bench: Bench) -> None:
        bench.reloader.broken = True
        answer = await bench.request("adm", "POST", "/policy/reload")
        assert answer.status_code == 422
        assert "$.masks[0]" in answer.json()["error"]
        assert "$.x" in answer.json()["error"]

    run(scenario)


def test_an_export_is_whole_json_lines() -> None:
    async def scenario(bench: Bench) -> None:
        answer = await bench.request("aud", "GET", "/audit/export")
        assert len(answer.text.splitlines()) == 1200
        assert answer.headers["content-type"] == "application/x-ndjson"

    run(scenario)


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 400), (b'{"reason": 1}', 400), (b"x" * 70_000, 413)])
def test_bad_bodies(body: bytes, status: int) -> None:
    async def scenario(bench: Bench) -> None:
        bench.open_session(7)
        answer = await bench.request("adm", "POST", "/sessions/7/kill", content=body)
        assert answer.status_code == status
        assert bench.worker.sent == []

    run(scenario)


@pytest.mark.parametrize("path", ["/audit/search?limit=x", "/audit/search?limit=-1", "/audit/tail?after=1.5"])
def test_bad_numbers(path: str) -> None:
    async def scenario(bench: Bench) -> None:
        assert (await bench.request("aud", "GET", path)).status_code == 400

    run(scenario)


def test_an_unknown_filter_is_refused_and_known_ones_count() -> None:
    """A filter that did nothing would make an export of everything."""
    async def scenario(bench: Bench) -> None:
        for path in ("/audit/export?sesion=7", "/audit/search?users=ana", "/sessions?who=ana"):
            answer = await bench.request("aud", "GET", path)
            assert answer.status_code == 400, path
        found = (await bench.request("aud", "GET", "/audit/search?session=7&rule=x")).json()["events"]
        assert found[0]["filters"] == ["limit", "rule", "session"]

    run(scenario)


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/status", "/api/v1/nothing", "/nothing", "/readyz"])
def test_answers_are_nobodys_to_embed_or_keep(path: str) -> None:
    async def scenario(bench: Bench) -> None:
        async with bench.http() as http:
            headers = (await http.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]

    run(scenario)


@pytest.mark.parametrize("end", ["revoked", "role"])
def test_a_tail_does_not_outlive_what_it_began_with(end: str) -> None:
    async def scenario(bench: Bench) -> None:
        bench.store.add_secret("sec_1", b"", "aud", ("auditors",), "", "adm", 0.0, 2000.0)
        who = principal_of(
            Identity(user="aud", subject="aud", issuer="gateway", groups=("auditors",), credential="sec_1"),
            bench.reloader.current.config.admin,
        )
        events = bench.operations.tail(who)
        assert [(await anext(events))["id"] for _ in range(3)] == [1, 2, 3]
        if end == "revoked":
            await bench.operations.revoke_secret(local_principal(), "sec_1")
        else:
            bench.reloader.current.config = Config(admin=Admin())
        assert [event async for event in events] == []

    run(scenario)


def test_forwarding_headers_are_not_believed_and_faults_say_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        async with bench.http("adm") as http:
            answer = await http.get("/api/v1/status", headers={"X-Forwarded-For": "203.0.113.9"})
            assert answer.is_success          # verify() has checked the peer
            bench.store.list_secrets = None  # type: ignore[method-assign, assignment]
            broken = await http.get("/api/v1/secrets")
            assert broken.status_code == 500
            assert "NoneType" not in broken.text
            assert (await http.get("/nothing")).status_code in (404, 401)

    run(scenario)
