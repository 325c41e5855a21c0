"""`hoopfast replay`: run recorded sessions again in a sandbox and compare. What it does is in hoopfast/replay/."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from hoopfast.cli import client as admin

MARKS = {"same": "[green]same[/]", "differs": "[red]differs[/]", "skipped": "[yellow]skipped[/]",
         "adapted": "[blue]adapted[/]", "unrecorded": "[cyan]unrecorded[/]"}
SQL_SHOWN = 160
SELECTION = ("since", "until", "connection", "user")


def options(function: Callable[..., None]) -> Callable[..., None]:
    """The command line of `replay`."""
    file = click.Path(dir_okay=False, path_type=Path)
    for option in reversed([
        click.argument("sessions", nargs=-1, metavar="[SESSION]..."),
        click.option("--to", "dsn", required=True, help="DSN of the sandbox: postgresql://... or key=value pairs."),
        click.option("--since", "--from", default="", help="Not before: 2026-01-31T12:00Z, or an age like 2h."),
        click.option("--until", default="", help="Before: the same."),
        click.option("--connection", default="", help="Sessions of this connection."),
        click.option("--user", default="", help="Sessions of this person."),
        click.option("--events", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                     help="Read this export (JSON lines) instead of asking the gateway."),
        click.option("--speed", default="max", show_default=True, help="1: as recorded, 10: ten times as fast, max."),
        click.option("--stop-at", default="", help="Last statement to run (SESSION:SEQ, or an event's id), or a time."),
        click.option("--read-only", is_flag=True, help="Write nothing: statements that write are left out."),
        click.option("--in-transaction", is_flag=True, help="Everything in one transaction per session, rolled back."),
        click.option("--timeout", default="5m", show_default=True, help="Cancel what runs longer than this."),
        click.option("--steps", type=click.Choice(["all", "different", "none"]),
                     help="Which steps to print.  [default: all of one session, else different]"),
        click.option("--allow", multiple=True, metavar="CLASS", help="Differences of this class are no failure."),
        click.option("--json", "json_file", type=file, help="Write the report here, as JSON."),
        click.option("--html", "html_file", type=file, help="Write the report here, as one page to open and pass on."),
        click.option("--i-mean-it", is_flag=True, help="Even if the target is one of the gateway's upstreams."),
        click.option("-c", "--config", envvar="HOOPFAST_CONFIG", default="",
                     help="The gateway's configuration.  [default: hoopfast.yaml, if there is one]"),
        click.option("--server", envvar="HOOPFAST_SERVER", default="", help="URL of the admin API."),
        click.option("--token", envvar="HOOPFAST_TOKEN", default="", help="OIDC token or secret, for --server."),
        click.option("--ca", envvar="HOOPFAST_CA", default="", help="Private CA of the server's certificate."),
    ]):
        function = option(function)
    return function


@click.command()
@options
def command(sessions: tuple[str, ...], dsn: str, i_mean_it: bool, **given: Any) -> None:
    """Run recorded statements again in a sandbox, and report where tag, rows, error or results differ.

    Give SESSIONs, or choose what to run by --since, --until, --connection and --user: sessions run at the same time in
    the order that they had. Exits with 1 when anything differs.
    """
    from hoopfast.replay import source

    # Both find out what they need before anything is sent anywhere.
    run = _run_options(given)
    if not sessions and not given["events"] and not any(given[name] for name in SELECTION):
        raise click.UsageError("say what to replay: SESSION, or --since, --until, --connection, --user, or --events")
    sandbox = _sandbox(dsn, given["config"], i_mean_it)
    with contextlib.closing(source.Rows()) as rows:
        trail = _trail(sessions, given, rows)
        made = _conduct(trail, rows, sandbox, run, given, many=len(trail.sessions) > 1)
    _write(made, given["json_file"], given["html_file"])
    if not made.is_good(given["allow"]):
        click.get_current_context().exit(1)


# ---------------------------------------------------------------- what was asked for

def _run_options(given: dict[str, Any]) -> Any:
    from hoopfast import units
    from hoopfast.replay.play import Mode
    from hoopfast.replay.run import MAX_SPEED, Options

    try:
        speed = MAX_SPEED if given["speed"] == "max" else float(given["speed"])
    except ValueError:
        speed = -1.0
    if speed < 0 or (speed == 0 and given["speed"] != "max") or speed > 1e6:
        raise click.UsageError(f"--speed {given['speed']}: say a number above 0, or max")
    try:
        timeout = units.duration_s(given["timeout"])
    except ValueError as failure:
        raise click.UsageError(f"--timeout: {failure}") from failure
    return Options(speed, Mode(given["read_only"], given["in_transaction"]), timeout)


def _stop(text: str, trail: Any) -> Any:
    """What --stop-at names: SESSION:SEQ, :SEQ of the only session, an event's id, or a time."""
    from hoopfast.audit.events import nanoseconds
    from hoopfast.audit.finding import BadSearch, parse_time
    from hoopfast.replay.order import Stop

    if not text:
        return None
    statements = [one for session in trail.sessions.values() for one in session.statements]
    name, colon, seq = text.rpartition(":")
    if text.isdecimal():
        found = [one for one in statements if one.event == int(text)]
    elif (colon and seq.isdecimal() and name.isalnum() and len(name) == 16) or text.startswith(":"):
        only = name or (next(iter(trail.sessions)) if len(trail.sessions) == 1 else "")
        found = [one for one in statements if one.session == only and str(one.seq) == seq]
    else:
        try:
            return Stop(nanoseconds(parse_time(text)))
        except BadSearch as failure:
            raise click.UsageError(f"--stop-at: {failure}") from failure
    if not found:
        raise click.UsageError(f"--stop-at {text}: there is no such statement among those chosen")
    return Stop(found[0].begin, found[0].session, found[0].seq)


