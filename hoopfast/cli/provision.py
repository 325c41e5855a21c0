"""hoopfast provision: SQL for enforced mode, for a DBA to review, and the differences between it and a database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hoopfast.control.grants import Goal
    from hoopfast.control.provision import Drift

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("-c", "--config", "config_file", help="The gateway's configuration (default hoopfast.yaml).")
@click.option("--connection", required=True, help="A connection of the configuration, with `enforced` roles.")
@click.option("--policy", "policy_file", type=EXISTING, help="Instead of the policy that the configuration names.")
@click.option("--role", "user", help="Only for this role, of several.")
@click.option("--check", is_flag=True, help="Compare with the database; exits with 1 when something is different.")
@click.option("--json", "as_json", is_flag=True, help="With --check: for scripts.")
def command(
    config_file: str | None, connection: str, policy_file: Path | None, user: str | None, check: bool, as_json: bool
) -> None:
    """Print the SQL with which the database itself hides columns: roles, grants, masking views.

    It is printed, never run: review it, and run it as a DBA. The database is only read, with the gateway's own role.
    """
    goals = _goals(config_file, connection, policy_file, user)
    if not check:
        from hoopfast.control import grants

        for goal, _ in goals:
            click.echo(grants.script(goal), nl=False)
        return
    drift = [(goal.user, one) for goal, found in goals for one in found]
    _dump(drift) if as_json else _show(drift)
    sys.exit(1 if drift else 0)


def _goals(
    config_file: str | None, connection: str, policy_file: Path | None, user: str | None
) -> list[tuple[Goal, tuple[Drift, ...]]]:
    from hoopfast.cli import offline
    from hoopfast.control.provision import goal_of

    config = offline.need_config(config_file)
    target = offline.connection_of(config, connection)
    roles = [role for role in target.enforced if user in (None, role.user)]
    if not roles:
        asked = f" {user}" if user else ""
        raise click.ClickException(
            f"connection {connection} has no enforced role{asked}: add one to connections.{connection}.enforced, with "
            "its `user` and `password`")
    policy = offline.load_policy(policy_file or Path(config.policy), config.connections)
    snapshot = offline.snapshot_of(policy, config.connections)
    catalog = offline.read_catalog(config, policy, connection)
    password = offline.password_of(target)
    return [offline.asked(goal_of(target, role, snapshot, connection, catalog, password), connection) for role in roles]


def _show(drift: list[tuple[str, Drift]]) -> None:
    from rich.table import Table

    from hoopfast.cli.sessions import console, plain

    if not drift:
        click.echo("the database is as enforced mode needs it")
        return
    table = Table("role", "what", "problem", "", box=None)
    for user, one in drift:
        risk = "may leak" if one.grave else "breaks statements"
        table.add_row(plain(user), plain(one.what), plain(one.problem), risk)
    console().print(table)


def _dump(drift: list[tuple[str, Drift]]) -> None:
    import json

    click.echo(json.dumps([{"role": user, "what": one.what, "problem": one.problem, "grave": one.grave}
                           for user, one in drift]))
