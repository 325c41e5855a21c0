"""`hoopfast policy closure`: what shows hidden columns on a connection, or could, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hoopfast.cli.table import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hoopfast.analysis.catalog import Catalog, Column, Relation

KINDS = {"r": "table", "p": "partitioned table", "f": "foreign table", "v": "view", "m": "materialized view"}


def show(catalog: Catalog, masks: dict[tuple[str, str, str], str], title: str) -> Any:
    """The closure as a rich Tree. `masks` are names of masks by column of the policy."""
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(clean(title)))
    for heading, lines in _sections(catalog, masks):
        node = tree.add(Text(heading, "bold"))
        for line in lines:
            node.add(Text(clean(line)))
    if not catalog.relations:
        tree.add(Text("nothing is hidden here from anybody"))
    return tree


def as_data(catalog: Catalog, masks: dict[tuple[str, str, str], str]) -> dict[str, Any]:
    """The same for scripts: lists of sentences by heading."""
    return {heading: list(lines) for heading, lines in _sections(catalog, masks)}


def _sections(catalog: Catalog, masks: dict[tuple[str, str, str], str]) -> Iterable[tuple[str, list[str]]]:
    named = {column[:2] for column in masks}
    tables = [one for one in catalog.relations if one.kind not in "vm"]
    views = [one for one in catalog.relations if one.kind in "vm"]
    sections = (
        ("tables that the policy names", [
            _relation(one, masks) for one in catalog.relations if (one.schema, one.name) in named and not one.reads]),
        ("their partitions, parents and children", [
            _relation(one, masks) for one in tables if (one.schema, one.name) not in named]),
        ("views read like tables", [
            _relation(one, masks) for one in views if not one.reads and (one.schema, one.name) not in named]),
        ("views that stay closed to people with masks", [
            f"{_name(one)}: {one.closed or 'it reads hidden columns'}" for one in views if one.reads]),
        ("functions that people with masks cannot call", [
            f"{name}: {catalog.reasons.get(name, 'it may read hidden columns')}"
            for name, harmless in sorted(catalog.functions.items()) if not harmless]),
        ("operators that they cannot use", sorted(catalog.operators)),
        ("foreign tables that they cannot read", sorted(catalog.foreign)),
        ("relations whose rules read hidden columns: they cannot write there", sorted(catalog.ruled)),
        ("triggers that hidden columns may pass through", [
            f"{one.name} of {one.table}, function {one.function}" + (
                f": names {', '.join(one.writes)}, where nothing is masked" if one.writes else "")
            for one in catalog.triggers]),
        ("what to look at", list(catalog.problems)),
    )
    return [(heading, lines) for heading, lines in sections if lines]


def _name(relation: Relation) -> str:
    return f"{relation.schema}.{relation.name}"


def _relation(relation: Relation, masks: dict[tuple[str, str, str], str]) -> str:
    hidden = [_column(column, masks) for column in relation.columns if column.policy]
    kind = KINDS.get(relation.kind, "relation")
    return f"{_name(relation)} ({kind}): {', '.join(hidden) or 'shows none of them'}"


def _column(column: Column, masks: dict[tuple[str, str, str], str]) -> str:
    if column.derived:
        sources = ", ".join(".".join(name) for name in column.policy)
        return f"{column.name} (null: computed from {sources})"
    return f"{column.name} ({masks.get(column.policy[0], 'masked')})"


@click.command()
@click.argument("connection")
@click.option("-c", "--config", "config_file", envvar="HOOPFAST_CONFIG",
              help="The gateway's configuration.  [default: hoopfast.yaml, if there is one]")
@click.option("--policy", "policy_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Instead of the policy that the configuration names.")
@click.option("--catalog", "catalog_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="File of `hoopfast policy catalog`, instead of the database.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--event-trigger", "trigger", is_flag=True, help="Instead, print the SQL with which the database tells "
              "the gateway of DDL at once.")
def closure(
    connection: str, config_file: str | None, policy_file: Path | None, catalog_file: Path | None, as_json: bool,
    trigger: bool,
) -> None:
    """Show what the masks of CONNECTION reach: partitions, views, functions, triggers, and what became of each."""
    from hoopfast.cli import offline, table

    if trigger:
        from hoopfast.control.announcements import SQL

        click.echo(SQL, nl=False)
        return
    settings = offline.need_config(config_file)
    policy = offline.load_policy(policy_file or Path(settings.policy), settings.connections)
    offline.connection_of(settings, connection)
    found = (offline.open_catalog(catalog_file, policy, connection) if catalog_file
             else offline.read_catalog(settings, policy, connection))
    masks = offline.mask_names(policy, connection)
    if as_json:
        click.echo(table.dump(as_data(found, masks)))
        return
    from rich.console import Console

    Console(highlight=False, width=1000 if table.is_piped() else None).print(
        show(found, masks, f"{connection}: what the masks reach, as of PostgreSQL {found.version // 10_000}"))
