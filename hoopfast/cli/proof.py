"""`hoopfast audit verify | prove | keys | checkpoints`: the proof of the audit trail, offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import click

from hoopfast.cli.client import DEFAULT_CONFIG, admin_socket
from hoopfast.cli.table import clean, dump

SQLITE = b"SQLite format 3\0"


class Database(NamedTuple):
    """An audit store in PostgreSQL. `dsn`: a reference; `keep_days`: what retention should leave, 0: as it says."""

    name: str
    dsn: str
    keep_days: int = 0


class Place(NamedTuple):
    """What a configuration says of the audit trail; all of it empty without one."""

    state_dir: Path | None
    stores: list[Path]
    checkpoints: Path | None
    databases: tuple[Database, ...] = ()


def config_option(function: Any) -> Any:
    """Adds -c, as the verbs that talk to a gateway have it; here only files are read."""
    return click.option("-c", "--config", envvar="HOOPFAST_CONFIG", default="",
                        help="Configuration of a gateway on this machine.  [default: hoopfast.yaml, if there is one]",
                        )(function)


def dsn_option(function: Any) -> Any:
    """Adds --dsn: a store in PostgreSQL instead of a file."""
    return click.option("--dsn", default="", metavar="REFERENCE",
                        help="A store in PostgreSQL: env:NAME or file:/path of a connection string.")(function)


@click.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@config_option
@dsn_option
@click.option("--key", "keys", multiple=True,
              help="A public key that you trust: a PEM file, or the text that `audit keys show` prints.")
@click.option("--checkpoints", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Checkpoints kept elsewhere; a store that was cut back or replaced does not agree with them.")
@click.option("--from", "begin", default=1, show_default=True, metavar="NUMBER",
              help="The first checkpoint whose events are still here.")
@click.option("--proof", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Check what `audit prove` wrote, instead of a store.")
@click.option("--json", "as_json", is_flag=True, help="The whole report.")
def verify(
    path: Path | None, config: str, dsn: str, keys: tuple[str, ...], checkpoints: Path | None, begin: int,
    proof: Path | None, as_json: bool,
) -> None:
    """Check that no event was changed, removed, inserted, moved or cut off, and say where.

    PATH is the SQLite store, the directory of the jsonl sink, a copy of what the s3 sink wrote, or a whole
    `audit export` (with --checkpoints). Without it and --dsn, every store of the configuration. Exits with 1 when
    something is wrong.
    """
    place = place_of(config, needed=path is None and proof is None and not dsn)
    trusted, pinned = _trusted(keys, place)
    if proof is not None:
        _verify_proof(proof, trusted)
        return
    named = path is not None or bool(dsn)
    stores = [path] if path is not None else [] if dsn else place.stores
    databases = (Database("postgres", dsn),) if dsn else () if named else place.databases
    second = checkpoints or (None if named else place.checkpoints)
    if second is not None and not second.exists():
        raise click.ClickException(f"{second}, the second place of the checkpoints, is missing")
    reports = [_report(store, trusted, second, begin) for store in stores]
    for database in databases:
        reports += _database_reports(database, trusted, second, begin)
    for report in reports:
        if not pinned:
            report.notes.append("the keys are those in the state directory; to trust nothing there, give --key")
    if as_json:
        import msgspec

        click.echo(dump(msgspec.to_builtins(reports)))
    else:
        for report in reports:
            _show(report)
    if not all(report.good for report in reports):
        click.get_current_context().exit(1)


@click.command()
@click.argument("event")
@config_option
@dsn_option
@click.option("--store", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The SQLite store.")
@click.option("-o", "--output", type=click.File("w", encoding="utf-8"), default="-", help="Instead of stdout.")
def prove(event: str, config: str, dsn: str, store: Path | None, output: Any) -> None:
    """Prove one EVENT (its id, or session/seq): the event, its way to the root, and the signed checkpoint.

    Whoever has the public key checks it with `audit verify --proof FILE --key KEY`, without the store.
    """
    import msgspec

    from hoopfast.audit.verify import prove as make
    from hoopfast.audit.verify_postgres import prove_postgres

    found = store or (dsn or store_of(place_of(config, needed=True)))
    made = explained(lambda: make(found, event) if isinstance(found, Path) else prove_postgres(_secret(found), event))
    output.write(msgspec.json.format(msgspec.json.encode(made)).decode() + "\n")


@click.group()
def keys() -> None:
    """The keys that sign checkpoints."""


@keys.command("show")
@config_option
@click.option("--pem", is_flag=True, help="As PEM.")
def show_keys(config: str, pem: bool) -> None:
    """The public keys of this gateway, the one that signs now last."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from hoopfast.audit.chain import key_text

    found = explained(_ring(place_of(config, needed=True)).public)
    if not found:
        raise click.ClickException("there is no key yet: the gateway makes it at its first start")
    for key in found:
        if pem:
            click.echo(key.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), nl=False)
        else:
            click.echo(f"{key_text(key.key)}  {key.id}  {'signs' if key.signs else 'earlier'}")


