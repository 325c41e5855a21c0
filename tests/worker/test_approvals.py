"""Statements that wait: what the supervisor and the client hear, and how every wait ends."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hoopfast import model
from hoopfast.model import (
    ACTION_ALLOW,
    ACTION_DENY,
    ApprovalOpened,
    ApprovalUsed,
    ApprovalWanted,
    ApprovalWithdrawn,
    Decision,
    Ruling,
)
from hoopfast.worker.approvals import duration
from tests.support.waiting import until
from tests.worker.desk import ANN, HERE, Bench, Policy, catalog

SQL = "DELETE FROM orders WHERE id = 1"


def held(how: Callable[[Bench], Awaitable[None]], sql: str = SQL, *, opened: bool = True, **more: Any) -> Bench:
    """Send a statement that needs approval, answer with ApprovalOpened (unless not `opened`), then do `how`."""
    async def run() -> Bench:
        bench = Bench()
        task = asyncio.create_task(bench.ask(sql, **more))
        await until(lambda: bench.sent)
        if opened:
            bench.approvals.on_message(ApprovalOpened(
                request=bench.sent[0].request, approval="apr_1", url="https://gw/approvals/apr_1", expires_at=1.0))
            await until(lambda: bench.relay.notices)
        await how(bench)
        await asyncio.wait_for(task, 5)
        return bench

    return asyncio.run(run())


def decided(outcome: str, reason: str = "") -> Callable[[Bench], Awaitable[None]]:
    async def do(bench: Bench) -> None:
        bench.approvals.on_message(Decision(approval="apr_1", outcome=outcome, reviewer="bob", reason=reason))
    return do


def test_approved_statement_runs_once() -> None:
    bench = held(decided("approved"))
    wanted = bench.sent[0]
    assert isinstance(wanted, ApprovalWanted)
    assert (wanted.sql, wanted.rule, wanted.catalog_epoch) == (SQL, "deletes", 1)
    assert (wanted.role, wanted.peer, wanted.application) == ("app", "192.0.2.1:5", "psql")
    answer = bench.relay.decisions[-1]
    assert answer["action"] == ACTION_ALLOW and not answer["cache"]
    assert (answer["label"]["approval"], answer["label"]["reviewer"]) == ("apr_1", "bob")
    assert bench.sent[1:] == [ApprovalUsed(approval="apr_1")]


def test_the_client_is_told_why_and_how() -> None:
    bench = held(decided("approved"))
    (notice,) = bench.relay.notices
    text = " ".join(notice.values())
    for part in ("deletes", "rows are gone", "dba", "15m", "https://gw/approvals/apr_1", "approvals approve apr_1"):
        assert part in text
    assert [note["kind"] for note in bench.relay.notes] == ["approval_opened", "approval_decided"]


def test_rejected() -> None:
    bench = held(decided("rejected", "not on a Friday"))
    error = bench.relay.decisions[-1]["error"]
    assert error["C"] == "42501" and "bob" in error["M"] and "not on a Friday" in error["M"]
    assert not bench.relay.decisions[-1]["cache"]
    assert len(bench.sent) == 1


def test_expired() -> None:
    error = held(decided("expired")).relay.decisions[-1]["error"]
    assert error["C"] == "42501" and "within 15m" in error["M"]


def test_cancelled_by_the_client() -> None:
    async def cancel(bench: Bench) -> None:
        assert bench.desk.cancel(bench.session)
    bench = held(cancel)
    assert bench.relay.decisions[-1]["error"]["C"] == "57014"
    assert bench.sent[1:] == [ApprovalWithdrawn(approval="apr_1", reason="cancelled")]
    assert not bench.desk.cancel(bench.session)


def test_cancelled_before_the_supervisor_answered() -> None:
    async def cancel(bench: Bench) -> None:
        assert bench.desk.cancel(bench.session)
        await until(lambda: bench.relay.decisions)
        bench.approvals.on_message(ApprovalOpened(request=bench.sent[0].request, approval="apr_9"))
    bench = held(cancel, opened=False)
    assert bench.relay.decisions[-1]["error"]["C"] == "57014"
    assert bench.sent[1:] == [ApprovalWithdrawn(approval="apr_9", reason="cancelled")]


def test_request_that_cannot_be_stored() -> None:
    async def fail(bench: Bench) -> None:
        bench.approvals.on_message(ApprovalOpened(request=bench.sent[0].request, approval="", error="the disk is full"))
    bench = held(fail, opened=False)
    assert "the disk is full" in bench.relay.decisions[-1]["error"]["M"]
    assert len(bench.sent) == 1


@pytest.mark.parametrize("opened", [True, False])
def test_client_that_went_away(opened: bool) -> None:
    async def run() -> Bench:
        bench = Bench()
        task = asyncio.create_task(bench.desk.verdict(bench.session, 3, "Q", SQL.encode(), b"", b"", b"I"))
        await until(lambda: bench.sent)
        answer = ApprovalOpened(request=bench.sent[0].request, approval="apr_1")
        if opened:
            bench.approvals.on_message(answer)
            await until(lambda: bench.relay.notices)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if not opened:
            bench.approvals.on_message(answer)
        return bench

    bench = asyncio.run(run())
    assert [m.approval for m in bench.sent[1:] if isinstance(m, ApprovalWithdrawn)] == ["apr_1"]
    assert not bench.relay.decisions


def test_bind_shows_its_parameters() -> None:
    bind = (b"\0stmt\0" + struct.pack("!HHHH", 3, 0, 1, 1) + struct.pack("!H", 3)
            + struct.pack("!i", 4) + b"note" + struct.pack("!ii", 4, 42) + struct.pack("!i", -1) + b"\0\0")
    bench = held(decided("approved"), "DELETE FROM orders WHERE a = $1 AND id = $2 AND b = $3", kind="B", bind=bind,
                 types=struct.pack("!III", 25, 23, 25))
    assert bench.sent[0].parameters == ("note", "42", None)
    assert bench.relay.decisions[-1]["action"] == ACTION_ALLOW


def test_broken_bind_is_refused() -> None:
    async def run() -> dict[str, Any]:
        return await Bench().ask("DELETE FROM orders WHERE id = $1", "B", bind=b"\0")
    answer = asyncio.run(run())
    assert answer["action"] == ACTION_DENY and not answer["cache"]


def test_policy_that_turned_strict_while_it_waited() -> None:
    async def change(bench: Bench) -> None:
        strict: Any = Policy(2, rules={"delete": Ruling(action="deny", rule="frozen", reason="audit")})
        bench.session.context = bench.contexts.obtain(ANN, "shop", strict, catalog(), HERE)
        bench.approvals.on_message(Decision(approval="apr_1", outcome="approved", reviewer="bob"))
    bench = held(change)
    assert bench.relay.decisions[-1]["action"] == ACTION_DENY
    assert bench.relay.decisions[-1]["label"]["rule"] == "frozen"
    assert isinstance(bench.sent[-1], ApprovalWithdrawn)


def test_decision_for_nobody_is_ignored() -> None:
    bench = Bench()
    bench.approvals.on_message(Decision(approval="apr_other", outcome="approved"))
    bench.approvals.on_message(model.ApprovalOpened(request=99, approval="apr_x"))
    assert bench.sent == []


@pytest.mark.parametrize(("seconds", "text"), [(900.0, "15m"), (90.0, "90s"), (7200.0, "2h"), (5400.0, "90m")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
