"""The verdict desk with a fake relay: what it answers, and that it always answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hoopfast import model
from hoopfast.errors import UpstreamFault
from hoopfast.model import ACTION_ALLOW, ACTION_ASK, ACTION_DENY, Ruling
from hoopfast.protocol.messages import error_response, frame
from hoopfast.worker.contexts import Contexts
from tests.worker.desk import ANN, CUSTOMERS, HERE, NEW, Bench, FakeRelay, Policy, catalog, described


def decide(bench: Bench, sql: str | bytes, kind: str = "Q", **more: Any) -> dict[str, Any]:
    return asyncio.run(bench.ask(sql, kind, **more))


def build(policy: Any = None) -> Bench:
    return Bench(policy)


def test_clean_statement_passes_without_a_probe() -> None:
    bench = build()
    answer = decide(bench, "SELECT id, lower(note) FROM orders")
    assert (answer["action"], answer["flags"], answer["cache"]) == (ACTION_ALLOW, 0, True)
    assert answer["label"]["kinds"] == ["select"] and answer["label"]["tables"] == ["orders"]
    assert not bench.relay.probes


def test_touched_statement_is_described_first() -> None:
    bench = build()
    sql = "SELECT ssn, lower(name) AS n FROM customers"
    bench.relay.describe[sql] = described(("ssn", CUSTOMERS, 3), ("n", 0, 0))
    answer = decide(bench, sql, types=b"\0\0\0\x17")
    assert answer["action"] == ACTION_ALLOW
    assert answer["flags"] == model.FLAG_TOUCHED | model.FLAG_SCRUB
    assert answer["zero"] == 1
    assert answer["label"]["masks"] == ["public.customers.ssn"]
    assert bench.relay.probes == [(sql, b"\0\0\0\x17")]


@pytest.mark.parametrize("columns", [
    [("ssn", 0, 0), ("n", 0, 0)],               # more columns without origin than the analysis found
    [("ssn", CUSTOMERS, 0), ("n", 0, 0)],       # a whole row
])
def test_origins_that_contradict_the_analysis_are_refused(columns: list[tuple[str, int, int]]) -> None:
    bench = build()
    sql = "SELECT ssn, lower(name) AS n FROM customers"
    bench.relay.describe[sql] = described(*columns)
    answer = decide(bench, sql)
    assert answer["action"] == ACTION_DENY and answer["error"]["C"] == "42501"


def test_server_error_of_a_probe_is_passed_on_and_not_remembered() -> None:
    bench = build()
    bench.relay.describe["SELECT nope FROM customers"] = error_response(
        "ERROR", "42703", 'column "nope" does not exist', position=8)
    answer = decide(bench, "SELECT nope FROM customers")
    assert answer["action"] == ACTION_DENY and not answer["cache"]
    assert (answer["error"]["C"], answer["error"]["P"]) == ("42703", "8")


def test_masking_refusal_names_column_and_way_out() -> None:
    answer = decide(build(), "SELECT upper(ssn) FROM customers")
    assert answer["action"] == ACTION_DENY and answer["cache"]
    assert answer["error"]["C"] == "42501" and '"ssn"' in answer["error"]["M"] and answer["error"]["H"]
    assert answer["label"]["verdict"] == "deny"


def test_nothing_is_gated_for_people_without_masks() -> None:
    bench = build(Policy(masked=False))
    assert decide(bench, "SELECT upper(ssn) FROM customers")["action"] == ACTION_ALLOW
    assert bench.session.context.catalog is None


def test_policy_denial_names_rule_and_reason() -> None:
    answer = decide(build(), "DROP TABLE orders")
    assert answer["error"]["C"] == "42501"
    assert "no-drop" in answer["error"]["M"] and "Terraform" in answer["error"]["M"]
    assert answer["label"]["rule"] == "no-drop"


@pytest.mark.parametrize(("text", "state", "position"), [
    (b"SELECT '\xff'", "22021", None), (b"SELECT '\0'", "22021", "9"),
    (("SELECT " + "||".join(["'a'"] * 3000)).encode(), "54001", None),
])
def test_unreadable_texts(text: bytes, state: str, position: str | None) -> None:
    answer = decide(build(), text)
    assert answer["action"] == ACTION_DENY
    assert (answer["error"]["C"], answer["error"].get("P")) == (state, position)


def test_a_syntax_error_is_the_servers_own() -> None:
    bench = build()
    bench.relay.describe["SELCT 1"] = frame(b"E", b"SERROR\0C42601\0Mso says the server\0P1\0\0")
    answer = decide(bench, "SELCT 1")
    assert answer["action"] == ACTION_DENY
    assert (answer["error"]["M"], answer["error"]["P"]) == ("so says the server", "1")
    assert not answer["cache"]


def test_what_only_the_server_can_read_does_not_run() -> None:
    bench = build()
    bench.relay.describe["SELCT 1"] = described(("id", CUSTOMERS, 1))
    answer = decide(bench, "SELCT 1")
    assert (answer["action"], answer["error"]["C"], answer["error"]["P"]) == (ACTION_DENY, "42601", "1")


@pytest.mark.parametrize("sql", [
    "SET standard_conforming_strings = off", "SET LOCAL standard_conforming_strings TO 'false'",
    "SELECT 1; SET standard_conforming_strings = 0", "SET client_encoding = 'SJIS'", "SET NAMES 'big5'",
])
@pytest.mark.parametrize("masked", [False, True])
def test_settings_that_would_change_how_sql_is_read(sql: str, masked: bool) -> None:
    answer = decide(build(Policy(masked=masked)), sql)
    assert (answer["action"], answer["error"]["C"]) == (ACTION_DENY, "0A000")


@pytest.mark.parametrize("sql", [
    "SET standard_conforming_strings = on", "RESET standard_conforming_strings", "SET client_encoding = 'UTF8'",
    "SET standard_conforming_strings TO DEFAULT", "SET search_path = public",
])
def test_settings_that_leave_sql_as_it_is(sql: str) -> None:
    assert decide(build(), sql)["action"] == ACTION_ALLOW


def test_ddl_announces_a_new_catalog() -> None:
    bench = build(Policy(rules={}))
    assert decide(bench, "CREATE TABLE x (i int)")["flags"] & model.FLAG_CATALOG
    assert decide(bench, "ALTER TABLE orders ADD y int")["flags"] & model.FLAG_CATALOG
    assert not decide(bench, "SELECT 1")["flags"] & model.FLAG_CATALOG


def test_function_calls() -> None:
    assert decide(build(), b"\0function 12", "F")["error"]["C"] == "42501"
    answer = decide(build(Policy(masked=False)), b"\0function 12", "F")
    assert answer["action"] == ACTION_ALLOW and answer["label"]["function"] == "shop.f12()"


def test_copy_gets_a_plan() -> None:
    bench = build()
    bench.relay.describe['SELECT * FROM ONLY "customers"'] = described(
        ("id", CUSTOMERS, 1), ("name", CUSTOMERS, 2), ("ssn", CUSTOMERS, 3))
    answer = decide(bench, "COPY customers TO STDOUT (FORMAT csv, HEADER)")
    assert answer["action"] == ACTION_ALLOW, answer["error"]
    assert answer["flags"] & model.FLAG_COPY_OUT and answer["plan"]
    assert answer["label"]["masks"] == ["public.customers.ssn"]


def test_execute_and_fetch_may_have_any_columns() -> None:
    flags = decide(build(), "FETCH 5 FROM c")["flags"]
    assert flags & model.FLAG_ANY_ZERO and flags & model.FLAG_TOUCHED


def test_an_exception_is_a_refusal_and_not_remembered(caplog: pytest.LogCaptureFixture) -> None:
    bench = build()

    def broken(*_: Any) -> Any:
        raise RuntimeError("bug")

    bench.policy.decide = broken  # type: ignore[method-assign]
    answer = decide(bench, "SELECT 1")
    assert answer["action"] == ACTION_DENY and not answer["cache"]
    assert answer["error"]["C"] == "XX000"
    assert "could not be judged" in caplog.text


def test_long_statements_leave_the_loop_and_have_a_limit() -> None:
    bench = build()
    assert decide(bench, "SELECT " + ", ".join(["1"] * 20_000))["action"] == ACTION_ALLOW
    long = decide(bench, "SELECT '" + "x" * 1_100_000 + "'")
    assert long["error"]["C"] == "54000"
    assert decide(build(Policy(masked=False)), "SELECT '" + "x" * 1_100_000 + "'")["action"] == ACTION_ALLOW


def test_unknown_relation_waits_for_the_catalog() -> None:
    async def run() -> dict[str, Any]:
        bench = Bench()
        bench.relay.describe["SELECT * FROM fresh"] = described(("a", NEW, 1))
        task = asyncio.create_task(bench.ask("SELECT * FROM fresh"))
        for _ in range(100):
            await asyncio.sleep(0.001)
            if bench.sent:
                break
        assert bench.sent == [model.CatalogWanted(connection="shop", changed=True)]
        bench.session.context = bench.contexts.obtain(ANN, "shop", bench.policy, catalog(2, "fresh"), HERE)  # type: ignore[arg-type]
        return await task

    assert asyncio.run(run())["action"] == ACTION_ALLOW


def test_unknown_relation_that_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoopfast.worker.verdicts.CATALOG_WAIT_S", 0.04)
    bench = build()
    bench.relay.describe["SELECT * FROM fresh"] = described(("a", NEW, 1))
    answer = decide(bench, "SELECT * FROM fresh")
    assert answer["action"] == ACTION_DENY and not answer["cache"] and '"fresh"' in answer["error"]["M"]


def test_unknown_relation_while_others_change_the_catalog_all_the_time() -> None:
    """The error is about the name, which a person can do something about, and not about the others."""
    async def run() -> dict[str, Any]:
        bench = Bench()
        bench.relay.describe["SELECT * FROM fresh"] = described(("a", NEW, 1))
        task = asyncio.create_task(bench.ask("SELECT * FROM fresh"))
        epoch = 1
        while not task.done():
            if len(bench.sent) >= epoch:
                epoch += 1
                bench.session.context = bench.contexts.obtain(ANN, "shop", bench.policy, catalog(epoch), HERE)  # type: ignore[arg-type]
            await asyncio.sleep(0.001)
        return await task

    answer = asyncio.run(run())
    assert answer["action"] == ACTION_DENY and not answer["cache"] and '"fresh"' in answer["error"]["M"]


def test_tables_of_the_open_transaction_are_known_but_not_to_others() -> None:
    bench = build(Policy(rules={}))
    assert decide(bench, "CREATE TEMP TABLE mine (i int)")["action"] == ACTION_ALLOW
    answer = decide(bench, "SELECT * FROM mine")
    assert answer["action"] == ACTION_ALLOW and not answer["cache"]
    bench.desk.session_closed(bench.session)
    bench.relay.describe["SELECT * FROM mine"] = error_response("ERROR", "42P01", "no such relation")
    assert decide(bench, "SELECT * FROM mine")["error"]["C"] == "42P01"


def test_verdict_is_made_again_when_the_context_changes_under_it() -> None:
    async def run() -> dict[str, Any]:
        bench = Bench()
        sql = "SELECT name FROM customers"
        task = asyncio.create_task(bench.ask(sql))
        while not bench.relay.probes:
            await asyncio.sleep(0)
        strict = Policy(2, rules={"select": model.Ruling(action="deny", rule="closed", reason="holiday")})
        bench.session.context = bench.contexts.obtain(ANN, "shop", strict, catalog(), HERE)  # type: ignore[arg-type]
        bench.desk.probe_answered(bench.session, 1, described(("name", CUSTOMERS, 2)))
        return await task

    assert asyncio.run(run())["label"]["rule"] == "closed"


@pytest.mark.parametrize(("outcome", "state", "said"), [
    ("rejected", "42501", "not today"), ("expired", "42501", "nobody approved"),
])
def test_the_last_word_holds_whatever_changed_while_it_waited(outcome: str, state: str, said: str) -> None:
    """Judging again under the newer context would hold the statement a second time, with nobody to decide it."""
    async def run() -> tuple[Bench, dict[str, Any]]:
        bench = Bench()
        task = asyncio.create_task(bench.ask("DELETE FROM orders"))
        while not any(isinstance(message, model.ApprovalWanted) for message in bench.sent):
            await asyncio.sleep(0)
        bench.approvals.on_message(model.ApprovalOpened(request=1, approval="apr_1"))
        await asyncio.sleep(0)
        bench.session.context = bench.contexts.obtain(ANN, "shop", Policy(2), catalog(2), HERE)  # type: ignore[arg-type]
        bench.approvals.on_message(
            model.Decision(approval="apr_1", outcome=outcome, reviewer="max@example.com", reason="not today"))
        return bench, await asyncio.wait_for(task, 5)

    bench, answer = asyncio.run(run())
    assert answer["action"] == ACTION_DENY and not answer["cache"]
    assert answer["error"]["C"] == state and said in answer["error"]["M"]
    assert [type(message) for message in bench.sent] == [model.ApprovalWanted], "asked once, and nothing to take back"


def test_parse_of_a_statement_that_needs_approval_asks_at_bind() -> None:
    answer = decide(build(), "DELETE FROM orders WHERE id = $1", "P")
    assert answer["action"] == ACTION_ASK and answer["cache"]


def test_client_that_left_during_a_probe_gets_no_answer() -> None:
    async def run() -> list[Any]:
        bench = Bench()
        sql = b"SELECT ssn FROM customers"
        task = asyncio.create_task(bench.desk.verdict(bench.session, 1, "Q", sql, b"", b"", b"I"))
        while not bench.relay.probes:
            await asyncio.sleep(0)
        bench.desk.withdrawn(bench.session, 1)
        await task
        return bench.relay.decisions

    assert asyncio.run(run()) == []


def test_several_statements_pass_only_with_any_zero() -> None:
    bench = build()
    bench.relay.describe["SELECT ssn FROM customers"] = described(("ssn", CUSTOMERS, 3))
    answer = decide(bench, "SELECT 1; SELECT ssn FROM customers")
    assert answer["flags"] & model.FLAG_ANY_ZERO and answer["action"] == ACTION_ALLOW


# ---------------------------------------------------------------- values of masked columns

@pytest.mark.parametrize("masked", [True, False])
def test_the_label_says_what_to_protect(masked: bool) -> None:
    bench = Bench(Policy(masked=masked))
    sql = "UPDATE customers SET ssn = 'secret', name = 'n' WHERE id = $1 AND ssn = $2"
    answer = decide(bench, sql)
    kept = answer["label"]["protect"]
    assert (kept["literals"], kept["parameters"]) == ([5], [2])
    # The server's own words reach only people without masks, and so do rows with such columns.
    assert (kept["error"], kept["results"]) == (not masked, not masked)
    assert answer["flags"] & model.FLAG_PRIVATE
    answer = decide(bench, "SELECT 1")
    assert "protect" not in answer["label"]
    assert not answer["flags"] & model.FLAG_PRIVATE


def test_what_is_refused_is_protected_too() -> None:
    bench = build()
    answer = decide(bench, "SELECT id FROM customers WHERE ssn LIKE 'secret%'")
    assert answer["action"] == ACTION_DENY
    assert answer["label"]["protect"] == {"literals": [7], "parameters": [], "error": False, "results": False,
                                          "echo": False}
    bench.relay.describe["SELEC 'secret'"] = frame(b"E", b"SERROR\0VERROR\0C42601\0Mat 'secret'\0\0")
    answer = decide(bench, "SELEC 'secret'")
    assert answer["label"]["protect"]["literals"] == "all"
    assert answer["label"]["protect"]["error"]
    # A quote too many: what was meant to be a literal is none.
    mistake = "SELECT id FROM customers WHERE ssn = 'O'secret' AND x"
    bench.relay.describe[mistake] = bench.relay.describe["SELEC 'secret'"]
    assert decide(bench, mistake)["label"]["protect"]["literals"] == "text"


def test_approvals_keep_placeholders() -> None:
    async def run() -> Any:
        bench = Bench(Policy(rules={"update": Ruling(action="approve", rule="updates", approver_groups=("dba",))}))
        sql = b"UPDATE customers SET ssn = 'secret' WHERE id = 5"
        task = asyncio.create_task(bench.desk.verdict(bench.session, 1, "Q", sql, b"", b"", b"I"))
        while not bench.sent:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return bench.sent[0]

    wanted = asyncio.run(run())
    assert wanted.sql == "UPDATE customers SET ssn = 'secret' WHERE id = 5"
    assert wanted.recorded == ("UPDATE customers SET ssn = '***' WHERE id = 5", ())


# ---------------------------------------------------------------- contexts

def test_contexts_are_interned_and_replaced() -> None:
    relay = FakeRelay()
    contexts = Contexts(relay)
    policy: Any = Policy()
    first = contexts.obtain(ANN, "shop", policy, catalog(1), HERE)
    assert contexts.obtain(ANN, "shop", policy, catalog(1), HERE) is first
    assert relay.contexts[first.number][1] == [(CUSTOMERS, 3, 0)]
    second = contexts.obtain(ANN, "shop", policy, catalog(2), HERE)
    assert relay.dropped == [first.number] and second.number != first.number
    newer: Any = Policy(2)
    contexts.obtain(ANN, "shop", newer, catalog(2), HERE)
    assert relay.dropped == [first.number, second.number]
    contexts.obtain(ANN, "other", policy, catalog(1), HERE)
    assert len(relay.dropped) == 2


def test_no_login_with_masks_and_without_a_catalog() -> None:
    policy: Any = Policy()
    with pytest.raises(UpstreamFault) as caught:
        Contexts(FakeRelay()).obtain(ANN, "shop", policy, None, HERE)
    assert caught.value.sqlstate == "57P03" and caught.value.hint


def test_free_constants_go_with_verdicts_that_may_be_kept() -> None:
    bench = build()
    assert decide(bench, "SELECT id FROM orders WHERE id = 5")["free"] == [33]
    assert decide(bench, "SELECT id FROM orders WHERE note = 'é' AND id = 5", "P")["free"] == [35, 49]
    assert decide(bench, "SELECT 5 FROM orders")["free"] == []
    assert decide(bench, "DELETE FROM orders WHERE id = 5", "P")["free"] == [], "each is asked for"
    assert decide(bench, "DROP TABLE orders")["free"] == []
    assert decide(bench, f"SELECT id FROM orders WHERE id = 5 AND note = '{'x' * 70_000}'")["free"] == []


def test_text_in_another_encoding_has_no_free_constants() -> None:
    """Its places in the UTF-8 text that was parsed are not those in what the client sent."""
    bench = build(Policy(masked=False))
    answer = decide(bench, b"SELECT id FROM orders WHERE note = '\xe9' AND id = 5")
    assert (answer["action"], answer["free"]) == (ACTION_ALLOW, [])
