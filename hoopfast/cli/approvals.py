"""`hoopfast approvals`: held statements, from the command line."""

from __future__ import annotations

from typing import Any

import click

from hoopfast.cli.client import AdminClient, admin_options, segment
from hoopfast.cli.table import Column, clean, dump, echo, is_piped, moment

COLUMNS = (
    Column("request", 9), Column("state", 7), Column("who", 8, least=12), Column("where", 6, least=8),
    Column("asked", 1), Column("statement", 10, least=24),
)
STATEMENT_SHOWN = 400


@click.group(name="approvals")
def command() -> None:
    """List, show, approve and reject statements that wait for a second pair of eyes."""


@command.command(name="list")
@click.option("--state", help="waiting, approved, rejected, withdrawn, expired or used.  [default: waiting]")
@click.option("--all", "all_", is_flag=True, help="In every state.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@admin_options
def list_(client: AdminClient, state: str | None, all_: bool, as_json: bool) -> None:
    """List requests, newest first."""
    rows = client.get("/approvals", state=None if all_ else state or "waiting")["approvals"]
    if as_json:
        click.echo(dump(rows))
        return
    echo(
        COLUMNS,
        [(row["id"], row["state"], row["requester"], row["connection"], moment(row["created_at"], seconds=is_piped()),
          _oneline(row["sql"])) for row in rows],
        "no request, in any state" if all_ else f"no request is {state or 'waiting'}",
    )


@command.command()
@click.argument("approval")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@admin_options
def show(client: AdminClient, approval: str, as_json: bool) -> None:
    """Show a request in full: who, where, the statement and its parameters."""
    row = client.get(f"/approvals/{segment(approval)}")["approval"]
    if as_json:
        click.echo(dump(row))
        return
    groups = ", ".join(row["approver_groups"]) or "nobody"
    for label, value in (
        ("request", f"{row['id']} ({row['state']})"), ("who", f"{row['requester']} ({row['requester_issuer']})"),
        ("where", row["connection"]), ("from", f"{row['peer']} {row['application']}".strip()),
        ("session", row["session"]), ("rule", row["rule"]), ("needs", f"{row['needed']} of {groups}"),
        ("asked", f"{moment(row['created_at'])} UTC"), ("expires", f"{moment(row['expires_at'])} UTC"),
    ):
        click.echo(f"{label + ':':9} {clean(value)}")
    for vote in row["votes"]:
        verb = "approved" if vote["approve"] else "rejected"
        click.echo(f"{'vote:':9} {clean(vote['reviewer'])} {verb} {clean(vote['reason'])}".rstrip())
    click.echo()
    click.echo(clean(row["sql"], newlines=True))
    for number, value in enumerate(row["parameters"], 1):
        click.echo(f"  ${number} = {'NULL' if value is None else clean(str(value))}")
    if row["state"] == "waiting" and row["why_not"]:
        click.echo(f"\nYou cannot decide it: {clean(row['why_not'])}", err=True)


@command.command()
@click.argument("approval")
@click.option("--reason", default="", help="Goes on the record.")
@admin_options
def approve(client: AdminClient, approval: str, reason: str) -> None:
    """Approve a request: when enough people have, the statement runs at once where it waits."""
    _decided(client.post(f"/approvals/{segment(approval)}/approve", {"reason": reason})["approval"])


@command.command()
@click.argument("approval")
@click.option("--reason", required=True, help="The requester sees it.")
@admin_options
def reject(client: AdminClient, approval: str, reason: str) -> None:
    """Reject a request: the statement fails with the reason."""
    _decided(client.post(f"/approvals/{segment(approval)}/reject", {"reason": reason})["approval"])


def _decided(row: dict[str, Any]) -> None:
    if row["state"] == "waiting":
        yes = sum(1 for vote in row["votes"] if vote["approve"])
        click.echo(f"{row['id']}: your vote counts; {yes} of {row['needed']} approvals are there")
    else:
        click.echo(f"{row['id']} is {row['state']}")


def _oneline(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= STATEMENT_SHOWN else text[: STATEMENT_SHOWN - 1] + "…"
