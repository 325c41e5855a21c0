"""Who may decide on a held statement, and what each party is told; with a store that keeps the real one's promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from hoopfast.control.approvals import Approvals
from hoopfast.control.principal import Principal, Refused, local_principal
from hoopfast.errors import GatewayError
from hoopfast.model import ApprovalOpened, ApprovalUsed, ApprovalWanted, ApprovalWithdrawn, Decision, Identity
from hoopfast.store.rows import APPROVED, EXPIRED, REJECTED, USED, WAITING, WITHDRAWN, ApprovalRow

ANA = Identity(user="ana@example.com", subject="s-ana", issuer="okta", groups=("engineering", "dba"))


class FakeStore:
    def __init__(self) -> None:
        self.rows: dict[str, ApprovalRow] = {}
        self.broken = False

    def open_approval(self, row: ApprovalRow) -> None:
        if self.broken:
            raise OSError("disk full")
        self.rows[row.id] = row

    def approval(self, id: str) -> ApprovalRow | None:
        return self.rows.get(id)

    def list_approvals(self, state: str | None) -> list[ApprovalRow]:
        return [row for row in self.rows.values() if state in (None, row.state)]

    def vote(self, id: str, reviewer: str, subject: str, approve: bool, reason: str, at: float) -> ApprovalRow:
        row = self.rows[id]
        if row.state != WAITING or any(v["reviewer"] == reviewer for v in row.votes):
            raise GatewayError("this vote does not count")
        votes = (*row.votes, {"reviewer": reviewer, "subject": subject, "approve": approve, "reason": reason, "at": at})
        state = WAITING if approve else REJECTED
        if sum(v["approve"] for v in votes) >= row.needed:
            state = APPROVED
        self.rows[id] = msgspec.structs.replace(row, votes=votes, state=state)
        return self.rows[id]

    def close_approval(self, id: str, state: str, at: float) -> bool:
        row = self.rows.get(id)
        allowed = {USED: (APPROVED,)}.get(state, (WAITING, APPROVED))
        if row is None or row.state not in allowed:
            return False
        self.rows[id] = msgspec.structs.replace(row, state=state)
        return True

    def expire_approvals(self, now: float) -> list[ApprovalRow]:
        due = [row for row in self.rows.values() if row.state == WAITING and row.expires_at <= now]
        for row in due:
            self.close_approval(row.id, EXPIRED, now)
        return due


class Desk:
    """An Approvals with everything it says written down."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.now = 1000.0
        self.decisions: list[tuple[int, Decision]] = []
        self.announced: list[str] = []
        self.recorded: list[tuple[str, str]] = []
        self.told: list[ApprovalRow] = []
        self.approvals = Approvals(
            self.store,
            decide=lambda session, decision: self.decisions.append((session, decision)),
            announce=self._announce,
            record=self._record,
            clock=lambda: self.now,
            url=lambda approval: f"https://gw/approvals/{approval}",
        )

    def _announce(self, event: str, row: ApprovalRow) -> None:
        self.announced.append(event)
        self.told.append(row)

    def _record(self, event: str, row: ApprovalRow, actor: str, detail: dict[str, Any]) -> None:
        self.recorded.append((event, actor))
        self.told.append(row)

    async def opened(self, **changes: Any) -> ApprovalOpened:
        return await self.approvals.open(wanted(**changes))


def wanted(**changes: Any) -> ApprovalWanted:
    values: dict[str, Any] = {
        "request": 1, "session": 7, "identity": ANA, "connection": "orders", "peer": "192.0.2.7:5",
        "application": "psql",
        "rule": "destructive", "sql": "DROP TABLE t", "parameters": ("x", None), "approver_groups": ("dba",),
        "approvals_needed": 1, "expires_s": 900.0, "role": "svc", "catalog_epoch": 3,
    }
    return ApprovalWanted(**{**values, **changes})


def person(user: str, *groups: str, subject: str = "", issuer: str = "okta") -> Principal:
    identity = Identity(user=user, subject=subject or f"s-{user}", issuer=issuer, groups=groups)
    return Principal(identity=identity, roles=frozenset(("approver",)))