def _trail(sessions: tuple[str, ...], given: dict[str, Any], rows: Any) -> Any:

    chosen = {name: given[name] for name in SELECTION if given[name]}
    if given["events"]:
        if chosen:
            raise click.UsageError("--events takes all of the file: choose when you export it")
        lines: Iterable[bytes] = given["events"].open("rb")
        trail = _read(lines, rows, None)
    else:
        with admin.connect(
            config=given["config"], server=given["server"], token=given["token"], ca=given["ca"],
        ) as client:

            def starts(missing: list[str]) -> Iterator[bytes]:
                for session in missing:
                    yield from client.lines("/audit/export", session=session, event="session_start")

            trail = _read(_exported(client, sessions, chosen), rows, starts)
    if sessions:
        if missing := [session for session in sessions if session not in trail.sessions]:
            raise click.ClickException(f"there is no session {missing[0]} in this trail")
        trail.sessions = {session: trail.sessions[session] for session in sessions}
    if not trail.statements:
        raise click.ClickException("nothing was recorded that matches: there is no statement to run")
    return trail


def _exported(client: admin.AdminClient, sessions: tuple[str, ...], chosen: dict[str, str]) -> Iterator[bytes]:
    if not sessions:
        yield from client.lines("/audit/export", **chosen)
    for session in sessions:
        yield from client.lines("/audit/export", session=session, **chosen)


def _read(lines: Iterable[bytes], rows: Any, starts: Any) -> Any:
    from hoopfast.replay import source

    try:
        return source.read(lines, rows, starts)
    except ValueError as failure:
        raise click.ClickException(str(failure)) from failure
    finally:
        if hasattr(lines, "close"):
            lines.close()


# ---------------------------------------------------------------- the target

def _sandbox(dsn: str, config: str, i_mean_it: bool) -> Any:
    """Connect to it, after having made sure that it is none of ours."""
    import psycopg

    from hoopfast.replay import target

    places, upstreams = ([], []) if i_mean_it else _guarded(config)
    try:
        target.refuse_by_name(dsn, places)
        sandbox = target.reach(dsn)
        for place in places:
            if sandbox.identity.is_at(place):
                raise target.forbidden(sandbox.shown, place.name)
        for name, upstream in upstreams:
            known = target.identify_upstream(upstream, _password(upstream))
            if known is None:
                click.echo(f"note: {name} cannot be asked who it is; compared by names and addresses only", err=True)
            elif known.is_same(sandbox.identity):
                raise target.forbidden(sandbox.shown, name)
    except target.ForbiddenTarget as refusal:
        raise click.ClickException(str(refusal)) from refusal
    except ValueError as refusal:
        raise click.UsageError(str(refusal)) from refusal
    except psycopg.Error as failure:
        raise click.ClickException(f"the sandbox cannot be used: {failure}") from failure
    return sandbox


def _guarded(config: str) -> tuple[list[Any], list[Any]]:
    """Every database behind the gateway and the gateway itself, as places; upstreams that can be asked who they are."""
    from hoopfast import config as configuration
    from hoopfast import units
    from hoopfast.errors import ConfigError
    from hoopfast.replay.target import Place

    path = Path(config or admin.DEFAULT_CONFIG)
    if not config and not path.exists():
        raise click.UsageError(
            f"give the gateway's configuration with -c (here is no {admin.DEFAULT_CONFIG}), so that the target can be "
            "compared with its databases, or say --i-mean-it")
    try:
        loaded = configuration.load(path)
    except ConfigError:
        return _places(path), []        # a file with other faults still names its databases
    listen = units.parse_address(loaded.listen.address)
    places = [
        Place(f"the upstream of connection {name}", one.upstream.host, one.upstream.port, one.upstream.database)
        for name, one in loaded.connections.items()
    ]
    places.append(Place("the gateway itself", _reachable(listen.host), listen.port, ""))
    return places, [(f"the upstream of connection {name}", one.upstream) for name, one in loaded.connections.items()]


