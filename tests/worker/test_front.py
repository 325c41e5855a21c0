"""The front: logins and their refusals, kills, cancels, policy changes, the end; relay and supervisor are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hoopfast import model
from hoopfast.protocol import messages as m
from hoopfast.worker import front as front_module
from hoopfast.worker import login as login_module
from hoopfast.worker.session import SessionIds
from tests.support.waiting import until
from tests.worker.bench import ANA, MASKED, OPEN, READY, Bench, descriptors

Body = Callable[[Bench], Awaitable[None]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_module, "LINGER_S", 0.02)


def run(body: Body, **setup: Any) -> None:
    async def main() -> None:
        before = descriptors()
        async with Bench(**setup) as bench:
            await body(bench)
        assert descriptors() <= before, "a descriptor was left open"

    asyncio.run(main())


# ---------------------------------------------------------------- logging in

def test_login() -> None:
    async def body(bench: Bench) -> None:
        client = bench.connect()
        await client.log_in(application_name="psql", datestyle="ISO")
        await client.send(m.query("select 1"))
        got = await client.messages_until(b"Z")
        assert [kind for kind, _ in got] == [b"R", b"S", b"S", b"K", b"Z"]
        opened = await bench.heard(model.SessionOpened)
        assert (opened.identity, opened.connection, opened.database, opened.role) == (ANA, "shop", "orders", "svc")
        assert (opened.peer, opened.application, opened.tls) == ("127.0.0.1:5000", "psql", False)
        wanted = await bench.heard(model.AuthWanted)
        assert (wanted.credential, wanted.user, wanted.database, wanted.tls) == (b"hush-hush", "ana", "shop", False)
        assert bench.settings["application_name"] == "ana@example.com psql"
        assert bench.settings["datestyle"] == "ISO"
        legs = bench.relay.adopted[opened.session]
        assert b"ana@example.com" in legs["start_record"]
        assert b"hush" not in legs["start_record"]
        pid, secret = m.parse_backend_key_data(got[3][1])
        assert pid == 4711
        assert len(secret) == 4
        assert secret != b"\1\2\3\4", "the server's own key must never reach a client"

    run(body)


def test_what_was_read_ahead_goes_to_the_relay() -> None:
    async def body(bench: Bench) -> None:
        bench.greeting = READY + m.parameter_status("x", "y")
        client = bench.connect()
        await client.send(m.startup_message(m.PROTOCOL_3_0, {"user": "ana", "database": "shop"}))
        await client.message()
        await client.send(m.password_message("token") + m.query("select 1"))
        await client.messages_until(b"Z")
        session = (await bench.heard(model.SessionOpened)).session
        assert bench.relay.adopted[session]["from_client"] == m.query("select 1")
        assert bench.relay.adopted[session]["from_upstream"] == m.parameter_status("x", "y")

    run(body)


def test_negotiation_comes_once_and_first_and_the_key_fits_the_protocol() -> None:
    async def body(bench: Bench) -> None:
        client = bench.connect()
        await client.send(m.startup_message(m.PROTOCOL_3_0 | 99, {"user": "a", "database": "shop", "_pq_.x": "1"}))
        kind, answer = await client.message()
        assert kind == b"v"
        assert m.parse_negotiate_protocol_version(answer) == (2, ["_pq_.x"])
        assert (await client.message())[0] == b"R"
        await client.send(m.password_message("t"))
        got = await client.messages_until(b"Z")
        assert b"v" not in [kind for kind, _ in got]
        assert len(dict(got)[b"K"]) == 4 + 32

    run(body)


def test_database_defaults_to_user() -> None:
    async def body(bench: Bench) -> None:
        client = bench.connect()
        await client.log_in(user="shop", database="")
        await client.messages_until(b"Z")

    run(body)


# ---------------------------------------------------------------- not logging in

async def refused(bench: Bench, client: Any, *, audited: bool = True) -> dict[str, str]:
    fields: dict[str, str] = await client.error()
    assert fields["S"] == "FATAL"
    await until(lambda: any(isinstance(message, model.ConnectionDone) for message in bench.told))
    assert any(isinstance(message, model.LoginRefused) for message in bench.told) == audited
    assert not bench.relay.adopted
    return fields


def test_the_gates_refusal_is_passed_on() -> None:
    async def body(bench: Bench) -> None:
        bench.identity = None
        bench.reply = {"sqlstate": "57P03", "message": "the identity provider cannot be reached", "hint": "wait"}
        client = bench.connect()
        await client.log_in()
        fields = await refused(bench, client)
        assert (fields["C"], fields["M"], fields["H"]) == ("57P03", "the identity provider cannot be reached", "wait")
        assert bench.greetings == 0, "nothing goes upstream before the identity is proved"

    run(body)


@pytest.mark.parametrize("size", [4095, 1023, 4094])
def test_a_token_that_the_terminal_cut(size: int) -> None:
    async def body(bench: Bench) -> None:
        bench.identity = None
        client = bench.connect()
        await client.log_in(password=b"eyJ" + b"x" * (size - 3))
        fields = await refused(bench, client)
        assert fields["C"] == "28P01"
        assert ("terminal" in fields["M"]) == (size != 4094)

    run(body)


@pytest.mark.parametrize(("message", "code"), [
    (m.password_message(""), "28P01"),
    (m.password_message("x" * 32_769), "08P01"),
    (b"p\x7f\xff\xff\xff", "08P01"),
    (b"p\0\0\0\3", "08P01"),
    (m.frame(b"p", b"no end"), "08P01"),
    (m.frame(b"p", b"two\0strings\0"), "08P01"),
    (m.query("select 1"), "08P01"),
])
def test_password_messages_that_are_none(message: bytes, code: str) -> None:
    async def body(bench: Bench) -> None:
        client = bench.connect()
        await client.send(m.startup_message(m.PROTOCOL_3_0, {"user": "ana", "database": "shop"}))
        await client.message()
        await client.send(message)
        assert (await refused(bench, client))["C"] == code
        assert not any(isinstance(told, model.AuthWanted) for told in bench.told)

    run(body)


def test_a_password_at_the_limit() -> None:
    async def body(bench: Bench) -> None:
        client = bench.connect()
        await client.log_in(password=b"x" * 32_768)
        await client.messages_until(b"Z")
        assert len((await bench.heard(model.AuthWanted)).credential) == 32_768

    run(body)


def test_unknown_and_forbidden_databases_get_the_same_answer() -> None:
    async def body(bench: Bench) -> None:
        answers = []
        for name in ("closed", "nowhere"):
            client = bench.connect()
            await client.log_in(database=name)
            fields = await refused(bench, client)
            answers.append({key: value.replace(name, "*") for key, value in fields.items()})
        assert answers[0] == answers[1]
        assert answers[0]["C"] == "42501"
        told = await bench.heard(model.LoginRefused, 2)
        assert told.identity == ANA

    run(body)


@pytest.mark.parametrize(("peer", "local"), [
    ("unix", True), ("127.0.0.1:1", True), ("192.0.2.7:1", False), ("", False),
])
def test_tls_is_required_from_elsewhere(peer: str, local: bool) -> None:
    async def body(bench: Bench) -> None:
        client = bench.connect(peer)
        await client.send(m.startup_message(m.PROTOCOL_3_0, {"user": "ana", "database": "shop"}))
        if local:
            assert await client.message() == (b"R", b"\0\0\0\3")
            await client.send(m.TERMINATE)
            await bench.heard(model.ConnectionDone)
        else:
            fields = await refused(bench, client)
            assert fields["C"] == "28000"
            assert "TLS" in fields["M"]

    run(body)


@pytest.mark.parametrize(("greeting", "code"), [
    (m.error_response("FATAL", "53300", "too many clients"), "53300"),
    (m.error_response("FATAL", "28P01", "password authentication failed"), "08004"),
    (b"nonsense that is no protocol", "08006"),
])
def test_the_upstream_refuses(greeting: bytes, code: str) -> None:
    async def body(bench: Bench) -> None:
        bench.greeting = greeting
        client = bench.connect()
        await client.log_in()
        assert (await refused(bench, client))["C"] == code

    run(body)


def test_startup_nonsense() -> None:
    async def body(bench: Bench) -> None:
        client = bench.connect()
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await refused(bench, client, audited=False))["C"] == "08P01"
        legacy = bench.connect()
        await legacy.send(b"\0\0\0\x08\0\2\0\0")
        assert (await legacy.read(8)) == b"EFATAL: "

    run(body)


@pytest.mark.parametrize("first", [b"", m.SSL_REQUEST[:5], m.startup_message(m.PROTOCOL_3_0, {"user": "ana"})])
def test_clients_that_vanish_make_no_noise(first: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def body(bench: Bench) -> None:
        client = bench.connect()
        if first:
            await client.send(first)
        await asyncio.sleep(0.01)
        client.sock.close()
        assert (await bench.heard(model.ConnectionDone)).reason == "probe"

    run(body)
    assert not caplog.records


def test_the_login_timeout() -> None:
    async def body(bench: Bench) -> None:
        silent, half = bench.connect(), bench.connect()
        await half.send(m.startup_message(m.PROTOCOL_3_0, {"user": "ana", "database": "shop"}))
        assert await silent.at_end()
        assert (await half.error())["C"] == "57014"
        assert (await bench.heard(model.ConnectionDone, 2)).reason == "timeout"

    run(body, login_timeout=0.1)


def test_logins_beyond_the_bound_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoopfast.limits.LOGINS_IN_FLIGHT_MAX", 1)

    async def body(bench: Bench) -> None:
        await bench.front.places.acquire()
        client = bench.connect()
        await client.log_in()
        waiting = asyncio.create_task(client.messages_until(b"Z"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        bench.front.places.release()
        assert (await waiting)[-1][0] == b"Z"

    run(body)


def test_who_has_proved_nothing_takes_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoopfast.limits.LOGINS_IN_FLIGHT_MAX", 1)

    async def body(bench: Bench) -> None:
        silent, half, client = bench.connect(), bench.connect(), bench.connect()
        await half.send(m.startup_message(m.PROTOCOL_3_0, {"user": "ana", "database": "shop"}))
        await half.message()
        await client.log_in()
        assert (await client.messages_until(b"Z"))[-1][0] == b"Z"
        silent.sock.close()
        assert (await bench.heard(model.ConnectionDone)).peer

    run(body)


def test_a_bug_of_ours_is_an_answer_and_the_front_lives_on() -> None:
    async def body(bench: Bench) -> None:
        bench.contexts.broken = True
        client = bench.connect()
        await client.log_in()
        assert (await refused(bench, client))["C"] == "XX000"
        bench.contexts.broken = False
        await bench.session()
        bench.relay.full = 1
        unlucky = bench.connect()
        await unlucky.log_in()
        assert await unlucky.at_end()
        await bench.heard(model.ConnectionDone, 2)

    run(body)


# ---------------------------------------------------------------- masks at login

def test_masks_need_the_catalog_once_for_all() -> None:
    async def body(bench: Bench) -> None:
        await asyncio.gather(*(bench.session() for _ in range(3)))
        assert len([t for t in bench.told if isinstance(t, model.CatalogWanted)]) == 1
        assert all(context.masked for context in bench.contexts.made)
        assert bench.settings["client_encoding"] == "UTF8"
        assert bench.settings["standard_conforming_strings"] == "on"

    run(body, policy=MASKED)


def test_no_catalog_no_entry() -> None:
    async def body(bench: Bench) -> None:
        bench.catalog = None
        client = bench.connect()
        await client.log_in()
        assert (await refused(bench, client))["C"] == "57P03"
        assert bench.greetings == 0

    run(body, policy=MASKED)


def test_masks_refuse_other_encodings_whoever_sets_them() -> None:
    async def body(bench: Bench) -> None:
        client = bench.connect()
        await client.log_in(client_encoding="LATIN1")
        assert (await refused(bench, client))["C"] == "22023"
        bench.greeting = READY.replace(b"UTF8", b"EUC1")
        client = bench.connect()
        await client.log_in()
        assert (await refused(bench, client))["C"] == "08004"

    run(body, policy=MASKED)


# ---------------------------------------------------------------- kills and cancels

def test_kills_by_session_credential_and_all() -> None:
    async def body(bench: Bench) -> None:
        (_, one), (_, two) = await bench.session(), await bench.session()
        bench.supervisor.send(model.KillSessions(sessions=(one,), reason="go"))
        await until(lambda: bench.relay.named("kill"))
        [(_, session, fields, when_idle)] = bench.relay.named("kill")
        assert (session, fields["C"], fields["S"], fields["M"], when_idle) == (one, "57P01", "FATAL", "go", False)
        bench.relay.calls.clear()
        bench.relay.full = 1                        # tried again until the queue has room
        bench.supervisor.send(model.KillSessions(credential="cred-1", sqlstate="28P01", reason="revoked"))
        await until(lambda: len(bench.relay.named("kill")) == 2)
        assert {call[1] for call in bench.relay.named("kill")} == {one, two}
        bench.relay.calls.clear()
        bench.supervisor.send(model.KillSessions(credential="other"))
        half = bench.connect()
        await half.send(m.startup_message(m.PROTOCOL_3_0, {"user": "ana"}))
        await half.message()
        assert not bench.relay.named("kill")
        bench.supervisor.send(model.KillSessions())
        assert (await half.error())["C"] == "57P01"
        assert len(bench.relay.named("kill")) == 2

    run(body)


async def key_of(client: Any) -> tuple[int, bytes]:
    await client.log_in()
    return m.parse_backend_key_data(dict(await client.messages_until(b"Z"))[b"K"])


def test_cancel_reaches_the_upstream_before_our_close() -> None:
    async def body(bench: Bench) -> None:
        pid, secret = await key_of(bench.connect())
        session = (await bench.heard(model.SessionOpened)).session
        asker = bench.connect()
        await asker.send(m.cancel_request(pid, secret))
        await until(lambda: bench.relay.named("cancel"))
        bench.event("cancel", session)
        assert await asker.at_end()
        assert bench.cancels == [(4711).to_bytes(4, "big") + b"\1\2\3\4"]
        assert bench.relay.named("cancel_done") == [("cancel_done", session)]
        assert (await bench.heard(model.ConnectionDone)).reason == "cancel"

    run(body)


def test_cancel_of_an_idle_session_and_of_a_waiting_approval() -> None:
    async def body(bench: Bench) -> None:
        key = await key_of(bench.connect())
        for waiting in (False, True):
            bench.relay.calls.clear()
            bench.desk.waiting_approval = waiting
            asker = bench.connect()
            await asker.send(m.cancel_request(*key))
            assert await asker.at_end()
            assert bool(bench.relay.named("cancel")) == (not waiting)
        assert not bench.cancels

    run(body)


def test_keys_that_are_not_ours_travel_and_wrong_ones_do_nothing() -> None:
    async def body(bench: Bench) -> None:
        pid, secret = await key_of(bench.connect())
        for n, wrong in enumerate(((pid, b"\0\0\0\0"), (pid + 1, secret), (pid, secret + secret)), 1):
            asker = bench.connect()
            await asker.send(m.cancel_request(*wrong))
            assert await bench.heard(model.CancelKey, n) == model.CancelKey(pid=wrong[0], secret=wrong[1])
            bench.supervisor.send(model.CancelKey(pid=wrong[0], secret=wrong[1], done=True))
            assert await asker.at_end()
        assert not bench.relay.named("cancel")
        bench.supervisor.send(model.CancelKey(pid=pid, secret=secret))
        await until(lambda: bench.relay.named("cancel"))
        assert await bench.heard(model.CancelKey, 4) == model.CancelKey(pid=pid, secret=secret, done=True)
        bench.supervisor.send(model.CancelKey(pid=pid, secret=b"\0\0\0\0"))
        assert (await bench.heard(model.CancelKey, 5)).done, "a wrong key is answered like a right one"

    run(body)


def test_our_close_waits_for_the_other_worker() -> None:
    async def body(bench: Bench) -> None:
        asker = bench.connect()
        key = model.CancelKey(pid=4711, secret=b"abcd")
        await asker.send(m.cancel_request(key.pid, key.secret))
        assert await bench.heard(model.CancelKey) == key
        end = asyncio.create_task(asker.at_end())
        await asyncio.sleep(0.02)
        assert not end.done()
        bench.supervisor.send(model.CancelKey(pid=key.pid, secret=key.secret, done=True))
        assert await end

    run(body)


def test_a_closed_sessions_key_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoopfast.worker.cancels.ELSEWHERE_S", 0.05)      # nobody else knows the key either

    async def body(bench: Bench) -> None:
        key = await key_of(bench.connect())
        session = (await bench.heard(model.SessionOpened)).session
        await bench.closed(session, "upstream")
        assert (await bench.heard(model.SessionClosed)).reason == "upstream"
        asker = bench.connect()
        await asker.send(m.cancel_request(*key))
        assert await asker.at_end()
        assert not bench.relay.named("cancel")
        assert ("closed", session) in bench.desk.seen

    run(body)


# ---------------------------------------------------------------- the relay's events

def test_events_reach_the_desk() -> None:
    async def body(bench: Bench) -> None:
        _, session = await bench.session()
        bench.event("verdict", session, 7, "Q", 1, b"select 1", b"", b"", b"I")
        bench.event("probe", session, 7, b"frames")
        bench.event("withdrawn", session, 7)
        bench.event("segment")
        bench.event("sealed", "w1-1-0.seg")
        bench.event("catalog", session)
        bench.event("verdict", 12345, 1, "Q", 1, b"", b"", b"", b"I")      # of nobody
        bench.event("unheard of", session)
        await bench.heard(model.CatalogWanted)
        await until(lambda: len(bench.desk.seen) == 3)
        assert ("verdict", session, 7, "Q", b"select 1", b"", b"", b"I") in bench.desk.seen
        assert ("probe", session, 7, b"frames") in bench.desk.seen
        assert ("withdrawn", session, 7) in bench.desk.seen
        assert bench.journal.wanted == 1
        assert (await bench.heard(model.CatalogWanted)).changed

    run(body)


def test_a_verdict_that_fails_is_a_refusal() -> None:
    async def body(bench: Bench) -> None:
        async def broken(*_: Any) -> None:
            raise RuntimeError("a bug")

        bench.desk.on_verdict = broken
        _, session = await bench.session()
        bench.event("verdict", session, 3, "P", 1, b"select 1", b"", b"", b"I")
        await until(lambda: bench.relay.named("decide"))
        [(_, number, serial, action, more)] = bench.relay.named("decide")
        assert (number, serial, action, more["cache"]) == (session, 3, model.ACTION_DENY, False)
        assert m.parse_fields(more["error"][5:])["C"] == "XX000"

    run(body)


def test_a_closed_session_ends_its_verdicts() -> None:
    async def body(bench: Bench) -> None:
        ended: list[bool] = []

        async def for_ever(*_: Any) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append(True)
                raise

        bench.desk.on_verdict = for_ever
        _, session = await bench.session()
        bench.event("verdict", session, 3, "Q", 1, b"select 1", b"", b"", b"I")
        await until(lambda: bench.desk.seen)
        await bench.closed(session)
        await until(lambda: ended)
        assert not bench.relay.named("decide")

    run(body)


# ---------------------------------------------------------------- policy changes

def test_sessions_follow_the_policy() -> None:
    async def body(bench: Bench) -> None:
        _, session = await bench.session()
        bench.front.replan(bench.plan(2))
        await until(lambda: bench.relay.named("set_context"))
        assert bench.contexts.made[-1].version == 2
        bench.front.replan(bench.plan(3, {"access": []}))
        [(_, killed, fields, _)] = bench.relay.named("kill")
        assert (killed, fields["C"]) == (session, "57P01")
        client = bench.connect()
        await client.log_in()
        assert (await client.error())["C"] == "42501"

    run(body)


def test_a_removed_connection_ends_its_sessions() -> None:
    async def body(bench: Bench) -> None:
        await bench.session()
        bench.front.replan(bench.plan(2, connections=("other",)))
        assert "removed" in bench.relay.named("kill")[0][2]["M"]

    run(body)


def test_new_masks_end_sessions_that_were_never_pinned() -> None:
    async def body(bench: Bench) -> None:
        await bench.session()
        bench.front.replan(bench.plan(2, MASKED))
        await until(lambda: bench.relay.named("kill"))
        [(_, _, fields, when_idle)] = bench.relay.named("kill")
        assert when_idle
        assert "masks" in fields["M"]
        assert not bench.relay.named("set_context")

    run(body)


def test_masked_sessions_get_contexts_of_the_new_catalog_only() -> None:
    async def body(bench: Bench) -> None:
        await bench.session()
        bench.silent_catalog = True
        bench.front.replan(bench.plan(2, MASKED))
        await asyncio.sleep(0.02)
        assert not bench.relay.named("set_context"), "an old catalog does not know the new policy's tables"
        bench.send_catalog()
        await until(lambda: bench.relay.named("set_context"))
        assert bench.contexts.made[-1].version == 2
        assert len(bench.relay.named("set_context")) == 1
        bench.send_catalog()                        # DDL: a newer one arrives unasked
        await until(lambda: len(bench.relay.named("set_context")) == 2)
        bench.catalog = None
        bench.send_catalog()                        # not to be had just now: the old one stays
        await asyncio.sleep(0.02)
        assert not bench.relay.named("kill")

    run(body, policy=MASKED)


def test_a_catalog_of_another_policy_is_of_no_use() -> None:
    async def body(bench: Bench) -> None:
        await bench.session()
        bench.silent_catalog = True
        bench.front.replan(bench.plan(3, MASKED))
        bench.send_catalog(version=2)               # was on its way when the policy changed
        await asyncio.sleep(0.02)
        assert not bench.relay.named("set_context") and not bench.relay.named("kill")
        bench.send_catalog(version=3)
        await until(lambda: bench.relay.named("set_context"))
        bench.front.replan(bench.plan(4, MASKED))
        bench.send_catalog(version=5)               # of a policy that this worker has not: masks and tables differ
        await until(lambda: bench.relay.named("kill"))
        assert len(bench.relay.named("set_context")) == 1

    run(body, policy=MASKED)


def test_a_policy_that_cannot_be_applied_ends_the_session() -> None:
    async def body(bench: Bench) -> None:
        await bench.session()
        bench.catalog = None
        bench.front.replan(bench.plan(2, MASKED))
        await until(lambda: bench.relay.named("kill"))

    run(body, policy=MASKED)


@pytest.mark.parametrize(("policy", "code"), [(MASKED, ""), (OPEN, "57P03"), ({"access": []}, "42501")])
def test_a_login_ends_under_the_policy_in_force(policy: dict[str, Any], code: str) -> None:
    async def body(bench: Bench) -> None:
        bench.silent_catalog = True
        client = bench.connect()
        await client.log_in()
        await bench.heard(model.CatalogWanted)
        bench.front.replan(bench.plan(2, policy))
        await bench.heard(model.CatalogWanted, 2)
        bench.send_catalog()
        if code:
            assert (await refused(bench, client))["C"] == code
        else:
            await client.messages_until(b"Z")
            assert bench.contexts.made[-1].version == 2

    run(body, policy=MASKED)


# ---------------------------------------------------------------- the end

def test_sessions_end_with_their_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "TICK_S", 0.01)

    async def body(bench: Bench) -> None:
        bench.identity = model.Identity(user="a", subject="1", issuer="i", groups=("eng",), expires_at=1.0)
        await bench.session()
        await until(lambda: bench.relay.named("kill"))
        assert "expired" in bench.relay.named("kill")[0][2]["M"]
        assert bench.relay.named("kill")[0][3], "a transaction may finish first"
        bench.now += front_module.GRACE_S + 1
        await until(lambda: not bench.relay.named("kill")[-1][3])

    run(body)


def test_drain() -> None:
    async def body(bench: Bench) -> None:
        half = bench.connect()
        await half.send(m.startup_message(m.PROTOCOL_3_0, {"user": "ana"}))
        await half.message()
        _, session = await bench.session()
        draining = asyncio.create_task(bench.front.drain(0.05, "restarting"))
        assert (await half.error())["M"] == "restarting"
        late = bench.connect()
        assert await late.at_end()
        await until(lambda: len(bench.relay.named("kill")) == 2)
        assert [call[3] for call in bench.relay.named("kill")] == [True, False]
        assert not draining.done()
        await bench.closed(session, "killed")
        await asyncio.wait_for(draining, 1)

    run(body)


def test_ping_counts_sessions() -> None:
    async def body(bench: Bench) -> None:
        await bench.session()
        bench.supervisor.send(model.Ping(number=9))
        assert await bench.heard(model.Pong) == model.Pong(number=9, sessions=1)

    run(body)


def test_session_ids() -> None:
    ids = SessionIds(5)
    made = [ids.next(1_700_000_000.9) for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(number >> 32 == 1_700_000_000 and (number >> 24) & 0xFF == 5 for number in made)
    assert all(number < 1 << 63 for number in made)
    with pytest.raises(ValueError):
        SessionIds(256)