def run(scenario: Callable[[Desk], Awaitable[None]]) -> None:
    asyncio.run(scenario(Desk()))  # type: ignore[arg-type]


def test_a_gateway_secret_decides_nothing_but_the_own_user_may() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened()
        minted = Identity(
            user="max@example.com", subject="sec_1", issuer="gateway", groups=("dba",), method="secret"
        )
        for approve in (True, False):
            with pytest.raises(Refused, match="approve with your own sign-in") as caught:
                await desk.approvals.vote(
                    opened.approval, Principal(identity=minted, roles=frozenset(("approver",))), approve, ""
                )
            assert caught.value.status == 403
        assert desk.recorded[-1] == ("approval_vote_refused", "max@example.com") and not desk.decisions
        assert (await desk.approvals.vote(opened.approval, local_principal(), True, "")).state == APPROVED

    run(scenario)


def test_opening_stores_announces_and_answers() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened(request=42)
        assert opened.request == 42
        assert opened.approval.startswith("apr_")
        assert len(opened.approval) == 12
        assert opened.url == f"https://gw/approvals/{opened.approval}"
        assert opened.expires_at == 1900.0
        row = desk.store.rows[opened.approval]
        assert (row.sql, row.parameters, row.catalog_epoch, row.state) == ("DROP TABLE t", ("x", None), 3, WAITING)
        assert desk.announced == ["approval.requested"]
        assert desk.recorded == [("approval_requested", ANA.user)]
        assert desk.approvals.waiting == 1

    run(scenario)


def test_what_may_not_be_kept_is_shown_while_it_waits_and_nowhere_else() -> None:
    async def scenario(desk: Desk) -> None:
        kept = ("SELECT '***'", ("***",))
        opened = await desk.opened(sql="SELECT 'secret'", parameters=("secret",), recorded=kept)
        row = desk.store.rows[opened.approval]
        assert (row.sql, row.parameters) == kept
        assert [(told.sql, told.parameters) for told in desk.told] == [kept, kept]
        for shown in (await desk.approvals.get(opened.approval), *await desk.approvals.in_state(WAITING)):
            assert (shown.sql, shown.parameters) == ("SELECT 'secret'", ("secret",))
        await desk.approvals.vote(opened.approval, person("dan", "dba"), True, "fine")
        assert (await desk.approvals.get(opened.approval)).sql == "SELECT '***'"
        assert "secret" not in str(desk.told)

    run(scenario)


def test_a_request_that_cannot_be_stored_is_answered_and_not_announced() -> None:
    async def scenario(desk: Desk) -> None:
        desk.store.broken = True
        opened = await desk.opened()
        assert opened.approval == ""
        assert "could not be stored" in opened.error
        assert desk.announced == []
        assert desk.approvals.waiting == 0

    run(scenario)


def test_an_approver_decides_and_the_session_is_told() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened()
        row = await desk.approvals.vote(opened.approval, person("dan", "dba"), True, " fine ")
        assert row.state == APPROVED
        assert desk.decisions == [
            (7, Decision(approval=opened.approval, outcome="approved", reviewer="dan", reason="fine"))
        ]
        assert desk.approvals.waiting == 0
        await desk.approvals.used(ApprovalUsed(approval=opened.approval))
        assert desk.store.rows[opened.approval].state == USED
        await desk.approvals.used(ApprovalUsed(approval=opened.approval))
        assert [event for event, _ in desk.recorded].count("approval_used") == 1

    run(scenario)


def test_a_rejection_carries_its_reason() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened()
        await desk.approvals.vote(opened.approval, person("dan", "dba"), False, "not on a Friday")
        assert desk.decisions == [
            (7, Decision(approval=opened.approval, outcome="rejected", reviewer="dan", reason="not on a Friday"))
        ]
        assert desk.announced == ["approval.requested", "approval.rejected"]

    run(scenario)


