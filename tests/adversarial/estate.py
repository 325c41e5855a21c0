"""The stage: two worlds in one PostgreSQL, a gateway before both, and who sees what. Used by tests and `__main__`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from tests.adversarial.canaries import Canaries
from tests.adversarial.runner import Line
from tests.adversarial.worlds import MASKS, POLICY, SCHEMA, World
from tests.support import wire
from tests.support.enforced import ENFORCED, apply, remove
from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import MASKED_ROLE, PASSWORD, PostgresServer

READER = "app_trust"
ROLE = "app_clear"                  # the raw client knows cleartext passwords only
DATABASES = ("estate_a", "estate_b")
# Beside the columns of the policy: computed from them, their relatives, and what views show of them.
ALSO = {
    "people.ssn_upper", "people.ssn_words", "payments_2023.iban", "payments_2023.amount", "payments_2024.iban",
    "payments_2024.amount", "managers.pin", "people_view.ssn", "people_view.salary", "people_nested.number",
    "people_joined.email", "people_guarded.email", "people_mat.ssn", "people_mat.account",
}
ORIGINS = """
select c.relname || '.' || a.attname, c.oid::int8, a.attnum::int from pg_class c
join pg_attribute a on a.attrelid = c.oid where c.relnamespace = 'public'::regnamespace and a.attnum > 0"""
RESTART = "select setval('orders_id_seq', 1000), setval('tickets', 1000), setval('people_audit_n_seq', 1000)"


class Stage(msgspec.Struct):
    """`masked` are origins that a benign answer may differ in. `direct` and `worlds` are for raw connections."""

    gateway: Gateway
    server: PostgresServer
    canaries: Canaries
    masked: frozenset[tuple[int, int]]
    enforced: bool = False

    def through(self, world: int) -> Line:
        """A connection through the gateway, as somebody with masks."""
        def connect() -> wire.WireClient:
            client = wire.WireClient(self.gateway.port, timeout=20)
            client.login("alice", DATABASES[world], self.gateway.token("alice"))
            return client

        return Line(connect)

    def past(self, world: int) -> Line:
        """A connection to the server itself, with the rights that the gateway's role has.

        In enforced mode with those of the masked role, and hidden columns besides.
        """
        return self._direct(world, READER if self.enforced else ROLE)

    def masked_role(self, world: int) -> Line:
        """In enforced mode: as the gateway itself logs in for people with masks, but without the gateway."""
        return self._direct(world, MASKED_ROLE)

    @property
    def role(self) -> str:
        """Whose rights people with masks have."""
        return MASKED_ROLE if self.enforced else ROLE

    def _direct(self, world: int, role: str) -> Line:
        def connect() -> wire.WireClient:
            client = wire.WireClient(self.server.port, timeout=20)
            client.login(role, DATABASES[world], PASSWORD)
            return client

        return Line(connect)

    def repair(self, steps: list[str]) -> None:
        """Run `steps` in both worlds, past the gateway."""
        for name in DATABASES:
            with self.server.connect(name) as db:
                for step in steps:
                    db.execute(step)  # type: ignore[call-overload]  # text of our own


@contextlib.contextmanager
def stage(
    server: PostgresServer, issuer: TestIssuer, hidden: Sequence[dict[str, Any]] = (), *, enforced: bool = False
) -> Iterator[Stage]:
    """Both databases and a running gateway, whose policy turns these knobs.

    OIDs are equal in both: one is a copy of the other, made without rows. `enforced`: the gateway's role for people
    with masks may not read hidden columns.
    """
    worlds = [World(number) for number in range(2)]
    with contextlib.ExitStack() as stack:
        if enforced:
            stack.callback(remove, server)
        stack.enter_context(_databases(server, worlds))
        with server.connect(DATABASES[0]) as db:
            numbers = {name: (oid, attnum) for name, oid, attnum in db.execute(ORIGINS)}
        masked = frozenset(numbers[name] for name in {*MASKS, *ALSO})
        connections = {name: upstream_of(server, name, user=ROLE) for name in DATABASES}
        if enforced:
            connections = {name: connection | ENFORCED for name, connection in connections.items()}
        policy = POLICY | {"hidden": list(hidden)}
        gateway = Gateway(issuer, connections, policy=policy, config={"listen": {"workers": 1}})
        if enforced:
            for name in DATABASES:
                apply(server, gateway, name, name)
                _let_read(server, name)
        stack.enter_context(gateway)
        canaries = Canaries((column, value) for world in worlds for column, values in world.secrets.items()
                            for value in values)
        yield Stage(gateway, server, canaries, masked, enforced)


def _let_read(server: PostgresServer, database: str) -> None:
    """What the masked role may do, with hidden columns."""
    with server.connect(database) as db:
        for statement in (
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, hr TO {}",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {}", "GRANT USAGE ON SCHEMA public, hr TO {}",
        ):
            db.execute(sql.SQL(statement).format(sql.Identifier(READER)))


@contextlib.contextmanager
def _databases(server: PostgresServer, worlds: list[World]) -> Iterator[None]:
    with server.connect() as db:
        for name in DATABASES:
            db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        db.execute(_create(DATABASES[0], "template1"))
        with _owner(server, DATABASES[0]) as owner:
            owner.execute(SCHEMA.read_text())  # type: ignore[call-overload]  # text of our own
        db.execute(_create(DATABASES[1], DATABASES[0]))
    try:
        for name, world in zip(DATABASES, worlds, strict=True):
            with _owner(server, name) as owner:
                world.fill(owner)
        yield
    finally:
        with server.connect() as db:
            for name in DATABASES:
                db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _create(name: str, template: str) -> sql.Composed:
    statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
    return statement.format(sql.Identifier(name), sql.Identifier(ROLE), sql.Identifier(template))


@contextlib.contextmanager
def _owner(server: PostgresServer, database: str) -> Iterator[psycopg.Connection[Any]]:
    with server.connect(database) as db:
        db.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(ROLE)))
        yield db