def _reachable(host: str) -> str:
    return "localhost" if host in {"0.0.0.0", "::", "", "*"} else host  # noqa: S104 - compared, not bound


def _places(path: Path) -> list[Any]:
    import yaml

    from hoopfast.replay.target import Place

    try:
        connections = (yaml.safe_load(path.read_text()) or {}).get("connections") or {}
        found = []
        for name, connection in connections.items():
            at = connection["upstream"]
            found.append(Place(
                f"the upstream of connection {name}", str(at["host"]), int(at.get("port", 5432)), str(at["database"])))
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as failure:
        raise click.ClickException(
            f"{path} does not say which databases are the gateway's ({failure}); mend it, or say --i-mean-it",
        ) from failure
    return found


def _password(upstream: Any) -> str:
    from hoopfast import secrets
    from hoopfast.errors import GatewayError

    try:
        return secrets.resolve(upstream.password) if upstream.password else ""
    except GatewayError:
        return ""                       # it is the service's: then names and addresses have to do


# ---------------------------------------------------------------- the run, and what is said of it

def _conduct(trail: Any, rows: Any, sandbox: Any, run: Any, given: dict[str, Any], *, many: bool) -> Any:
    from hoopfast.cli.sessions import console
    from hoopfast.errors import GatewayError
    from hoopfast.replay import conduct

    logging.getLogger("hoopfast").setLevel(logging.CRITICAL)        # what fails is in the report
    stop = _stop(given["stop_at"], trail)
    out = console()
    wanted = given["steps"] or ("different" if many else "all")
    total = conduct.statements_in(trail, stop)
    with _progress(out, total) as step_done:

        def shown(step: Any) -> None:
            step_done()
            if wanted == "all" or (wanted == "different" and step.verdict.status == "differs"):
                _show(out, step, many=many)

        try:
            made = conduct.conduct(
                trail, rows, sandbox, run, stop=stop, stop_at=given["stop_at"], on_step=shown)
        except GatewayError as failure:
            raise click.ClickException(f"the replay ended: {failure}") from failure
    _summary(out, made)
    return made


@contextlib.contextmanager
def _progress(out: Any, total: int) -> Iterator[Callable[[], None]]:
    if not out.is_terminal:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=out,
                  transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


def _show(out: Any, step: Any, *, many: bool) -> None:
    from hoopfast.cli.sessions import plain

    verdict, one = step.verdict, step.one
    sql = " ".join(one.sql.split())
    lead = f"{one.session} {one.seq:>5}" if many else f"{one.seq:>6}"
    mark = MARKS[verdict.status]
    pad = " " * (10 - len(verdict.status))
    out.print(f"{lead}  {mark}{pad} {plain(sql[:SQL_SHOWN])}{'...' if len(sql) > SQL_SHOWN else ''}")
    said = f"\\[{verdict.kind}] {plain(verdict.why)}" if verdict.kind and verdict.why else plain(verdict.why)
    for line in filter(None, (said, plain(verdict.note))):
        out.print(f"          {line}")
    for line in verdict.diff:
        colour = {"-": "red", "+": "green"}.get(line[:1], "dim")
        out.print(f"          [{colour}]{plain(line)}[/]")


def _summary(out: Any, made: Any) -> None:
    from hoopfast.cli.sessions import plain

    counts = f"{made.statements} statements: {made.same} the same, {made.differs} differ, {made.skipped} skipped"
    counts += f", {made.adapted} adapted" if made.adapted else ""
    out.print(f"\n[bold]{counts}, {made.unrecorded} without a recorded outcome[/]")
    if made.interrupted:
        out.print("  [yellow]interrupted: the rest is missing[/]")
    if made.classes:
        out.print("  " + ", ".join(f"{count} {plain(kind)}" for kind, count in made.classes.items()))
    pace = f"  {len(made.sessions)} sessions on {plain(made.target)} in {made.seconds:.1f} s"
    pace += f" ({made.statements_per_second:.0f} statements/s), recorded in {made.recorded_seconds:.1f} s"
    out.print(pace)
    if made.speed != "max":
        out.print(f"  speed {made.speed}: {made.lag_max_s:.2f} s behind at most, {made.lag_s:.2f} s at the end")
    for stall in made.stalls:
        held = f", held by {', '.join(stall.held_by)}" if stall.held_by else ""
        out.print(f"  [yellow]{plain(stall.session)} {stall.seq}[/] after {stall.seconds:.1f} s{plain(held)}: "
                  f"{plain(stall.what)}")


def _write(made: Any, json_file: Path | None, html_file: Path | None) -> None:
    from hoopfast.replay.page import page
    from hoopfast.replay.report import encode

    try:
        if json_file is not None:
            json_file.write_bytes(encode(made))
        if html_file is not None:
            html_file.write_text(page(made), encoding="utf-8")
    except OSError as failure:
        raise click.ClickException(f"the report cannot be written: {failure}") from failure