@pytest.mark.parametrize(
    ("voter", "says"),
    [
        (person("ANA@example.com", "dba", subject="other", issuer="other"), "cannot decide"),
        (person("renamed", "dba", subject="s-ana"), "cannot decide"),
        (person("eve", "engineering"), "not among the approvers"),
        (person("root", "hoopfast-admin"), "not among the approvers"),
    ],
)
@pytest.mark.parametrize("approve", [True, False])
def test_who_may_not_decide(voter: Principal, says: str, approve: bool) -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened()
        with pytest.raises(Refused, match=says) as refused:
            await desk.approvals.vote(opened.approval, voter, approve, "")
        assert refused.value.status == 403
        assert desk.decisions == []
        assert desk.store.rows[opened.approval].votes == ()
        assert desk.recorded[-1][0] == "approval_vote_refused"

    run(scenario)


def test_the_same_subject_of_another_issuer_is_another_person() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened()
        row = desk.store.rows[opened.approval]
        assert desk.approvals.may_decide(person("dan", "dba", subject="s-ana", issuer="entra"), row) == ""

    run(scenario)


def test_a_rule_without_groups_is_decided_by_the_local_admin_only() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened(approver_groups=())
        with pytest.raises(Refused, match="nobody"):
            await desk.approvals.vote(opened.approval, person("dan", "dba"), True, "")
        row = await desk.approvals.vote(opened.approval, local_principal(), True, "")
        assert row.state == APPROVED
        assert desk.decisions[0][1].reviewer == "local-admin"

    run(scenario)


def test_the_local_admin_cannot_approve_its_own_request() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened(identity=local_principal().identity)
        with pytest.raises(Refused, match="cannot decide"):
            await desk.approvals.vote(opened.approval, local_principal(), True, "")

    run(scenario)


def test_two_of_two_distinct_people() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened(approvals_needed=2)
        assert (await desk.approvals.vote(opened.approval, person("dan", "dba"), True, "")).state == WAITING
        assert desk.decisions == []
        with pytest.raises(Refused) as refused:
            await desk.approvals.vote(opened.approval, person("dan", "dba"), True, "again")
        assert refused.value.status == 409
        assert (await desk.approvals.vote(opened.approval, person("eli", "dba"), True, "")).state == APPROVED
        assert desk.decisions[0][1].reviewer == "dan, eli"

    run(scenario)


def test_expiry_is_told_once() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened(expires_s=60.0)
        desk.now = 1059.0
        await desk.approvals.expire()
        assert desk.decisions == []
        desk.now = 1060.0
        await desk.approvals.expire()
        await desk.approvals.expire()
        assert desk.decisions == [(7, Decision(approval=opened.approval, outcome="expired"))]
        with pytest.raises(Refused):
            await desk.approvals.vote(opened.approval, person("dan", "dba"), True, "late")

    run(scenario)


def test_withdrawal_leaves_nothing_to_decide() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened()
        await desk.approvals.withdraw(ApprovalWithdrawn(approval=opened.approval, reason="cancelled"))
        assert desk.store.rows[opened.approval].state == WITHDRAWN
        assert desk.announced[-1] == "approval.withdrawn"
        with pytest.raises(Refused):
            await desk.approvals.vote(opened.approval, person("dan", "dba"), True, "")
        assert desk.decisions == []

    run(scenario)


def test_requests_of_lost_sessions_are_withdrawn_and_others_stay() -> None:
    async def scenario(desk: Desk) -> None:
        lost, kept = await desk.opened(session=7), await desk.opened(session=8)
        await desk.approvals.sessions_lost({7}, "session ended")
        assert desk.store.rows[lost.approval].state == WITHDRAWN
        assert desk.store.rows[kept.approval].state == WAITING
        assert desk.approvals.waiting == 1

    run(scenario)


def test_requests_of_an_earlier_process_are_withdrawn_at_start() -> None:
    async def scenario(desk: Desk) -> None:
        opened = await desk.opened()
        assert await desk.approvals.adopt() == 1
        assert desk.store.rows[opened.approval].state == WITHDRAWN

    run(scenario)


def test_an_unknown_request_is_404() -> None:
    async def scenario(desk: Desk) -> None:
        with pytest.raises(Refused) as refused:
            await desk.approvals.vote("apr_nothing1", person("dan", "dba"), True, "")
        assert refused.value.status == 404

    run(scenario)
