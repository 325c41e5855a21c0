"""ControlStore: the control state behind synchronous, thread-safe methods, each of them one short transaction.

Called by the supervisor (in threads: a commit may wait for the disk). Losing a revocation or an approval to a power cut
would open a door, so those commits are synced; the list of sessions is rebuilt at every start and is not.
"""
# ruff: noqa: A002  (`id` is what every row calls it)

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy.engine import Connection, RowMapping

from hoopfast.errors import GatewayError
from hoopfast.model import Identity, SessionOpened
from hoopfast.store.rows import (
    APPROVED,
    EXPIRED,
    REJECTED,
    USED,
    WAITING,
    WITHDRAWN,
    ApprovalRow,
    PolicyRow,
    SecretRow,
    SessionRow,
)
from hoopfast.store.tables import approvals, pins, policies, secrets, sessions

TOUCH_EVERY_S = 60.0                    # a login per second must not become a write per second
SESSIONS_KEPT_S = 30 * 86400.0          # ended sessions stay listed that long; the audit store keeps them for good
APPROVALS_LISTED_MAX = 1000             # of those that wait no more
MIGRATION_LOCK = 0x686F6F70             # PostgreSQL advisory lock: several gateways may start at once

_CLOSES = {WITHDRAWN: (WAITING, APPROVED), EXPIRED: (WAITING, APPROVED), USED: (APPROVED,)}


class VoteRefused(GatewayError):
    """A vote that does not count. `reason`: "unknown" | "not_waiting" | "own_request" | "already_voted"."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def store_url(store: str, state_dir: str) -> str:
    """SQLAlchemy's URL for the configuration's `store`: "sqlite" (a file in state_dir), sqlite:///..., postgresql://..."""
    if store == "sqlite":
        return f"sqlite:///{Path(state_dir) / 'hoopfast.db'}"
    for scheme in ("postgresql://", "postgres://"):
        if store.startswith(scheme):
            return "postgresql+psycopg://" + store[len(scheme):]
    return store


