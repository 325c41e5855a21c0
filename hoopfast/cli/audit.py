"""`hoopfast audit`: search, export and follow the audit trail (its proof: cli/proof.py)."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from hoopfast.cli import proof, recovery, trail
from hoopfast.cli.client import AdminClient, admin_options

F = TypeVar("F", bound=Callable[..., Any])

_FILTERS = {
    "user": "Who.",
    "connection": "Where.",
    "session": "One session.",
    "text": "Words of the SQL, from their beginning.",
    "table": "A table, with or without its schema.",
    "column": "A column that a statement may read: schema.table.column, table.column or column.",
    "kind": "What a statement does: select, update, drop, ...",
    "verdict": "allow | limit | warn | deny | approve.",
    "rule": "The policy rule that matched.",
    "outcome": "complete | error | denied | suspended | unknown.",
    "sqlstate": "The error's code, or its first two signs.",
    "event": "statement | session_start | session_end | note | gateway.",
    "rows": "At least this many.",
    "duration": "At least this long: 250ms, 5s, 2m.",
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


for verb in (
    proof.verify, proof.prove, proof.keys, proof.checkpoints, trail.schema, trail.postgres, trail.dead,
    recovery.recovery_key, recovery.reveal, recovery.erase,
):
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


@command.command("who-saw")
@click.argument("column")
@admin_options
@click.option("--user", default="", help="Only this person.")
@click.option("--connection", default="", help="Only here.")
@click.option("--since", default="", help="Not before: 2026-01-31, 2026-01-31T12:00Z, or an age like 15m, 2h, 7d.")
@click.option("--until", default="", help="Before: the same.")
@click.option("--limit", default=50, show_default=True, help="At most this many sessions.")
@click.option("--json", "as_json", is_flag=True, help="The gateway's answer as it came.")
def who_saw(client: AdminClient, column: str, limit: int, as_json: bool, **given: str) -> None:
    """Sessions whose statements may have read COLUMN: schema.table.column, table.column or column.

    Told by the names in the statements: what a view or function reads inside counts under the name of that. "masked"
    says that every such statement showed the column hidden.
    """
    from hoopfast.cli.table import Column, dump, echo, moment

    answer = client.get("/audit/who-saw", column=column, limit=limit, **given)
    if as_json:
        click.echo(dump(answer))
        return
    columns = (
        Column("session", 9), Column("user", 10, least=12), Column("connection", 7, least=8), Column("last read", 8),
        Column("times", 6), Column("rows", 5), Column("seen", 7, least=5), Column("a statement", 4, least=20),
    )
    rows = [
        (found["session"], found["user"], found["connection"], moment(found["last"]), found["read"], found["rows"],
         "clear" if found["clear"] else "masked", " ".join(str(found["sample"]).split()))
        for found in answer["sessions"]
    ]
    echo(columns, rows, f"no recorded statement may have read {column}")


@command.command()
@admin_options
@filters
@click.option("--format", "form", type=click.Choice(["jsonl", "csv", "parquet"]), default="jsonl", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, allow_dash=True), default="-",
              help="Instead of stdout.")
def export(client: AdminClient, given: dict[str, str], form: str, output: str) -> None:
    """Every event that matches, oldest first: JSON lines (which `audit verify` can check), CSV or Parquet."""
    from hoopfast.cli import export as forms

    if form == "parquet":
        if output == "-":
            raise click.UsageError("Parquet goes to a file: say -o FILE")
        forms.write_parquet(client.stream("/audit/export", **given), output)
        return
    with click.open_file(output, "w", encoding="utf-8") as file:
        if form == "csv":
            forms.write_csv(client.stream("/audit/export", **given), file)
        else:
            for line in client.lines("/audit/export", **given):
                file.write(line.decode() + "\n")


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
