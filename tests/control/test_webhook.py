"""Webhooks: what is signed is what is sent, retries end, secrets stay inside."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Callable

import httpx
import orjson
import pytest

from hoopfast.config import Webhook
from hoopfast.control.webhook import TRIES, Announcer, body_of, sign
from hoopfast.errors import GatewayError
from hoopfast.store.rows import ApprovalRow

ROW = ApprovalRow(
    id="apr_abcdefgh", session=7, requester="ana", requester_subject="s", requester_issuer="okta", connection="orders",
    peer="p", application="psql", rule="destructive", sql="DROP TABLE t -- " + "x" * 9000, parameters=("4111-1111",),
    approver_groups=("dba",), needed=1, created_at=1.0, expires_at=2.0, role="svc", catalog_epoch=1,
)
HOOK = Webhook(url="https://hooks.example.com/T000/topsecretpath", secret="env:HOOK")


def announce(
    handler: Callable[[httpx.Request], httpx.Response], secret: Callable[[str], str] = lambda _: "s3cret"
) -> Announcer:
    async def scenario() -> Announcer:
        announcer = Announcer(
            [HOOK], resolve_secret=secret, url=lambda approval: f"https://gw/approvals/{approval}", clock=lambda: 5.0,
            transport=httpx.MockTransport(handler), first_delay_s=0.0,
        )
        announcer.announce("approval.requested", ROW)
        for _ in range(200):
            if not announcer._tasks:
                break
            await asyncio.sleep(0.005)
        await announcer.close()
        return announcer

    return asyncio.run(scenario())


def test_the_signature_is_the_hmac_of_the_body_as_sent() -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(204)

    announce(handler)
    assert len(requests) == 1
    body = requests[0].content
    expected = "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert requests[0].headers["X-Hoopfast-Signature"] == expected == sign(body, "s3cret")
    message = orjson.loads(body)
    assert message["event"] == "approval.requested"
    assert message["url"] == "https://gw/approvals/apr_abcdefgh"
    assert message["sent_at"] == 5.0
    assert message["approval"]["sql"].startswith("DROP TABLE t")
    assert len(message["approval"]["sql"]) == 4000
    assert message["approval"]["sql_cut"] is True


def test_parameters_do_not_leave() -> None:
    body = body_of("e", ROW, "u", "d", 0.0)
    assert b"4111" not in body
    assert orjson.loads(body)["approval"]["parameters"] == 1


@pytest.mark.parametrize(("answer", "tries"), [(503, TRIES), (429, TRIES), (404, 1), (302, 1)])
def test_retries_end(answer: int, tries: int) -> None:
    seen: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(1)
        return httpx.Response(answer, headers={"Location": "https://elsewhere.example.com"})

    assert announce(handler).failures == 1
    assert len(seen) == tries


def test_a_receiver_that_comes_back_gets_the_same_delivery() -> None:
    bodies: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        if len(bodies) == 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    assert announce(handler).failures == 0
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]


def test_an_endless_answer_is_left_where_it_is() -> None:
    taken = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal taken
            while True:
                taken += 1
                assert taken < 100
                yield b"x" * 65536

    assert announce(lambda _: httpx.Response(200, stream=Endless())).failures == 0
    assert taken < 2


def test_without_a_secret_nothing_leaves() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError("sent unsigned")

    def unresolvable(reference: str) -> str:
        raise GatewayError("env:HOOK is not set")

    assert announce(handler, lambda _: "").failures == 1
    assert announce(handler, unresolvable).failures == 1


def test_logs_name_the_host_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="hoopfast"):
        announce(lambda request: httpx.Response(500))
    text = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("hoopfast"))
    assert "hooks.example.com" in text
    assert "topsecretpath" not in text
    assert "s3cret" not in text
