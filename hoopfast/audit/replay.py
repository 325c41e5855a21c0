"""Runs a recorded session again on a sandbox database and says where it went differently. Used by `hoopfast replay`.

Statements go the way they came: simple ones as simple queries, others with their `$n` parameters. What was refused is
not run, what cannot be run (COPY from the client, function calls) is said. Each extended statement gets a Sync of its
own, so a pipeline that relied on one implicit transaction is replayed as several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from hoopfast.errors import GatewayError
from hoopfast.model import Frozen

SAME, DIFFERS, SKIPPED, UNRECORDED = "same", "differs", "skipped", "unrecorded"


class Target(Frozen, frozen=True):
    """Where a database is, for comparing; the host as written, in lower case."""

    host: str
    port: int
    database: str


class Result(Frozen, frozen=True):
    """What a statement led to; `sqlstate` is empty when it succeeded."""

    tag: str = ""
    rows: int = 0
    sqlstate: str = ""
    message: str = ""


class Step(Frozen, frozen=True):
    """One recorded statement. `status`: same | differs | skipped | unrecorded (it ran; its end then is not known)."""

    seq: int
    sql: str
    status: str
    why: str = ""
    recorded: Result = Result()
    replayed: Result | None = None


class Report(Frozen, frozen=True):
    """`same`, `differs`, ... count the steps."""

    session: str
    steps: tuple[Step, ...]
    same: int
    differs: int
    skipped: int
    unrecorded: int


class ForbiddenTarget(GatewayError):
    """The sandbox is one of the gateway's own upstreams."""


