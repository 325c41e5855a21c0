"""`hoopfast approvals`: held statements, from the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from hoopfast.cli.client import AdminClient, admin_options


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
        click.echo(_json(rows))
        return
    for row in rows:
        sql = " ".join(row["sql"].split())
        short = sql if len(sql) <= 80 else sql[:79] + "…"
        columns = (row["id"], row["state"], row["requester"], row["connection"], _moment(row["created_at"]), short)
        click.echo("  ".join(_plain(column) for column in columns))
    if not rows:
        click.echo("none", err=True)


@command.command()
@click.argument("approval")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@admin_options
def show(client: AdminClient, approval: str, as_json: bool) -> None:
    """Show a request in full: who, where, the statement and its parameters."""
    row = client.get(f"/approvals/{approval}")["approval"]
    if as_json:
        click.echo(_json(row))
        return
    groups = ", ".join(row["approver_groups"]) or "nobody"
    for label, value in (
        ("request", f"{row['id']} ({row['state']})"), ("who", f"{row['requester']} ({row['requester_issuer']})"),
        ("where", row["connection"]), ("from", f"{row['peer']} {row['application']}".strip()),
        ("session", row["session"]), ("rule", row["rule"]), ("needs", f"{row['needed']} of {groups}"),
        ("asked", f"{_moment(row['created_at'])} UTC"), ("expires", f"{_moment(row['expires_at'])} UTC"),
    ):
        click.echo(f"{label + ':':9} {_plain(value)}")
    for vote in row["votes"]:
        verb = "approved" if vote["approve"] else "rejected"
        click.echo(f"{'vote:':9} {_plain(vote['reviewer'])} {verb} {_plain(vote['reason'])}".rstrip())
    click.echo()
    click.echo(_plain(row["sql"], newlines=True))
    for number, value in enumerate(row["parameters"], 1):
        click.echo(f"  ${number} = {'NULL' if value is None else _plain(str(value))}")
    if row["state"] == "waiting" and row["why_not"]:
        click.echo(f"\nYou cannot decide it: {_plain(row['why_not'])}", err=True)


@command.command()
@click.argument("approval")
@click.option("--reason", default="", help="Goes on the record.")
@admin_options
def approve(client: AdminClient, approval: str, reason: str) -> None:
    """Approve a request: when enough people have, the statement runs at once where it waits."""
    _decided(client.post(f"/approvals/{approval}/approve", {"reason": reason})["approval"])


@command.command()
@click.argument("approval")
@click.option("--reason", required=True, help="The requester sees it.")
@admin_options
def reject(client: AdminClient, approval: str, reason: str) -> None:
    """Reject a request: the statement fails with the reason."""
    _decided(client.post(f"/approvals/{approval}/reject", {"reason": reason})["approval"])


def _decided(row: dict[str, Any]) -> None:
    if row["state"] == "waiting":
        yes = sum(1 for vote in row["votes"] if vote["approve"])
        click.echo(f"{row['id']}: your vote counts; {yes} of {row['needed']} approvals are there")
    else:
        click.echo(f"{row['id']} is {row['state']}")


def _plain(text: str, *, newlines: bool = False) -> str:
    """Without control characters: a statement must not be able to repaint the approver's terminal."""
    return "".join(c if c.isprintable() or (newlines and c in "\n\t") else "�" for c in text)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


def _json(value: Any) -> str:
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
