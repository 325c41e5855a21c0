"""`hoopfast replay`: run a recorded session again in a sandbox and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hoopfast.cli.client import AdminClient, admin_options, segment


@click.command()
@click.argument("session")
@admin_options
@click.option("--to", "dsn", required=True, help="DSN of the sandbox: postgresql://... or key=value pairs.")
@click.option("--read-only", is_flag=True, help="Transactions of the replay may not write.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report here too.")
@click.option("--i-mean-it", is_flag=True, help="Even if the target is one of the gateway's upstreams.")
def command(
    client: AdminClient, session: str, dsn: str, read_only: bool, json_file: Path | None, i_mean_it: bool,
) -> None:
    """Run the statements of SESSION in a sandbox, with their parameters, and report where tag, rows or error differ.

    Exits with 1 when anything differs.
    """
    import msgspec
    import psycopg

    from hoopfast.audit.replay import ForbiddenTarget, refuse_upstream, replay
    from hoopfast.cli.sessions import console

    try:
        if not i_mean_it:
            refuse_upstream(dsn, _upstreams(click.get_current_context()))
    except ForbiddenTarget as refusal:
        raise click.ClickException(str(refusal)) from refusal
    except ValueError as refusal:
        raise click.UsageError(str(refusal)) from refusal
    events = client.get(f"/sessions/{segment(session)}")["events"]
    out = console()
    try:
        with psycopg.connect(dsn, autocommit=True, application_name="hoopfast replay") as connection:
            report = replay(events, connection, read_only=read_only, on_step=lambda step: _show(out, step))
    except psycopg.OperationalError as failure:
        raise click.ClickException(f"the sandbox cannot be used: {failure}") from failure
    out.print(
        f"\n{len(report.steps)} statements: {report.same} the same, {report.differs} differ, {report.skipped} skipped, "
        f"{report.unrecorded} without a recorded outcome"
    )
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    if report.differs:
        click.get_current_context().exit(1)


def _upstreams(context: click.Context) -> list[Any]:
    """The databases behind the gateway, when its configuration is at hand."""
    import yaml

    from hoopfast.audit.replay import Target

    path = context.params.get("config")
    if not path:
        return []
    content = yaml.safe_load(Path(path).read_text())
    found = []
    for connection in (content.get("connections") or {}).values():
        at = (connection or {}).get("upstream") or {}
        found.append(Target(
            host=str(at.get("host", "")), port=int(at.get("port", 5432)), database=str(at.get("database", "")),
        ))
    return found


def _show(out: Any, step: Any) -> None:
    from hoopfast.cli.sessions import plain

    marks = {"same": "[green]same[/]", "differs": "[red]differs[/]", "skipped": "[yellow]skipped[/]"}
    sql = " ".join(step.sql.split())
    out.print(f"{step.seq:>6}  {marks.get(step.status, '[cyan]' + step.status + '[/]'):<22} {plain(sql[:160])}")
    if step.why:
        out.print(f"        {plain(step.why)}")