@keys.command()
@config_option
def rotate(config: str) -> None:
    """Make a new key. The old one signs that, with the next events; then its private part is removed."""
    from hoopfast.audit.chain import key_text

    made = explained(_ring(place_of(config, needed=True)).rotate)
    click.echo(f"{key_text(made.private.public_key())}  {made.id}  signs from the next checkpoint on")


@click.group()
def checkpoints() -> None:
    """The signed checkpoints over the audit trail."""


@checkpoints.command("export")
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@config_option
@dsn_option
@click.option("--after", default=0, metavar="NUMBER", help="Only those after this one.")
@click.option("-o", "--output", type=click.File("wb"), default="-", help="Instead of stdout.")
def export_checkpoints(path: Path | None, config: str, dsn: str, after: int, output: Any) -> None:
    """Write the checkpoints of a store, one a line, to be kept where the gateway cannot write."""
    import msgspec

    from hoopfast.audit.sinks.jsonl_seal import CHECKPOINTS
    from hoopfast.audit.verify import StoreFile, file_lines
    from hoopfast.audit.verify_postgres import checkpoint_lines

    place = place_of(config, needed=path is None)
    found = path or (dsn or store_of(place))

    def write() -> None:
        if not isinstance(found, Path):
            keys, _ = _trusted((), place)
            for line in checkpoint_lines(_secret(found), keys, after):
                output.write(line + b"\n")
            return
        if found.is_dir():
            for line in file_lines(found / CHECKPOINTS):
                if msgspec.json.decode(line)["number"] > after:
                    output.write(line + b"\n")
            return
        store = StoreFile(found)
        try:
            for number, line, _ in store.checkpoints():
                if number > after:
                    output.write(line + b"\n")
        finally:
            store.close()

    explained(write)


# ---------------------------------------------------------------- parts

def explained(work: Any) -> Any:
    from hoopfast.errors import GatewayError

    try:
        return work()
    except (GatewayError, OSError) as failure:
        raise click.ClickException(clean(str(failure))) from failure


def place_of(config: str, *, needed: bool) -> Place:
    import yaml

    if not config and not Path(DEFAULT_CONFIG).exists():
        if needed:
            raise click.UsageError(f"say where the audit trail is: a path, or -c FILE (here is no {DEFAULT_CONFIG})")
        return Place(None, [], None)
    state_dir = admin_socket(config or DEFAULT_CONFIG).parent
    content = yaml.safe_load(Path(config or DEFAULT_CONFIG).read_text())
    audit = (content.get("audit") if isinstance(content, dict) else None) or {}
    usual = {"sqlite": "audit.db", "jsonl": "audit"}
    sinks = audit.get("sinks") or [{"kind": "sqlite"}, {"kind": "jsonl"}]
    stores = [state_dir / (sink.get("path") or usual[sink["kind"]]) for sink in sinks if sink.get("kind") in usual]
    second = state_dir / audit["checkpoints"] if audit.get("checkpoints") else None
    return Place(state_dir, stores, second, _databases(sinks, Path(config or DEFAULT_CONFIG).absolute().parent))


def _databases(sinks: list[dict[str, Any]], base: Path) -> tuple[Database, ...]:
    import msgspec

    from hoopfast.config_sinks import Sink, keep_days, named, resolved

    try:
        found = tuple(msgspec.convert(sink, Sink) for sink in sinks)
        return tuple(Database(name, resolved(sink, str(base)).dsn, keep_days(sink.keep))
                     for name, sink in named(found) if sink.kind == "postgres")
    except ValueError as failure:
        raise click.ClickException(f"audit.sinks cannot be understood: {failure}; see `hoopfast check`") from failure


def store_of(place: Place) -> Path | str:
    """The store that the gateway answers from, if it is here: a file, or the reference of a connection string."""
    found = next((store for store in place.stores if store.is_file()), None)
    if found is not None:
        return found
    if not place.databases:
        raise click.ClickException("the configuration has no SQLite store that exists, and no other; name one")
    return place.databases[0].dsn


