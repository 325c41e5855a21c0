"""`hoopfast sessions`: who is connected, what one session did as a timeline, ending one."""

from __future__ import annotations

from typing import Any

import click

from hoopfast.cli.client import AdminClient, admin_options, segment
from hoopfast.cli.table import Column, dump, echo, is_piped
from hoopfast.cli.table import moment as clock

COLUMNS = (
    Column("session", 10), Column("user", 9, least=12), Column("where", 8, least=8), Column("started", 7),
    Column("lasted", 6), Column("statements", 5), Column("ended by", 2, least=8), Column("application", 4, least=10),
    Column("client", 3),
)
SQL_SHOWN = 2000
ROWS_SHOWN = 10


@click.group()
def command() -> None:
    """List sessions, show one as a timeline, end one."""


@command.command("list")
@admin_options
@click.option("--user", default="", help="Only this person's.")
@click.option("--connection", default="", help="Only those of this connection.")
@click.option("--live", is_flag=True, help="Only those that are open now.")
@click.option("--since", default="", help="Started after: 2026-01-31, or an age like 2h.")
@click.option("--limit", default=50, show_default=True, help="At most this many.")
@click.option("--json", "as_json", is_flag=True, help="The gateway's answer as it came.")
def list_sessions(
    client: AdminClient, user: str, connection: str, live: bool, since: str, limit: int, as_json: bool,
) -> None:
    """Sessions, newest first."""
    given = {"user": user, "connection": connection, "live": "true" if live else "", "since": since}
    answer = client.get("/sessions", **given, limit=limit)
    if as_json:
        click.echo(dump(answer))
        return
    empty = "no sessions match" if any(given.values()) else "no sessions yet"
    echo(COLUMNS, [_row(item) for item in answer["sessions"]], empty)


@command.command()
@click.argument("session")
@admin_options
@click.option("--results", is_flag=True, help="With the result rows that were kept.")
@click.option("--json", "as_json", is_flag=True, help="The gateway's answer as it came.")
def show(client: AdminClient, session: str, results: bool, as_json: bool) -> None:
    """One session from start to end."""
    answer = client.get(f"/sessions/{segment(session)}")
    if as_json:
        click.echo(dump(answer))
        return
    out = console()
    start: dict[str, Any] = next((event for event in answer["events"] if event["event"] == "session_start"), {})
    head = {**start, **{name: value for name, value in answer["session"].items() if value is not None}}
    out.print(f"[bold]session {plain(head.get('session'))}[/]")
    for name in ("user", "groups", "issuer", "method", "connection", "database", "role", "client", "application"):
        value = head.get(name) or (head.get("peer") if name == "client" else None)
        if value:
            out.print(f"  {name:<12}{plain(', '.join(value) if isinstance(value, list) else value)}")
    out.print()
    for event in answer["events"]:
        for line in timeline(event, results=results):
            out.print(line)


@command.command()
@click.argument("session")
@admin_options
@click.option("--reason", default="", help="Told to the client and kept in the audit trail.")
def kill(client: AdminClient, session: str, reason: str) -> None:
    """End a session now."""
    client.delete(f"/sessions/{segment(session)}", reason=reason)
    click.echo(f"session {session} is being ended")


# ---------------------------------------------------------------- how events look in a terminal (also for `audit`)

_COLOURS = {"complete": "green", "error": "red", "denied": "magenta", "suspended": "cyan", "unknown": "yellow"}


def console() -> Any:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def plain(value: Any) -> str:
    """Text of a stranger, safe for a terminal and for rich: no control characters, no markup."""
    from rich.markup import escape

    text = "" if value is None else str(value)
    return escape("".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text))


