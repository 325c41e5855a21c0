"""The desk with rules that warn, and with rules that depend on the time: nothing of either is remembered too long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hoopfast import config
from hoopfast.model import ACTION_ALLOW, ACTION_ASK, ACTION_DENY, ApprovalOpened, Decision
from hoopfast.policy import source
from hoopfast.policy.snapshot import compile_policy
from tests.worker.desk import Bench

NOON, MIDNIGHT = 12 * 3600.0, 0.0
UPSTREAM = config.Upstream(host="127.0.0.1", database="d", user="u")
SETTINGS = config.Config(connections={"shop": config.Connection(upstream=UPSTREAM)})
WARN = "rules: [{name: careful, when: {statements: [delete]}, action: warn, reason: think twice}]"
NIGHTS = "rules: [{name: nights, when: {statements: [delete], during: [{to: '06:00'}]}, action: deny}]"


def bench(policy: str) -> Bench:
    return Bench(compile_policy(SETTINGS, source.parse_policy(policy, "p", ["shop"]), 1, bytes(32)))


def ask(made: Bench, sql: str, kind: str = "Q", now: float = NOON, **more: Any) -> dict[str, Any]:
    made.now = now
    return asyncio.run(made.ask(sql, kind, **more))


def test_each_run_of_a_simple_query_is_warned_about() -> None:
    made = bench(WARN)
    for run in (1, 2):
        answer = ask(made, "DELETE FROM orders WHERE id = 1")
        assert (answer["action"], answer["cache"], answer["free"]) == (ACTION_ALLOW, False, [])
        assert (answer["label"]["verdict"], answer["label"]["rule"]) == ("warn", "careful")
        assert len(made.relay.notices) == run
    notice = made.relay.notices[-1]
    assert (notice["S"], notice["C"], notice["held"]) == ("NOTICE", "01000", "False")
    assert notice["M"] == 'rule "careful" of the gateway: think twice'


def test_a_prepared_statement_is_warned_about_when_it_runs() -> None:
    made = bench(WARN)
    parse = ask(made, "DELETE FROM orders WHERE id = 1", "P")
    assert (parse["action"], parse["cache"], parse["label"]["verdict"]) == (ACTION_ASK, True, "warn")
    assert not made.relay.notices
    for run in (1, 2):
        bind = ask(made, "DELETE FROM orders WHERE id = 1", "B", bind=b"\0\0\0\0\0\0\0\0")
        assert bind["action"] == ACTION_ALLOW and len(made.relay.notices) == run


def test_what_no_rule_warns_about_is_remembered_as_ever() -> None:
    answer = ask(bench(WARN), "SELECT id FROM orders WHERE id = 7")
    assert answer["cache"] and answer["free"] and answer["label"]["verdict"] == "allow"


def test_a_function_call_is_warned_about() -> None:
    made = bench("rules: [{name: fast, when: {statements: [function_call]}, action: warn}]")
    answer = ask(made, "", "F")
    assert answer["action"] == ACTION_ALLOW and not answer["cache"] and len(made.relay.notices) == 1


@pytest.mark.parametrize(("now", "action"), [(NOON, ACTION_ALLOW), (MIDNIGHT, ACTION_DENY)])
def test_a_verdict_of_the_hour_is_not_remembered(now: float, action: int) -> None:
    answer = ask(bench(NIGHTS), "DELETE FROM orders WHERE id = 1", now=now)
    assert (answer["action"], answer["cache"]) == (action, False)


def test_a_statement_prepared_by_day_does_not_run_by_night() -> None:
    made = bench(NIGHTS)
    assert ask(made, "DELETE FROM orders", "P", NOON)["action"] == ACTION_ASK
    runs = [ask(made, "DELETE FROM orders", "B", now, bind=b"\0" * 8)["action"] for now in (NOON, MIDNIGHT, NOON)]
    assert runs == [ACTION_ALLOW, ACTION_DENY, ACTION_ALLOW]


def test_statements_whose_verdict_no_hour_changes_are_remembered() -> None:
    assert ask(bench(NIGHTS), "SELECT id FROM orders", now=MIDNIGHT)["cache"]


def test_an_approval_that_comes_too_late_is_of_no_use() -> None:
    made = bench("""\
rules:
  - {name: nights, when: {statements: [delete], during: [{to: '06:00'}]}, action: deny}
  - {name: ask, when: {statements: [delete]}, action: approve, approvers: {groups: [dba]}}
""")

    async def run() -> dict[str, Any]:
        made.now = NOON
        task = asyncio.create_task(made.ask("DELETE FROM orders"))
        while not made.sent:
            await asyncio.sleep(0)
        made.approvals.on_message(ApprovalOpened(request=made.sent[0].request, approval="a1"))
        while not made.relay.notices:
            await asyncio.sleep(0)
        made.now = MIDNIGHT
        made.approvals.on_message(Decision(approval="a1", outcome="approved", reviewer="max"))
        return await task

    answer = asyncio.run(run())
    assert answer["action"] == ACTION_DENY and answer["label"]["rule"] == "nights" and not answer["cache"]


def test_a_limit_travels_with_the_verdict() -> None:
    made = bench("rules: [{name: slow, when: {statements: [select]}, action: limit, limit: {time: 90s}}]")
    for kind in "QP":
        answer = ask(made, "SELECT id FROM orders", kind)
        assert (answer["action"], answer["cache"], answer["limit"]) == (ACTION_ALLOW, True, 90.0)
        assert (answer["error"]["C"], answer["label"]["verdict"]) == ("57014", "limit")
        assert "for 90s" in answer["error"]["M"] and '"slow"' in answer["error"]["M"]
    assert ask(made, "DELETE FROM orders WHERE id = 1")["limit"] == 0