def _secret(reference: str) -> str:
    from hoopfast import secrets

    return str(explained(lambda: secrets.resolve(reference)))


def _database_reports(database: Database, trusted: list[Any], second: Path | None, begin: int) -> list[Any]:
    from hoopfast.audit.verify_postgres import verify_postgres

    dsn = _secret(database.dsn)
    found: list[Any] = explained(lambda: verify_postgres(
        dsn, trusted, name=database.name, keep_days=database.keep_days, second=second, begin=begin))
    return found


def _ring(place: Place) -> Any:
    from hoopfast.audit.keys import DIRECTORY, KeyRing

    assert place.state_dir is not None
    return KeyRing(place.state_dir / DIRECTORY)


def _trusted(given: tuple[str, ...], place: Place) -> tuple[list[Any], bool]:
    """The keys, and whether they were given."""
    from hoopfast.audit.chain import parse_key

    found = []
    for text in given:
        try:
            found.append(parse_key(Path(text).read_text() if Path(text).is_file() else text))
        except (ValueError, OSError) as failure:
            raise click.UsageError(f"--key {text!r} is neither a PEM file nor a key ({failure})") from failure
    if found:
        return found, True
    if place.state_dir is None:
        raise click.UsageError("say which key you trust: --key FILE, or -c FILE for those of the gateway here")
    return [key.key for key in explained(_ring(place).public)], False


def _report(store: Path, trusted: list[Any], second: Path | None, begin: int) -> Any:
    from hoopfast.audit.verify import verify_store
    from hoopfast.audit.verify_files import verify_directory, verify_export, verify_objects

    if not store.exists():
        raise click.ClickException(f"{store} does not exist")
    how: dict[str, Any] = {"begin": begin}
    if sys.stderr.isatty():
        how["progress"] = lambda events: click.echo(f"\r{events:,} events", nl=False, err=True)
    if (store / "checkpoints").is_dir():
        return explained(lambda: verify_objects(store, trusted, second=second, **how))
    if store.is_dir():
        return explained(lambda: verify_directory(store, trusted, second=second, **how))
    with store.open("rb") as file:
        is_sqlite = file.read(len(SQLITE)) == SQLITE
    if is_sqlite:
        return explained(lambda: verify_store(store, trusted, second=second, **how))
    if second is None:
        raise click.UsageError(f"{store} is an export: give its --checkpoints (hoopfast audit checkpoints export)")
    return explained(lambda: verify_export(store, second, trusted, **how))


def _verify_proof(path: Path, trusted: list[Any]) -> None:
    import msgspec

    from hoopfast.audit.chain import Proof, check_proof

    try:
        proof = msgspec.json.decode(path.read_bytes(), type=Proof)
        faults = check_proof(proof, trusted)
    except ValueError as failure:
        raise click.ClickException(f"{path} is no proof: {clean(str(failure))}") from failure
    for fault in faults:
        click.secho(f"NOT PROVEN: {clean(fault)}", fg="red", err=True)
    if faults:
        click.get_current_context().exit(1)
    sealed = proof.checkpoint
    click.echo(clean(proof.event))
    said = f"proven: sealed by key {sealed.key} in checkpoint {sealed.number} of {sealed.at}"
    click.secho(said, fg="green", err=True)


def _show(report: Any) -> None:
    if sys.stderr.isatty():
        click.echo("\r", nl=False, err=True)
    verdict = click.style("whole", fg="green") if report.good else click.style("NOT WHOLE", fg="red", bold=True)
    click.echo(f"{clean(report.source)}: {verdict}")
    sealed = f", the last of {clean(report.sealed_at)}" if report.sealed_at else ""
    click.echo(f"  {report.events:,} events under {report.checkpoints:,} checkpoints{sealed}")
    if report.head:
        click.echo(f"  chain {clean(report.log)}, head {report.head}")
    if report.recovered:
        click.echo(f"  {report.recovered:,} of the events were found unsealed at a start, after a crash")
    if report.unsealed:
        click.echo(f"  {report.unsealed:,} events behind the last checkpoint are not sealed: nothing is proven of them")
    for problem in report.problems:
        click.secho(f"  {problem.kind}: {clean(problem.text)}", fg="red")
    if report.problems_total > len(report.problems):
        click.echo(f"  and {report.problems_total - len(report.problems):,} more")
    for note in report.notes:
        click.echo(f"  note: {clean(note)}")
