"""`hoopfast secret`: gateway secrets for people and programs that cannot bring a token."""

from __future__ import annotations

import click

from hoopfast.cli.client import AdminClient, admin_options, segment
from hoopfast.cli.table import Column, dump, echo, moment

COLUMNS = (
    Column("secret", 10), Column("state", 9), Column("user", 8, least=12), Column("groups", 5, least=10),
    Column("until", 7), Column("last used", 4), Column("label", 3, least=10),
)


@click.group(name="secret")
def command() -> None:
    """Create, list and revoke gateway secrets (hf_...), which stand for a person as the password."""


@command.command()
@click.option("--user", required=True, help="Who it stands for, e.g. an e-mail address.")
@click.option("--group", "--groups", "groups", multiple=True, help="A group of theirs; may be repeated, or a,b,c.")
@click.option("--ttl", default="8h", show_default=True, help="How long it is good: 15m, 8h, 30d.")
@click.option("--label", default="", help="What it is for.")
@admin_options
def create(client: AdminClient, user: str, groups: tuple[str, ...], ttl: str, label: str) -> None:
    """Make a secret. It is shown once, now, and never again."""
    from hoopfast.units import duration_s

    try:
        ttl_s = duration_s(ttl)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), param_hint="--ttl") from None
    names = [name.strip() for group in groups for name in group.split(",") if name.strip()]
    made = client.post("/secrets", {"user": user, "groups": names, "ttl_s": ttl_s, "label": label})
    # The secret alone on standard output, so that it can be piped.
    click.echo(made["secret"])
    until = moment(made["expires_at"], seconds=False)
    click.echo(f"{made['id']} for {made['user']}, good until {until} UTC. It is not shown again.", err=True)


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@admin_options
def list_(client: AdminClient, as_json: bool) -> None:
    """List all secrets; the secrets themselves are not kept anywhere."""
    answer = client.get("/secrets")
    if as_json:
        click.echo(dump(answer["secrets"]))
        return
    echo(
        COLUMNS,
        [(row["id"], row["state"], row["user"], ",".join(row["groups"]), moment(row["expires_at"], seconds=False),
          moment(row["last_used_at"], seconds=False) or "never", row["label"]) for row in answer["secrets"]],
        "there are no secrets; `hoopfast secret create --user NAME` makes one",
    )


@command.command()
@click.argument("secret_id")
@admin_options
def revoke(client: AdminClient, secret_id: str) -> None:
    """Revoke a secret by its id, and end its sessions at once."""
    done = client.post(f"/secrets/{segment(secret_id)}/revoke")
    click.echo(f"{done['revoked']} is revoked; {done['sessions']} sessions end now")

