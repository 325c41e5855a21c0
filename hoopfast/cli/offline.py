"""What the verbs that try policies out share: configuration, policy and catalogs, read without a running gateway.

A catalog comes from a file that `hoopfast policy catalog` wrote, or from the database, with the gateway's credential.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from hoopfast import config as configuration
from hoopfast import secrets
from hoopfast.analysis.catalog import Catalog, from_builtins, to_builtins
from hoopfast.cli.client import DEFAULT_CONFIG
from hoopfast.errors import ConfigError, GatewayError
from hoopfast.model import MASK_NAMES
from hoopfast.policy import source
from hoopfast.policy.patterns import split_name
from hoopfast.policy.snapshot import Snapshot, compile_for

FORMAT: Final = 1
NO_KEY: Final = bytes(32)               # of hashed columns: nothing is hashed here


class Saved(msgspec.Struct, forbid_unknown_fields=True):
    """A catalog in a file; `masked` are the columns it was read for, and it knows nothing of others."""

    format: int
    connection: str
    masked: list[tuple[str, str, str]]
    catalog: dict[str, Any]


def load_config(file: str | None) -> tuple[configuration.Config, Path] | None:
    """The configuration that was asked for, or the one in the working directory; None when there is none of these."""
    path = Path(file or DEFAULT_CONFIG)
    if not file and not path.exists():
        return None
    try:
        return configuration.load(path), path
    except ConfigError as fault:
        raise explained(fault) from fault


def need_config(file: str | None) -> configuration.Config:
    found = load_config(file)
    if found is None:
        raise click.UsageError(f"give the gateway's configuration with -c (here is no {DEFAULT_CONFIG})")
    return found[0]


def load_policy(path: Path, connections: Iterable[str] | None = None) -> source.Policy:
    try:
        return source.load_policy(path, list(connections) if connections is not None else None)
    except ConfigError as fault:
        raise explained(fault) from fault


def snapshot_of(policy: source.Policy, connections: Iterable[str]) -> Snapshot:
    return compile_for(connections, policy, 1, NO_KEY)


def explained(fault: ConfigError) -> click.ClickException:
    return click.ClickException("\n".join(str(problem) for problem in fault.problems))


# ---------------------------------------------------------------- catalogs

def read_catalog(config: configuration.Config, policy: source.Policy, name: str) -> Catalog:
    """From the database behind a connection."""
    from hoopfast.control.catalog import load_catalog

    connection = connection_of(config, name)
    masked = source.masked_columns(policy)(name)
    found: Catalog = asked(load_catalog(connection, password_of(connection), masked, 1), name)
    return found


def mask_names(policy: source.Policy, name: str) -> dict[tuple[str, str, str], str]:
    """How each masked column of a connection is hidden, by its name in the policy; for people."""
    found: dict[tuple[str, str, str], str] = {}
    for entry in policy.masks:
        if source.applies(entry.connections, name):
            for text in entry.columns:
                schema, table, column = split_name(text)
                found.setdefault((schema, table, column), MASK_NAMES[source.mask_spec(entry)[0].kind])
    return found


def save_catalog(policy: source.Policy, name: str, catalog: Catalog) -> bytes:
    masked = [*source.masked_columns(policy)(name)]
    saved = Saved(format=FORMAT, connection=name, masked=masked, catalog=to_builtins(catalog))
    return msgspec.json.format(msgspec.json.encode(saved, order="sorted")) + b"\n"


def open_catalog(path: Path, policy: source.Policy, name: str) -> Catalog:
    """From a file. ClickException when it is none, another connection's, or was made for other masks."""
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=Saved)
        catalog = from_builtins(saved.catalog)
    except OSError as fault:
        raise click.ClickException(f"cannot read the catalog {path}: {fault.strerror}") from fault
    except msgspec.MsgspecError as fault:
        raise click.ClickException(f"{path} is no file of `hoopfast policy catalog`") from fault
    again = f"make it again: hoopfast policy catalog {name} -o {path}"
    if saved.format != FORMAT:
        raise click.ClickException(f"{path} is of another version of hoopfast; {again}")
    if saved.connection != name:
        raise click.ClickException(f"{path} is the catalog of {saved.connection}, not of {name}")
    if missing := {*source.masked_columns(policy)(name)} - {*saved.masked}:
        columns = ", ".join(sorted(".".join(column) for column in missing))
        raise click.ClickException(f"{path} was made before these columns were masked: {columns}; {again}")
    return catalog


def connection_of(config: configuration.Config, name: str) -> configuration.Connection:
    connection = config.connections.get(name)
    if connection is None:
        known = ", ".join(sorted(config.connections)) or "none"
        raise click.ClickException(f"the configuration has no connection {name} (it has: {known})")
    return connection


def password_of(connection: configuration.Connection) -> str:
    reference = connection.upstream.password
    try:
        return secrets.resolve(reference) if reference else ""
    except GatewayError as fault:
        raise click.ClickException(str(fault)) from fault


def asked(work: Any, name: str) -> Any:
    """The answer of an upstream, or a ClickException that says what is wrong."""
    import psycopg

    try:
        return asyncio.run(work)
    except (psycopg.Error, OSError) as failure:
        why = (str(failure).splitlines() or [type(failure).__name__])[0]
        raise click.ClickException(f"the database of {name} cannot be asked: {why}") from failure
