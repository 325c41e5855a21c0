"""`hoopfast audit`: search, export and follow the audit trail (its proof: cli/proof.py)."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from hoopfast.cli import proof
from hoopfast.cli.client import AdminClient, admin_options

F = TypeVar("F", bound=Callable[..., Any])

CSV_COLUMNS = (
    "at", "session", "seq", "event", "user", "connection", "client", "application", "kind", "sql", "parameters",
    "verdict", "rule", "outcome", "tag", "rows", "bytes", "duration_us", "sqlstate", "message",
)
_FILTERS = {
    "user": "Who.",
    "connection": "Where.",
    "session": "One session.",
    "text": "Words of the SQL, from their beginning.",
    "table": "A table, with or without its schema.",
    "verdict": "allow | deny | approve.",
    "rule": "The policy rule that matched.",
    "outcome": "complete | error | denied | suspended | unknown.",
    "sqlstate": "The error's code.",
    "event": "statement | session_start | session_end | note | gateway.",
    "since": "Not before: 2026-01-31, 2026-01-31T12:00Z, or an age like 15m, 2h, 7d.",
    "until": "Before: the same.",
}


def filters(function: F) -> F:
    """Adds an option per filter and passes those that were given as `given`."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _FILTERS}
        return function(*args, given={name: value for name, value in given.items() if value}, **options)

    made: Any = wrapped
    for name, text in reversed(_FILTERS.items()):
        made = click.option(f"--{name}", default="", help=text)(made)
    return made  # type: ignore[no-any-return]


@click.group()
def command() -> None:
    """Search, export and follow the audit trail, and prove that it is whole."""


for verb in (proof.verify, proof.prove, proof.keys, proof.checkpoints):
    command.add_command(verb)


@command.command()
@admin_options
@filters
@click.option("--limit", default=50, show_default=True, help="At most this many.")
@click.option("--results", is_flag=True, help="With the result rows that were kept.")
@click.option("--json", "as_json", is_flag=True, help="The gateway's answer as it came.")
def search(client: AdminClient, given: dict[str, str], limit: int, results: bool, as_json: bool) -> None:
    """Events that match all filters, newest first."""
    from hoopfast.cli.sessions import console, timeline
    from hoopfast.cli.table import dump

    answer = client.get("/audit/search", **given, limit=limit)
    if as_json:
        click.echo(dump(answer))
        return
    out = console()
    for event in answer["events"]:
        for line in timeline(event, results=results, who=True):
            out.print(line)
    if not answer["events"]:
        click.echo("nothing matches", err=True)


@command.command()
@admin_options
@filters
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("-o", "--output", type=click.File("w", encoding="utf-8"), default="-", help="Instead of stdout.")
def export(client: AdminClient, given: dict[str, str], form: str, output: Any) -> None:
    """Every event that matches, oldest first, as JSON lines or CSV."""
    import csv

    if form == "jsonl":
        # As they came: `audit verify` can check them byte by byte.
        for line in client.lines("/audit/export", **given):
            output.write(line.decode() + "\n")
        return
    events = client.stream("/audit/export", **given)
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for event in events:
        writer.writerow([_cell(_field(event, name)) for name in CSV_COLUMNS])


@command.command()
@admin_options
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
@click.option("--count", default=20, show_default=True, help="Begin with this many of the latest events.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def tail(client: AdminClient, follow: bool, count: int, as_json: bool) -> None:
    """The latest events; with -f also those that come."""
    import orjson

    from hoopfast.cli.sessions import console, timeline

    out = console()

    def show(event: dict[str, Any]) -> None:
        if as_json:
            click.echo(orjson.dumps(event).decode())
        else:
            for line in timeline(event, who=True):
                out.print(line)
        sys.stdout.flush()

    latest = client.get("/audit/search", limit=max(count, 1))["events"]
    for event in reversed(latest[:count]):
        show(event)
    if not follow:
        return
    after = latest[0]["id"] if latest else 0
    try:
        for event in client.stream("/audit/tail", after=str(after)):
            show(event)
    except KeyboardInterrupt:
        return


def _field(event: dict[str, Any], name: str) -> Any:
    if name in {"sqlstate", "message"}:
        return (event.get("error") or {}).get(name)
    if name == "sql" and event["event"] != "statement":
        return event.get("action") or (event.get("note") or {}).get("event") or event.get("reason")
    return event.get(name)


def _cell(value: Any) -> str:
    """One CSV cell; a spreadsheet must not take what a client wrote for a formula."""
    import orjson

    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"'{text}" if isinstance(value, str) and text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