def refuse_upstream(dsn: str, upstreams: Iterable[Target]) -> None:
    """Raises ForbiddenTarget when the DSN names one of these databases. ValueError: it is no DSN."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as failure:
        raise ValueError(f"this is no PostgreSQL DSN: {failure}") from failure
    user = str(parts.get("user") or "")
    hosts = str(parts.get("hostaddr") or parts.get("host") or "localhost").split(",")
    ports = str(parts.get("port") or 5432).split(",")
    database = str(parts.get("dbname") or user)
    for i, host in enumerate(hosts):
        port = ports[i] if len(ports) == len(hosts) else ports[0]
        here = Target(host=_plain(host), port=int(port or 5432), database=database)
        for upstream in upstreams:
            if here == Target(host=_plain(upstream.host), port=upstream.port, database=upstream.database):
                raise ForbiddenTarget(
                    f"{host}:{port}/{database} is an upstream of this gateway; replay changes data. "
                    "Use a copy, or say --i-mean-it"
                )


def _plain(host: str) -> str:
    host = host.lower().rstrip(".")
    return "localhost" if host in {"", "127.0.0.1", "::1"} or host.startswith("127.") else host


def replay(
    events: Iterable[Mapping[str, Any]], connection: psycopg.Connection[Any], *, read_only: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> Report:
    """Run a session's statements in order. `connection` is in autocommit and used below its cursors.

    `read_only` sets default_transaction_read_only first, so writes fail with 25006 (and are reported as differing).
    Raises psycopg.OperationalError when the connection is lost.
    """
    pgconn = connection.pgconn
    if read_only:
        _run(pgconn, lambda: pgconn.send_query(b"SET default_transaction_read_only = on"))
    steps: list[Step] = []
    portals: set[str] = set()
    session = ""
    for event in sorted(events, key=lambda event: int(event["seq"])):
        session = str(event["session"])
        if event["event"] == "statement":
            step = _step(pgconn, event, portals)
            steps.append(step)
            if on_step is not None:
                on_step(step)
    statuses = [step.status for step in steps]
    counts = {status: statuses.count(status) for status in (SAME, DIFFERS, SKIPPED, UNRECORDED)}
    return Report(session=session, steps=tuple(steps), **counts)


def _step(pgconn: Any, event: Mapping[str, Any], portals: set[str]) -> Step:
    error = event.get("error") or {}
    recorded = Result(
        tag=event.get("tag") or "", rows=event.get("rows") or 0, sqlstate=error.get("sqlstate", ""),
        message=error.get("message", ""),
    )
    seq, sql = int(event["seq"]), str(event["sql"])
    why = _unfit(event, portals)
    if why:
        return Step(seq=seq, sql=sql, status=SKIPPED, why=why, recorded=recorded)
    replayed, copy_in = _run(pgconn, lambda: _send(pgconn, event))
    if copy_in:
        why = "the rows that the client copied in are not in the trail"
        return Step(seq=seq, sql=sql, status=SKIPPED, why=why, recorded=recorded)
    if event["outcome"] in {"unknown", "running"}:
        why = f"how it ended was not recorded ({event['outcome']})"
        return Step(seq=seq, sql=sql, status=UNRECORDED, why=why, recorded=recorded, replayed=replayed)
    partial = bool(event.get("row_limit"))
    why = _difference(recorded, replayed, partial)
    return Step(seq=seq, sql=sql, status=DIFFERS if why else SAME, why=why, recorded=recorded, replayed=replayed)


def _unfit(event: Mapping[str, Any], portals: set[str]) -> str:
    """Why this statement is not run, if so."""
    if event["outcome"] == "denied":
        return f"the gateway refused it ({event.get('rule') or event.get('verdict') or 'policy'})"
    if event["kind"] in {"function", "lost"} or not event["sql"]:
        return "its text is not in the trail" if event["kind"] != "function" else "a function call by number"
    if event["kind"] == "extended" and event.get("parameters") is None and event["sql"].find("$1") >= 0:
        return "its parameters are not in the trail"
    if event.get("row_limit"):
        portal = str(event.get("portal"))
        if portal in portals:
            if event["outcome"] != "suspended":
                portals.discard(portal)
            return "it went on with a portal that was run as a whole before"
        if event["outcome"] == "suspended":
            portals.add(portal)
    return ""


def _send(pgconn: Any, event: Mapping[str, Any]) -> None:
    sql = event["sql"].encode()
    if event["kind"] == "simple":
        pgconn.send_query(sql)
    elif event["kind"] == "parse":
        pgconn.send_prepare(b"hoopfast_replay", sql, event.get("parameter_types") or None)
    else:
        values, formats, types = [], [], list(event.get("parameter_types") or ())
        for i, value in enumerate(event.get("parameters") or ()):
            raw = isinstance(value, Mapping)
            formats.append(pq.Format.BINARY if raw else pq.Format.TEXT)
            values.append(bytes.fromhex(value["hex"][2:]) if raw else None if value is None else value.encode())
            if i >= len(types):
                types.append(0)
        pgconn.send_query_params(sql, values, types[: len(values)], formats)


def _run(pgconn: Any, send: Callable[[], None]) -> tuple[Result, bool]:
    """Everything one message leads to, as one result, and whether it asked for rows by COPY."""
    tags: list[str] = []
    rows, sqlstate, message, copy_in = 0, "", "", False
    send()
    while (result := pgconn.get_result()) is not None:
        if result.status == pq.ExecStatus.COPY_OUT:
            while pgconn.get_copy_data(0)[0] > 0:
                rows += 1
            continue
        if result.status == pq.ExecStatus.COPY_IN:
            copy_in = True
            pgconn.put_copy_end(b"hoopfast replay has no rows for this COPY")
            continue
        if result.status == pq.ExecStatus.FATAL_ERROR:
            sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
            message = said.decode("utf-8", "replace")
            if pgconn.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError(f"the sandbox closed the connection: {message}")
            continue
        rows += result.ntuples
        if result.command_status:
            tags.append(result.command_status.decode())
    return Result(tag="; ".join(tags), rows=rows, sqlstate=sqlstate, message=message), copy_in


def _difference(recorded: Result, replayed: Result, partial: bool) -> str:
    if recorded.sqlstate != replayed.sqlstate:
        was = f"failed with {recorded.sqlstate}" if recorded.sqlstate else "succeeded"
        now = f"fails with {replayed.sqlstate} ({replayed.message})" if replayed.sqlstate else "succeeds"
        return f"it {was} then and {now} now"
    if recorded.sqlstate or partial:
        return ""
    if recorded.tag != replayed.tag:
        return f"the command tag was {recorded.tag!r} and is {replayed.tag!r}"
    # COPY counts lines, which the tag says already.
    if recorded.rows != replayed.rows and not recorded.tag.startswith("COPY"):
        return f"it returned {recorded.rows} rows and returns {replayed.rows}"
    return ""
