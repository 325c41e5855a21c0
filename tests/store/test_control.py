"""The control store on a SQLite file: who may vote, what expires, what survives."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from hoopfast.errors import GatewayError
from hoopfast.model import Identity, SessionOpened
from hoopfast.store.control import ControlStore, VoteRefused, store_url
from hoopfast.store.rows import ApprovalRow
from hoopfast.store.tables import metadata


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ControlStore]:
    opened = ControlStore(store_url("sqlite", str(tmp_path)))
    opened.migrate()
    yield opened
    opened.close()


def request_row(name: str = "a1", **changes: Any) -> ApprovalRow:
    row = ApprovalRow(
        id=name, session=0xF000_0000_0000_0001, requester="ana@example.com", requester_subject="sub-ana",
        requester_issuer="okta", connection="orders", peer="127.0.0.1:5", application="psql", rule="destructive",
        sql="DROP TABLE t", parameters=("1", None), approver_groups=("dba",), needed=1, created_at=100.0,
        expires_at=1000.0,
        role="svc", catalog_epoch=7,
    )
    return msgspec.structs.replace(row, **changes)


def test_migrations_give_exactly_the_tables(store: ControlStore) -> None:
    store.migrate()
    with store._engine.connect() as db:
        assert compare_metadata(MigrationContext.configure(db), metadata) == []


def test_file_is_private(store: ControlStore, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "hoopfast.db").stat().st_mode) == 0o600
    with sqlite3.connect(tmp_path / "hoopfast.db") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_urls() -> None:
    assert store_url("postgresql://u@h/d", "/s") == "postgresql+psycopg://u@h/d"
    assert store_url("sqlite", "/s") == "sqlite:////s/hoopfast.db"


def test_secret_life(store: ControlStore) -> None:
    store.add_secret("s1", b"d1", "ana", ("eng", "ops"), "laptop", "root", 10.0, 500.0)
    row = store.find_secret(b"d1")
    assert row is not None
    assert row.groups == ("eng", "ops")
    assert (row.state(100.0), row.state(500.0)) == ("active", "expired")
    assert store.find_secret(b"d2") is None
    assert store.revoke_secret("s1", "root", 60.0) is True
    assert store.revoke_secret("s1", "root", 61.0) is False
    assert store.revoke_secret("nope", "root", 61.0) is False
    row = store.find_secret(b"d1")
    assert row is not None
    assert (row.state(70.0), row.revoked_at) == ("revoked", 60.0)
    assert "d1" not in repr(store.list_secrets())


def test_secret_twice_is_refused_without_its_digest(store: ControlStore) -> None:
    store.add_secret("s1", b"topsecret", "ana", (), "", "root", 10.0, 0.0)
    with pytest.raises(GatewayError) as caught:
        store.add_secret("s2", b"topsecret", "bob", (), "", "root", 10.0, 0.0)
    assert "topsecret" not in str(caught.value)


def test_touch_writes_once_a_minute(store: ControlStore) -> None:
    store.add_secret("s1", b"d1", "ana", (), "", "root", 10.0, 0.0)
    for at in (1000.0, 1030.0, 1059.0):
        store.touch_secret("s1", at)
    assert store.list_secrets()[0].last_used_at == 1000.0
    store.touch_secret("s1", 1061.0)
    assert store.list_secrets()[0].last_used_at == 1061.0


def test_pin_holds_the_first_subject(store: ControlStore) -> None:
    assert store.pin_identity("Ana@example.com", "okta", "1")
    assert store.pin_identity("ana@example.com", "okta", "1")
    assert not store.pin_identity("ana@example.com", "okta", "2")
    assert not store.pin_identity("ana@example.com", "other", "1")


def test_approval_round_trip(store: ControlStore) -> None:
    store.open_approval(request_row())
    assert store.approval("a1") == request_row()
    assert store.approval("a2") is None
    assert [row.id for row in store.list_approvals("waiting")] == ["a1"]
    assert store.list_approvals("approved") == []
    assert len(store.list_approvals(None)) == 1


def test_two_approvers_needed(store: ControlStore) -> None:
    store.open_approval(request_row(needed=2))
    assert store.vote("a1", "bob", "sub-bob", True, "ok", 200.0).state == "waiting"
    for name, subject in (("bob", "other"), ("robert", "sub-bob")):
        with pytest.raises(VoteRefused) as caught:
            store.vote("a1", name, subject, True, "", 201.0)
        assert caught.value.reason == "already_voted"
    done = store.vote("a1", "cleo", "sub-cleo", True, "fine", 202.0)
    assert (done.state, done.decided_at) == ("approved", 202.0)
    assert store.approval("a1") == done


def test_first_no_rejects(store: ControlStore) -> None:
    store.open_approval(request_row(needed=2))
    assert store.vote("a1", "bob", "b", False, "not on Friday", 200.0).state == "rejected"
    with pytest.raises(VoteRefused) as caught:
        store.vote("a1", "cleo", "c", True, "", 201.0)
    assert caught.value.reason == "not_waiting"


@pytest.mark.parametrize(("name", "subject"), [("ANA@example.com", "x"), ("admin", "sub-ana")])
def test_requester_cannot_vote(store: ControlStore, name: str, subject: str) -> None:
    store.open_approval(request_row())
    with pytest.raises(VoteRefused, match="cannot decide it") as caught:
        store.vote("a1", name, subject, True, "", 200.0)
    assert caught.value.reason == "own_request"
    assert store.approval("a1") == request_row()


def test_late_and_unknown_votes(store: ControlStore) -> None:
    store.open_approval(request_row())
    with pytest.raises(VoteRefused, match="expired"):
        store.vote("a1", "bob", "b", True, "", 1000.0)
    with pytest.raises(VoteRefused) as caught:
        store.vote("zz", "bob", "b", True, "", 10.0)
    assert caught.value.reason == "unknown"


def test_used_only_once_and_only_when_approved(store: ControlStore) -> None:
    store.open_approval(request_row())
    assert not store.close_approval("a1", "used", 150.0)
    store.vote("a1", "bob", "b", True, "", 200.0)
    assert store.close_approval("a1", "used", 201.0)
    assert not store.close_approval("a1", "used", 202.0)
    assert not store.close_approval("a1", "withdrawn", 203.0)


def test_expiry_takes_only_waiting_ones_in_time(store: ControlStore) -> None:
    store.open_approval(request_row("a1"))
    store.open_approval(request_row("a2", expires_at=2000.0))
    store.open_approval(request_row("a3"))
    store.vote("a3", "bob", "b", True, "", 200.0)
    assert store.expire_approvals(999.0) == []
    assert [(row.id, row.state) for row in store.expire_approvals(1000.0)] == [("a1", "expired")]
    assert [row.id for row in store.list_approvals("waiting")] == ["a2"]


def test_concurrent_votes_count_each_once(store: ControlStore) -> None:
    store.open_approval(request_row(needed=8))
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda n: store.vote("a1", f"u{n}", f"s{n}", True, "", 200.0), range(8)))
    assert [row.state for row in rows].count("approved") == 1
    final = store.approval("a1")
    assert final is not None
    assert len(final.votes) == 8


def test_sessions(store: ControlStore) -> None:
    who = Identity(user="ana", subject="s", issuer="okta", groups=("eng",))
    for number in (2**63 + 5, 7):
        store.session_opened(SessionOpened(
            session=number, identity=who, connection="orders", database="orders", role="svc", peer="p",
            application="psql", tls=True, started_at=float(number % 100)), worker=1)
    assert [row.session for row in store.live_sessions()] == [7, 2**63 + 5]
    assert store.live_sessions()[0].identity == who
    store.session_closed(7, 50.0, "client")
    store.session_closed(7, 60.0, "killed")
    store.session_closed(12345, 60.0, "killed")
    assert [row.session for row in store.live_sessions()] == [2**63 + 5]
    assert store.close_orphans(70.0) == 1
    assert store.live_sessions() == []


def test_policy_history(store: ControlStore) -> None:
    store.policy_accepted(1, 10.0, "aa", "rules: []\n")
    store.policy_accepted(2, 20.0, "bb", "rules: [x]\n")
    assert [(row.version, row.digest) for row in store.policy_history()] == [(2, "bb"), (1, "aa")]


def test_state_survives_reopening(store: ControlStore, tmp_path: Path) -> None:
    store.open_approval(request_row())
    again = ControlStore(store_url("sqlite", str(tmp_path)))
    again.migrate()
    assert again.approval("a1") == request_row()
    again.close()
