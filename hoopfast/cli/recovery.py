"""`hoopfast audit recovery-key | reveal | erase`: what the trail has sealed, opened by auditors or lost for good.

Works on the files of the gateway, running or not, like the other verbs about proof. What is done here is an event of
the trail, and is recorded first.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

import click

from hoopfast.cli import proof
from hoopfast.cli.table import clean


@click.group("recovery-key")
def recovery_key() -> None:
    """The keys that open what the trail has sealed."""


@recovery_key.command("new")
@proof.config_option
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
              help="Where the private key goes; without it, into the state directory.")
def new_key(config: str, output: Path | None) -> None:
    """Make a key and seal to it from now on. Earlier values stay sealed to the keys before."""
    home = _state_dir(config)
    keys = _keys(home)

    def make() -> Any:
        try:
            made = keys.new(output)
        except FileExistsError as failure:
            raise click.ClickException(f"{output} is there already; it is not written over") from failure
        _record(home, "recovery_key", key=made.id)
        return made

    made = proof.explained(make)
    click.echo(f"{made.id}  seals from now on")
    kept = output or keys.directory / f"{made.id}.key"
    click.echo(f"the private key is in {clean(str(kept))}: only auditors should have it", err=True)


@recovery_key.command("use")
@click.argument("public", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@proof.config_option
def use_key(public: Path, config: str) -> None:
    """Seal to a PUBLIC key (PEM, X25519) from now on, whose private part was never here.

    openssl genpkey -algorithm X25519 -out auditors.key && openssl pkey -in auditors.key -pubout -out auditors.pub
    """
    from hoopfast.audit.vault import read_public

    home = _state_dir(config)

    def use() -> Any:
        made = _keys(home).install(read_public(public))
        _record(home, "recovery_key", key=made.id)
        return made

    click.echo(f"{proof.explained(use).id}  seals from now on")


@recovery_key.command("list")
@proof.config_option
def list_keys(config: str) -> None:
    """The public keys, the one in force last."""
    found = proof.explained(_keys(_state_dir(config)).all)
    if not found:
        raise click.ClickException("there is no key yet: the first is made when something has to be sealed, or by "
                                   "`hoopfast audit recovery-key new`")
    for key in found:
        where = "  its private key is on this machine" if key.private_here else ""
        click.echo(f"{key.id}  {'seals' if key.seals else 'earlier'}{where}")


@click.command()
@click.argument("events", nargs=-1, required=True)
@proof.config_option
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="The private recovery key.  [default: the one in the state directory, if it is still there]")
@click.option("--reason", default="", help="Recorded with it.")
@click.option("--store", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="The SQLite store, an export or a file of the jsonl sink, if not the store of the configuration.")
@click.option("--json", "as_json", is_flag=True, help="The whole events, one a line.")
def reveal(
    events: tuple[str, ...], config: str, key: Path | None, reason: str, store: Path | None, as_json: bool,
) -> None:
    """Show EVENTS (by id, or session/seq) with what was sealed in them. Who looked is recorded."""
    import orjson

    from hoopfast.cli.sessions import console, timeline

    home = _state_dir(config)
    place = proof.place_of(config, needed=True)
    found = store or proof.store_of(place)
    if not isinstance(found, Path):
        raise click.UsageError("of a store in PostgreSQL take an export: hoopfast audit export -o events.jsonl; then "
                               "hoopfast audit reveal SESSION/SEQ --store events.jsonl")
    shown = [_opened(home, _event(found, name), key) for name in events]
    proof.explained(lambda: _record(
        home, "revealed", reason=reason, events=[f"{event['session']}/{event['seq']}" for event in shown]))
    out = console()
    for event in shown:
        if as_json:
            click.echo(orjson.dumps(event).decode())
            continue
        for line in timeline(event, results=True, who=True):
            out.print(line)


@click.command()
@click.argument("person")
@proof.config_option
@click.option("--reason", required=True, help="Recorded with it, and shown to whoever tries to reveal.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(person: str, config: str, reason: str, yes: bool) -> None:
    """Destroy the key of PERSON (a user as in the trail): what was sealed of them can be opened by nobody any more.

    The events stay, with their placeholders, and `audit verify` finds the trail whole. This cannot be undone.
    """
    from hoopfast.audit.vault import PersonKeys

    home = _state_dir(config)
    people = PersonKeys(home)
    if not proof.explained(lambda: people.has(person)):
        raise click.ClickException(f"nothing of {person} is sealed here; the trail's `user` is the name to give")
    if not yes:
        click.echo(f"What the trail has sealed of {clean(person)} is lost for everybody, for good.", err=True)
        if click.prompt("Type the name again to go on", err=True) != person:
            raise click.ClickException("that is another name; nothing was done")

    def destroy() -> Any:
        _record(home, "erased", person=person, reason=reason)
        return people.erase(person, reason)

    made = proof.explained(destroy)
    click.echo(f"the key {made.key} of {clean(person)} is destroyed")


# ---------------------------------------------------------------- parts

def _state_dir(config: str) -> Path:
    home = proof.place_of(config, needed=True).state_dir
    assert home is not None
    return home


def _keys(home: Path) -> Any:
    from hoopfast.audit.vault import RecoveryKeys

    return RecoveryKeys(home)


def _record(home: Path, action: str, **fields: Any) -> None:
    """An event of the trail. Raises OSError when it cannot be kept: then nothing else may happen."""
    import time

    from hoopfast.audit.events import gateway_event
    from hoopfast.audit.streams import leave_event

    # No identity provider has seen this person: it is whoever the operating system says.
    by = os.environ.get("SUDO_USER") or getpass.getuser()
    leave_event(home / "ship", gateway_event(action, now := time.time_ns(), now, by=by, **fields))


def _event(store: Path, name: str) -> dict[str, Any]:
    import orjson

    from hoopfast.audit.verify import StoreFile

    with store.open("rb") as file:
        if file.read(len(proof.SQLITE)) != proof.SQLITE:
            file.seek(0)
            session, _, seq = name.partition("/")
            for line in file:
                event: dict[str, Any] = orjson.loads(line)
                if event.get("session") == session and str(event.get("seq")) == seq:
                    return event
            raise click.ClickException(f"{store} has no event {name}; a file of lines is asked for session/seq")
    opened = proof.explained(lambda: StoreFile(store))
    try:
        line = proof.explained(lambda: opened.event(name))
        return dict(orjson.loads(line))
    finally:
        opened.close()


def _opened(home: Path, event: dict[str, Any], key: Path | None) -> dict[str, Any]:
    from hoopfast.audit.protected import revealed
    from hoopfast.audit.vault import CannotOpen, PersonKeys, key_of, open_text, read_private

    name = f"{event['session']}/{event['seq']}"
    sealed: dict[str, str] = event.get("protected") or {}
    if not sealed:
        raise click.ClickException(f"nothing of event {name} is sealed")
    parts = {}
    for part, text in sealed.items():
        try:
            path = key or _keys(home).directory / f"{key_of(text)}.key"
            if not path.exists():
                raise click.ClickException(
                    f"event {name} is sealed to the recovery key {key_of(text)}, which is not in the state directory: "
                    "give it with --key")
            private = proof.explained(lambda path=path: read_private(path))
            parts[part] = open_text(text, private, PersonKeys(home))
        except CannotOpen as failure:
            raise click.ClickException(f"{part} of event {name} cannot be opened: {clean(str(failure))}") from failure
    try:
        return revealed(event, parts)
    except ValueError as failure:
        raise click.ClickException(f"event {name} is not as it was sealed: {clean(str(failure))}") from failure