def timeline(event: dict[str, Any], *, results: bool = False, who: bool = False) -> list[str]:
    """One event as lines of rich markup; `who` puts session and user in front, for events of many sessions."""
    at = clock(event.get("at"))[11:] if not who else clock(event.get("at"))
    lead = f"[dim]{at}[/]  " + (f"{plain(event.get('session'))} {plain(event.get('user') or '-')}  " if who else "")
    kind = event["event"]
    if kind == "statement":
        return _statement(lead, event, results)
    if kind == "session_start":
        return [f"{lead}[bold]session starts[/] {plain(event.get('connection'))} from {plain(event.get('client'))}"]
    if kind == "session_end":
        return [f"{lead}[bold]session ends[/] ({plain(event.get('reason'))})"]
    detail = event.get("note") or event.get("fields") or {}
    title = event.get("action") or detail.get("event") or kind
    said = " ".join(f"{name}={value}" for name, value in detail.items() if name != "event" and value not in ("", None))
    return [f"{lead}[bold blue]{plain(title)}[/] {plain(said)}"]


def _statement(lead: str, event: dict[str, Any], results: bool) -> list[str]:
    outcome = str(event.get("outcome"))
    sql = str(event.get("sql"))
    shown = sql if len(sql) <= SQL_SHOWN else f"{sql[:SQL_SHOWN]}... ({len(sql)} characters)"
    lines = [f"{lead}[bold]{plain(shown.strip())}[/]"]
    if event.get("parameters"):
        values = ", ".join(f"${i} = {_value(value)}" for i, value in enumerate(event["parameters"], 1))
        lines.append(f"          {plain(values)}")
    facts = [event.get("tag") or "", f"{(event.get('duration_us') or 0) / 1000:.1f} ms"]
    if event.get("rows"):
        facts.append(f"{event['rows']} rows")
    if event.get("rule"):
        facts.append(f"rule {event['rule']}")
    if event.get("masks"):
        facts.append(f"masked {', '.join(map(str, event['masks']))}")
    if event.get("protected"):
        facts.append(f"sealed {', '.join(event['protected'])} (audit reveal {event['session']}/{event['seq']})")
    said = ", ".join(plain(fact) for fact in facts if fact)
    lines.append(f"          [{_COLOURS.get(outcome, 'white')}]{plain(outcome)}[/]  {said}")
    if event.get("error"):
        error = event["error"]
        lines.append(f"          {plain(error.get('sqlstate'))}: {plain(error.get('message'))}")
    if results:
        lines += [f"          {line}" for result in event.get("results") or () for line in _rows(result)]
    return lines


def _rows(result: dict[str, Any]) -> list[str]:
    lines = [plain(" | ".join(column["name"] for column in result["columns"]))] if result.get("columns") else []
    rows = result.get("rows") or [[line] for line in str(result.get("copy") or "").splitlines()]
    lines += [plain(" | ".join(_value(value) for value in row)) for row in rows[:ROWS_SHOWN]]
    if len(rows) > ROWS_SHOWN or result.get("truncated"):
        lines.append(f"... ({len(rows)} rows kept)")
    return lines


def _value(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"{value['hex']} (type {value['oid']})" if isinstance(value, dict) else str(value)


def _row(item: dict[str, Any]) -> tuple[Any, ...]:
    is_live = item.get("live", not item.get("ended_at"))
    started = clock(item.get("started_at"), seconds=is_piped())
    return (
        item.get("session"), item.get("user"), item.get("connection"), started,
        "open" if is_live else _lasted(item), "" if item.get("statements") is None else _counts(item),
        "" if is_live else item.get("reason"), item.get("application"), item.get("client") or item.get("peer"),
    )


def _lasted(item: dict[str, Any]) -> str:
    from datetime import datetime

    try:
        begin, end = (datetime.fromisoformat(str(item[name])[:19]) for name in ("started_at", "ended_at"))
    except (KeyError, ValueError):
        return "?"
    seconds = int((end - begin).total_seconds())
    for size, unit in ((172_800, "d"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds // {'d': 86_400, 'h': 3_600, 'min': 60}[unit]} {unit}"
    return f"{seconds} s"


def _counts(item: dict[str, Any]) -> str:
    more = [f"{item[name]} {said}" for name, said in (("errors", "failed"), ("denied", "denied")) if item.get(name)]
    return f"{item['statements']}" + (f" ({', '.join(more)})" if more else "")