class ControlStore:
    """Open it once per process, call `migrate` before anything else."""

    def __init__(self, url: str) -> None:
        self._url = sa.engine.make_url(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        if self._sqlite and self._url.database:
            # Created by us so that nobody else can read it; SQLite gives its -wal and -shm the same mode.
            os.close(os.open(self._url.database, os.O_CREAT | os.O_RDWR, 0o600))
        self._engine = sa.create_engine(self._url, pool_pre_ping=not self._sqlite, hide_parameters=True)
        if self._sqlite:
            sa.event.listen(self._engine, "connect", _sqlite_connect)
            sa.event.listen(self._engine, "begin", _sqlite_begin)

    def migrate(self) -> None:
        """Bring the tables to this version's shape; harmless when they have it already."""
        config = AlembicConfig()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
        with self._write() as db:
            if not self._sqlite:
                db.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            config.attributes["connection"] = db
            command.upgrade(config, "head")

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _transaction(self, mode: str) -> Iterator[Connection]:
        with self._engine.connect().execution_options(hoopfast_mode=mode) as db, db.begin():
            yield db

    def _read(self) -> Any:
        return self._transaction("read")

    def _write(self) -> Any:
        return self._transaction("write")

    # ------------------------------------------------------------ secrets

    def add_secret(
        self, id: str, digest: bytes, user: str, groups: tuple[str, ...], label: str, created_by: str,
        created_at: float, expires_at: float,
    ) -> None:
        """Keep a new secret's digest. Raises GatewayError when id or digest exist already."""
        row = {
            "id": id, "digest": digest, "user": user, "groups": _dump(groups), "label": label,
            "created_by": created_by, "created_at": created_at, "expires_at": expires_at,
            "revoked_at": 0.0, "revoked_by": "", "last_used_at": 0.0,
        }
        try:
            with self._write() as db:
                db.execute(secrets.insert().values(**row))
        except sa.exc.IntegrityError:
            raise GatewayError(f"the secret {id} exists already; make another one") from None

    def find_secret(self, digest: bytes) -> SecretRow | None:
        """By digest, revoked and expired ones included: the caller asks `SecretRow.state`."""
        with self._read() as db:
            row = db.execute(sa.select(secrets).where(secrets.c.digest == digest)).mappings().first()
        return _secret(row) if row else None

    def list_secrets(self) -> list[SecretRow]:
        """All of them, newest first."""
        with self._read() as db:
            found = db.execute(sa.select(secrets).order_by(secrets.c.created_at.desc(), secrets.c.id)).mappings().all()
        return [_secret(row) for row in found]

    def revoke_secret(self, id: str, by: str, at: float) -> bool:
        """False: there is no such secret, or it was revoked before."""
        change = secrets.update().where(secrets.c.id == id, secrets.c.revoked_at == 0.0)
        with self._write() as db:
            return bool(db.execute(change.values(revoked_at=at, revoked_by=by)).rowcount)

    def touch_secret(self, id: str, at: float) -> None:
        """Note that it was used; at most one write a minute."""
        stale = sa.and_(secrets.c.id == id, secrets.c.last_used_at < at - TOUCH_EVERY_S)
        with self._read() as db:
            if db.execute(sa.select(secrets.c.id).where(stale)).first() is None:
                return
        with self._transaction("quick") as db:
            db.execute(secrets.update().where(stale).values(last_used_at=at))

    # ------------------------------------------------------------ pins

    def pin_identity(self, user: str, issuer: str, subject: str) -> bool:
        """Tie a user name to the first (issuer, subject) that came with it; False when it is tied to another one."""
        key = user.casefold()
        query = sa.select(pins.c.issuer, pins.c.subject).where(pins.c.user == key)
        with self._read() as db:
            held = db.execute(query).first()
        if held is None:
            try:
                with self._write() as db:
                    db.execute(pins.insert().values(user=key, issuer=issuer, subject=subject, pinned_at=time.time()))
                return True
            except sa.exc.IntegrityError:
                with self._read() as db:
                    held = db.execute(query).one()
        return (held.issuer, held.subject) == (issuer, subject)

    # ------------------------------------------------------------ approvals

    def open_approval(self, row: ApprovalRow) -> None:
        """Store a new request before anybody hears of it."""
        values = msgspec.structs.asdict(row)
        values["session"] = f"{row.session:016x}"
        for name in ("parameters", "approver_groups", "votes"):
            values[name] = _dump(values[name])
        with self._write() as db:
            db.execute(approvals.insert().values(**values))

    def approval(self, id: str) -> ApprovalRow | None:
        with self._read() as db:
            row = db.execute(sa.select(approvals).where(approvals.c.id == id)).mappings().first()
        return _approval(row) if row else None

    def list_approvals(self, state: str | None) -> list[ApprovalRow]:
        """Newest first; None: in every state. Waiting ones are all there, of the others the latest."""
        query = sa.select(approvals).order_by(approvals.c.created_at.desc(), approvals.c.id)
        if state != "waiting":
            query = query.limit(APPROVALS_LISTED_MAX)
        if state is not None:
            query = query.where(approvals.c.state == state)
        with self._read() as db:
            return [_approval(row) for row in db.execute(query).mappings().all()]

    def vote(self, id: str, reviewer: str, subject: str, approve: bool, reason: str, at: float) -> ApprovalRow:
        """Count one vote and return the request as it stands now.

        Approved when `needed` distinct people said yes, rejected at the first no. Whether the reviewer is in the
        approver groups is the caller's business. Raises VoteRefused.
        """
        with self._write() as db:
            query = sa.select(approvals).where(approvals.c.id == id).with_for_update()
            found = db.execute(query).mappings().first()
            if found is None:
                raise VoteRefused("unknown", f"there is no approval request {id}; `hoopfast approvals list` shows them")
            row = _approval(found)
            _check_vote(row, reviewer, subject, at)
            ballot = {"reviewer": reviewer, "subject": subject, "approve": approve, "reason": reason, "at": at}
            votes = (*row.votes, ballot)
            state = WAITING
            if not approve:
                state = REJECTED
            elif sum(1 for v in votes if v["approve"]) >= row.needed:
                state = APPROVED
            decided = at if state != WAITING else 0.0
            change = approvals.update().where(approvals.c.id == id)
            db.execute(change.values(state=state, votes=_dump(votes), decided_at=decided))
        return msgspec.structs.replace(row, state=state, votes=votes, decided_at=decided)

    def close_approval(self, id: str, state: str, at: float) -> bool:
        """withdrawn | expired (from waiting or approved) or used (from approved, once); False: it was not in one."""
        change = approvals.update().where(approvals.c.id == id, approvals.c.state.in_(_CLOSES[state]))
        with self._write() as db:
            return bool(db.execute(change.values(state=state, decided_at=at)).rowcount)

    def expire_approvals(self, now: float) -> list[ApprovalRow]:
        """Close every waiting request whose time is over, and return those."""
        due = sa.and_(approvals.c.state == WAITING, approvals.c.expires_at <= now)
        with self._read() as db:
            if db.execute(sa.select(approvals.c.id).where(due).limit(1)).first() is None:
                return []
        with self._write() as db:
            found = db.execute(sa.select(approvals).where(due).with_for_update()).mappings().all()
            rows = [_approval(row) for row in found]
            ids = [row.id for row in rows]
            db.execute(approvals.update().where(approvals.c.id.in_(ids)).values(state=EXPIRED, decided_at=now))
        return [msgspec.structs.replace(row, state=EXPIRED, decided_at=now) for row in rows]

    # ------------------------------------------------------------ sessions

    def session_opened(self, opened: SessionOpened, worker: int) -> None:
        row = {
            "session": f"{opened.session:016x}", "worker": worker,
            "identity": _dump(msgspec.to_builtins(opened.identity)),
            "connection": opened.connection, "database": opened.database, "role": opened.role, "peer": opened.peer,
            "application": opened.application, "tls": opened.tls, "started_at": opened.started_at, "ended_at": 0.0,
            "reason": "",
        }
        with self._transaction("quick") as db:
            db.execute(sessions.insert().values(**row))

    def session_closed(self, id: int, at: float, reason: str) -> None:
        """Harmless for a session that is unknown or closed already."""
        open_one = sa.and_(sessions.c.session == f"{id:016x}", sessions.c.ended_at == 0.0)
        with self._transaction("quick") as db:
            db.execute(sessions.update().where(open_one).values(ended_at=at, reason=reason))

    def live_sessions(self) -> list[SessionRow]:
        """Oldest first."""
        query = sa.select(sessions).where(sessions.c.ended_at == 0.0)
        query = query.order_by(sessions.c.started_at, sessions.c.session)
        with self._read() as db:
            return [_session(row) for row in db.execute(query).mappings().all()]

    def close_orphans(self, at: float) -> int:
        """At start: sessions that an earlier process left open have ended with it. Returns how many; drops old ones."""
        with self._transaction("quick") as db:
            old = sa.and_(sessions.c.ended_at > 0.0, sessions.c.ended_at < at - SESSIONS_KEPT_S)
            db.execute(sessions.delete().where(old))
            change = sessions.update().where(sessions.c.ended_at == 0.0).values(ended_at=at, reason="gateway")
            return int(db.execute(change).rowcount)

    # ------------------------------------------------------------ policy history

    def policy_accepted(self, version: int, at: float, digest: str, source_text: str) -> None:
        with self._write() as db:
            db.execute(policies.insert().values(version=version, accepted_at=at, digest=digest, source=source_text))

    def policy_history(self) -> list[PolicyRow]:
        """Newest first."""
        with self._read() as db:
            found = db.execute(sa.select(policies).order_by(policies.c.id.desc())).mappings().all()
        return [
            PolicyRow(version=r["version"], accepted_at=r["accepted_at"], digest=r["digest"], source=r["source"])
            for r in found
        ]


def _check_vote(row: ApprovalRow, reviewer: str, subject: str, at: float) -> None:
    if row.state != WAITING:
        raise VoteRefused("not_waiting", f"request {row.id} is {row.state} already; nothing is left to decide")
    if row.expires_at and row.expires_at <= at:
        raise VoteRefused("not_waiting", f"request {row.id} has expired; the requester has to run the statement again")
    if _same_person(reviewer, subject, row.requester, row.requester_subject):
        raise VoteRefused("own_request", f"{reviewer} asked for {row.id} and cannot decide it; somebody else has to")
    if any(_same_person(reviewer, subject, v["reviewer"], v["subject"]) for v in row.votes):
        raise VoteRefused("already_voted", f"{reviewer} has voted on {row.id} before; another approver has to")


def _same_person(name: str, subject: str, other_name: str, other_subject: str) -> bool:
    # Either match counts: a person with a token and a secret has two subjects, one renamed has two names.
    return name.casefold() == other_name.casefold() or bool(subject and subject == other_subject)


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def _secret(row: RowMapping) -> SecretRow:
    fields = {name: row[name] for name in SecretRow.__struct_fields__}
    return SecretRow(**{**fields, "groups": tuple(orjson.loads(row["groups"]))})


def _approval(row: RowMapping) -> ApprovalRow:
    fields = {name: row[name] for name in ApprovalRow.__struct_fields__}
    fields["session"] = int(row["session"], 16)
    for name in ("parameters", "approver_groups", "votes"):
        fields[name] = tuple(orjson.loads(row[name]))
    return ApprovalRow(**fields)


def _session(row: RowMapping) -> SessionRow:
    fields = {name: row[name] for name in SessionRow.__struct_fields__}
    fields["session"] = int(row["session"], 16)
    fields["identity"] = msgspec.convert(orjson.loads(row["identity"]), Identity)
    return SessionRow(**fields)


def _sqlite_connect(connection: Any, _record: object) -> None:
    # The driver's own transaction control begins too late for read-then-write; _sqlite_begin does it.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA busy_timeout=10000")
    connection.execute("PRAGMA foreign_keys=ON")


def _sqlite_begin(db: Connection) -> None:
    mode = db.get_execution_options().get("hoopfast_mode", "write")
    if mode == "read":
        db.exec_driver_sql("BEGIN")
        return
    db.exec_driver_sql(f"PRAGMA synchronous={'NORMAL' if mode == 'quick' else 'FULL'}")
    db.exec_driver_sql("BEGIN IMMEDIATE")
