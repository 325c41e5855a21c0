"""`hoopfast audit schema | postgres | dead`: what is outside of the gateway's own stores. Offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hoopfast.cli.client import DEFAULT_CONFIG, admin_socket
from hoopfast.cli.proof import config_option


@click.command()
def schema() -> None:
    """Print the JSON Schema of the events."""
    import orjson

    from hoopfast.audit.schema import events_schema

    click.echo(orjson.dumps(events_schema(), option=orjson.OPT_INDENT_2))


@click.command()
@click.option("--keep", default="", metavar="DAYS", help="What retention leaves, like 90d.  [default: everything]")
@click.option("--partition", type=click.Choice(["day", "month"]), default="day", show_default=True)
@click.option("--writer", default="", metavar="ROLE", help="The gateway's role: it may add and read, nothing else.")
@click.option("--reader", default="", metavar="ROLE", help="A role that may only read.")
@click.option("--grants-only", is_flag=True, help="For a schema that is there.")
def postgres(keep: str, partition: Any, writer: str, reader: str, grants_only: bool) -> None:
    """Print the SQL that makes the audit store in PostgreSQL, to be applied by whoever shall own it."""
    from hoopfast.audit.sinks.postgres_schema import grants, script
    from hoopfast.config_sinks import keep_days

    try:
        days = keep_days(keep)
    except ValueError as failure:
        raise click.UsageError(f"--keep: {failure}") from failure
    click.echo(grants(writer, reader) if grants_only else script(days, partition, writer, reader), nl=False)


@click.command()
@config_option
@click.option("--sink", default="", help="Only this one.")
@click.option("--json", "as_json", is_flag=True, help="Whole letters, one a line.")
@click.option("--forget", is_flag=True, help="Move them out of sight (to *.forgotten) after they were seen to.")
def dead(config: str, sink: str, as_json: bool, forget: bool) -> None:
    """Events that a sink's destination refused for good (dead letters). Exits with 1 when there are any.

    They are in the other sinks all the same.
    """
    import msgspec

    from hoopfast.audit.outlet import letter_files, read_letters
    from hoopfast.cli.table import clean

    home = admin_socket(config or DEFAULT_CONFIG).parent / "ship"
    count = 0
    for directory in sorted(path for path in home.glob("*") if path.is_dir()) if home.is_dir() else []:
        if sink and directory.name != sink:
            continue
        for path in letter_files(directory):
            for letter in read_letters(path):
                count += 1
                if as_json:
                    click.echo(msgspec.json.encode(letter).decode())
                else:
                    event = msgspec.json.decode(letter.event)
                    click.echo(f"{letter.at}  {clean(letter.sink)}  {event.get('session')}/{event.get('seq')}  "
                               f"{event.get('event')}  {clean(letter.reason)}")
            if forget:
                _forget(path)
    if not count:
        click.echo("no dead letters", err=True)
    elif not forget:
        click.get_current_context().exit(1)


def _forget(path: Path) -> None:
    target = path.with_name(f"{path.name}.forgotten")
    with target.open("ab") as file:
        file.write(path.read_bytes())
    path.unlink()
