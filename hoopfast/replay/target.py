"""The sandbox: how to log in to it, and that it is none of the databases that this gateway guards.

Names lie (DNS, pools, tunnels), so servers are compared by what they say of themselves too: the system identifier and
the moment in which they started, which no copy shares.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from typing import Any

import msgspec
import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from hoopfast import config
from hoopfast.errors import GatewayError

CONNECT_S = 10
ASK_S = 5
_TLS = {"disable": "disable", "allow": "prefer", "prefer": "prefer", "require": "require", "verify-ca": "verify-ca",
        "verify-full": "verify-full"}
_IDENTITY = (
    "SELECT pg_catalog.pg_postmaster_start_time()::text, pg_catalog.current_database(), "
    "pg_catalog.pg_is_in_recovery()::text, pg_catalog.current_setting('server_version'), "
    "pg_catalog.host(pg_catalog.inet_server_addr()), pg_catalog.inet_server_port()")
_SYSTEM = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"


class ForbiddenTarget(GatewayError):
    """The sandbox is one of the gateway's own upstreams, or the gateway."""


class Place(msgspec.Struct, frozen=True):
    """Where a database is said to be, and what the configuration calls it."""

    name: str
    host: str
    port: int
    database: str                       # "" for any


class Identity(msgspec.Struct, frozen=True):
    """What a server says of itself. `system` is "" where the role may not ask, `address` over a Unix socket."""

    started: str
    database: str
    system: str = ""
    version: str = ""
    is_standby: bool = False
    address: str = ""
    port: int = 0

    def is_same(self, other: Identity) -> bool:
        """The same running server and database. A copy made from files has the same system identifier too."""
        same_system = not (self.system and other.system) or self.system == other.system
        return self.started == other.started and self.database == other.database and same_system

    def is_at(self, place: Place) -> bool:
        """Whether the address at which the server itself was reached is this place, whatever way led there."""
        return bool(self.address) and self.port == place.port and self.database == place.database and bool(
            _addresses(self.address) & _addresses(place.host))


class Sandbox(msgspec.Struct, frozen=True):
    """A target that libpq could reach, with everything that our own login needs."""

    upstream: config.Upstream
    password: str
    options: str
    identity: Identity
    shown: str                          # without credentials


def refuse_by_name(dsn: str, places: Iterable[Place]) -> None:
    """Raises ForbiddenTarget when the DSN names one of these places, also by another name of the same address.

    ValueError: it is no DSN. Asks the resolver, and nobody else.
    """
    parts = _parts(dsn)
    hosts = (parts["hostaddr"] or parts["host"] or "localhost").split(",")
    ports = (parts["port"] or "5432").split(",")
    database = parts["dbname"] or parts["user"]
    for i, host in enumerate(hosts):
        port = int((ports[i] if len(ports) == len(hosts) else ports[0]) or 5432)
        for place in places:
            if port == place.port and place.database in {"", database} and _addresses(host) & _addresses(place.host):
                raise forbidden(f"{host}:{port}/{database}", place.name)


def forbidden(shown: str, name: str) -> ForbiddenTarget:
    return ForbiddenTarget(
        f"{shown} is {name}; replay changes data. Use a copy of the database, or say --i-mean-it")


def reach(dsn: str) -> Sandbox:
    """Connect once as libpq does, with its defaults, services and password files. psycopg.Error when it cannot."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_S, application_name="hoopfast replay") as db:
        identity = identify(db)
        given = {
            option.keyword.decode(): (option.val or b"").decode() for option in db.pgconn.info
        }
        mode = given.get("sslmode") or "prefer"
        host = given.get("hostaddr") if given.get("hostaddr") and mode != "verify-full" else ""
        upstream = config.Upstream(
            host=host or db.info.host or "localhost", port=db.info.port, database=db.info.dbname, user=db.info.user,
            tls=_TLS.get(mode, "prefer"),  # type: ignore[arg-type]  # one of its words
            ca=_file(given.get("sslrootcert")), cert=_file(given.get("sslcert")), key=_file(given.get("sslkey")),
        )
        return Sandbox(
            upstream, db.info.password, given.get("options", ""), identity,
            f"{upstream.host}:{upstream.port}/{upstream.database}")


def identify(db: psycopg.Connection[Any]) -> Identity:
    row = db.execute(_IDENTITY).fetchone()
    assert row is not None                              # a SELECT without FROM
    started, database, standby, version, address, port = row
    try:
        (system,) = db.execute(_SYSTEM).fetchone() or ("",)
    except psycopg.Error:
        system = ""
    return Identity(
        str(started), str(database), str(system), str(version), standby == "true", address or "", int(port or 0))


def identify_upstream(upstream: config.Upstream, password: str) -> Identity | None:
    """None when it cannot be asked: then names and addresses have to do."""
    options: dict[str, Any] = {
        "host": upstream.host, "port": upstream.port, "dbname": upstream.database, "user": upstream.user,
        "password": password, "sslmode": upstream.tls, "sslrootcert": upstream.ca, "sslcert": upstream.cert,
        "sslkey": upstream.key,
    }
    try:
        with psycopg.connect(
            **{name: value for name, value in options.items() if value}, autocommit=True, connect_timeout=ASK_S,
            application_name="hoopfast replay", options="-c default_transaction_read_only=on",
        ) as db:
            return identify(db)
    except psycopg.Error:
        return None


def _parts(dsn: str) -> dict[str, str]:
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as failure:
        raise ValueError(f"this is no PostgreSQL DSN: {failure}") from failure
    # What the DSN leaves out comes from the environment, as for every client.
    usual = {option.keyword.decode(): (option.val or b"").decode() for option in pq.Conninfo.get_defaults()}
    names = ("host", "hostaddr", "port", "dbname", "user")
    return {name: str(given.get(name) or usual.get(name) or "") for name in names}


def _addresses(host: str) -> set[str]:
    """Everything that this host could be called: its name, its addresses; one word for all of this machine."""
    host = host.lower().rstrip(".")
    found = {host}
    if host.startswith("/") or not host:
        return {"localhost"}
    with contextlib.suppress(OSError, UnicodeError):
        found |= {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    if any(one in {"localhost", "::1"} or one.startswith("127.") for one in found):
        found.add("localhost")
    return found


def _file(path: str | None) -> str:
    return path if path and path != "system" else ""
