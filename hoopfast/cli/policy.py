"""`hoopfast policy`: try a policy out before it is in force."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from hoopfast.cli.audit import filters
from hoopfast.cli.client import connect
from hoopfast.cli.closure import closure

if TYPE_CHECKING:
    from hoopfast.analysis.catalog import Catalog
    from hoopfast.control.comparison import Comparison
    from hoopfast.control.preview import Preview
    from hoopfast.policy.expectations import Expectation, Suite
    from hoopfast.policy.source import Policy

SHOWN_SQL = 200                         # characters of a statement in a list
OK, FAILED, UNSURE = 0, 1, 2            # exit statuses of `policy test`
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
CONFIG = click.option("-c", "--config", "config_file", envvar="HOOPFAST_CONFIG",
                      help="The gateway's configuration.  [default: hoopfast.yaml, if there is one]")


@click.group()
def command() -> None:
    """Test a policy against expectations, compare two versions, show what its masks reach."""


command.add_command(closure)


# ---------------------------------------------------------------- test

class Result(NamedTuple):
    """`status`: OK, FAILED or UNSURE, which says what is missing in `note`."""

    expected: Expectation
    seen: Preview
    status: int
    note: str


@command.command()
@click.argument("file", type=EXISTING)
@click.option("--policy", "policy_file", type=EXISTING, help="Instead of the policy that FILE or the "
              "configuration names.")
@CONFIG
@click.option("--live", is_flag=True, help="Read the catalogs from the databases.")
@click.option("--rules-only", is_flag=True, help="Leave out whether hidden columns let a statement pass.")
def test(file: Path, policy_file: Path | None, config_file: str | None, live: bool, rules_only: bool) -> None:
    """Compare what the policy says with the expectations in FILE (docs/policy.md has the format).

    Needs no gateway, and no database unless a test is about hidden columns and FILE names no catalog for it. Exits with
    0 when everything is as expected, with 1 when something is not, with 2 when something could not be judged.
    """
    from hoopfast.cli import offline
    from hoopfast.control.preview import preview
    from hoopfast.errors import ConfigError
    from hoopfast.policy.expectations import expectations, load_suite

    try:
        suite = load_suite(file)
    except ConfigError as fault:
        raise offline.explained(fault) from fault
    tests = expectations(suite)
    found = offline.load_config(config_file)
    settings = found[0] if found else None
    path = policy_file or _policy_of(suite, file, settings)
    policy = offline.load_policy(path, settings.connections if settings else None)
    places = dict.fromkeys([*(settings.connections if settings else ()), *(test.connection for test in tests)])
    snapshot = offline.snapshot_of(policy, places)
    catalogs: dict[str, Catalog] = {
        name: offline.open_catalog(file.parent / kept, policy, name) for name, kept in suite.catalogs.items()}
    if live and not rules_only:
        settings = offline.need_config(config_file)
        for name in sorted({test.connection for test in tests if test.sql} - {*catalogs}):
            if any(snapshot.masks_for(_situation(one).identity, name) for one in tests if one.connection == name):
                catalogs[name] = offline.read_catalog(settings, policy, name)
    results = [
        _compare(one, preview(snapshot, _situation(one), one.sql or None, catalogs.get(one.connection),
                              masks=not rules_only))
        for one in tests
    ]
    sys.exit(_report(results))


def _policy_of(suite: Suite, file: Path, settings: Any) -> Path:
    if suite.policy:
        return file.parent / suite.policy
    if settings is not None:
        return Path(settings.policy)
    raise click.UsageError(f"say which policy: `policy:` in {file}, --policy, or a configuration with -c")


def _situation(test: Expectation) -> Any:
    from hoopfast.control.preview import Situation
    from hoopfast.model import Client, Identity

    return Situation(
        identity=Identity(user=test.user, subject=test.user, issuer="test", groups=test.groups),
        connection=test.connection, client=Client(peer=test.address, application=test.application), now=test.at)


def _compare(test: Expectation, seen: Preview) -> Result:
    from hoopfast.control.preview import MASKING

    right = seen.verdict == test.verdict and test.rule in (None, seen.rule)
    # What is missing can only turn the verdict into a refusal by the masks.
    hopeless = not right and (test.verdict, test.rule) not in {("deny", None), ("deny", MASKING)}
    if seen.open_question and not hopeless:
        return Result(test, seen, UNSURE, f"{seen.open_question}: name it under `catalogs`, or use --live")
    if seen.ruling.timed and test.at is None:
        return Result(test, seen, UNSURE, "it depends on the time: say `at`")
    return Result(test, seen, OK if right else FAILED, "")


def _report(results: list[Result]) -> int:
    from hoopfast.cli.sessions import console, plain

    out = console()
    marks = {OK: "[green]ok    [/]", FAILED: "[red]FAILED[/]", UNSURE: "[yellow]unsure[/]"}
    for test, seen, status, note in results:
        out.print(f"{marks[status]} {plain(test.name)}")
        if status == OK:
            continue
        groups = f" ({', '.join(test.groups)})" if test.groups else ""
        out.print(f"       {plain(f'{test.user}{groups} on {test.connection}')}")
        if test.sql:
            out.print(f"       {plain(_shortened(test.sql))}")
        out.print(f"       expected {plain(_verdict(test.verdict, test.rule))}")
        out.print(f"       got      {plain(_verdict(seen.verdict, seen.rule))}{plain(_because(seen))}")
        if note:
            out.print(f"       not sure, because {plain(note)}")
    failed, unsure = (sum(result.status == status for result in results) for status in (FAILED, UNSURE))
    good = len(results) - failed - unsure
    out.print(f"\n{len(results)} tests: {good} as expected, {failed} not, {unsure} not judged")
    return FAILED if failed else UNSURE if unsure else OK


def _verdict(verdict: str, rule: str | None) -> str:
    return f'{verdict} by rule "{rule}"' if rule else verdict if rule is None else f"{verdict} by no rule"


def _because(seen: Preview) -> str:
    return f": {seen.reason}" if seen.reason else ""


def _shortened(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= SHOWN_SQL else f"{text[:SHOWN_SQL]}…"


# ---------------------------------------------------------------- diff

@command.command()
@click.argument("old", type=EXISTING)
@click.argument("new", type=EXISTING)
@click.option("--on-recorded", is_flag=True, help="Ask both versions about the statements in the audit trail.")
@click.option("--events", "events_file", type=click.File("rb"), help="Events of `hoopfast audit export` (- for a "
              "pipe), instead of the running gateway's trail.")
@CONFIG
@click.option("--server", envvar="HOOPFAST_SERVER", default="", help="URL of the admin API, instead of the socket.")
@click.option("--token", envvar="HOOPFAST_TOKEN", default="", help="OIDC token or gateway secret, for --server.")
@click.option("--ca", envvar="HOOPFAST_CA", default="", help="Private CA of the server's certificate.")
@filters
@click.option("--limit", default=50, show_default=True, help="List at most this many changes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def diff(
    old: Path, new: Path, on_recorded: bool, events_file: Any, config_file: str | None, server: str, token: str,
    ca: str, given: dict[str, str], limit: int, as_json: bool,
) -> None:
    """Say what the policy file NEW changes against OLD, and with --on-recorded, for which recorded statements.

    Both are asked who, where, from where, when and what, so that a rule on the time of day is asked with the time at
    which the statement ran. Exits with 1 when a recorded statement's verdict would change (without --on-recorded: when
    the files differ).
    """
    from hoopfast.cli import offline

    before, after = offline.load_policy(old), offline.load_policy(new)
    lines = differences(before, after)
    if not (on_recorded or events_file):
        for line in lines:
            click.echo(line)
        sys.exit(1 if lines else 0)
    if events_file:
        if given:
            raise click.UsageError("filters are for the gateway's trail: give them to `hoopfast audit export`")
        comparison = _compared(before, after, _exported(events_file))
    else:
        with connect(config=config_file or "", server=server, token=token, ca=ca) as client:
            wanted = {"event": "statement"} | given
            comparison = _compared(before, after, client.stream("/audit/export", **wanted))
    if as_json:
        _dump(comparison, lines, limit)
    else:
        _show(comparison, lines, limit)
    sys.exit(1 if comparison.changed else 0)


def _exported(file: Any) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.MsgspecError as fault:
                raise click.ClickException(f"line {number} of the events is not a JSON object") from fault


def _compared(before: Policy, after: Policy, events: Iterable[dict[str, Any]]) -> Comparison:
    from hoopfast.cli import offline
    from hoopfast.control.comparison import Comparison

    comparison = Comparison(lambda name: (offline.snapshot_of(before, [name]), offline.snapshot_of(after, [name])))
    for event in events:
        comparison.add(event)
    return comparison


def differences(old: Policy, new: Policy) -> list[str]:
    """What stands in one file and not in the other, as lines that begin with -, + or ~ (what changed or moved)."""
    lines: list[str] = []
    for part in ("access", "masks"):
        before, after = ([msgspec.json.encode(entry).decode() for entry in getattr(one, part)] for one in (old, new))
        lines += [f"- {part}: {entry}" for entry in before if entry not in after]
        lines += [f"+ {part}: {entry}" for entry in after if entry not in before]
        if sorted(before) == sorted(after) and before != after:
            lines.append(f"~ {part}: the same entries in another order")
    rules, changed = ({rule.name: rule for rule in one.rules} for one in (old, new))
    lines += [f"- rule {name}: {rule.action}" for name, rule in rules.items() if name not in changed]
    lines += [f"+ rule {name}: {rule.action}" for name, rule in changed.items() if name not in rules]
    for name, rule in rules.items():
        if name in changed and changed[name] != rule:
            fields = [f for f in rule.__struct_fields__ if getattr(rule, f) != getattr(changed[name], f)]
            lines.append(f"~ rule {name}: other {', '.join(fields)}")
    kept = [name for name in rules if name in changed]
    if kept != [name for name in changed if name in rules]:
        lines.append("~ rules: another order")
    return lines


def _show(found: Comparison, lines: list[str], limit: int) -> None:
    from hoopfast.cli.sessions import console, plain

    out = console()
    for line in lines:
        out.print(plain(line))
    for change in found.changes[:limit]:
        (before, rule), (after, other) = change.old, change.new
        out.print(f"\n[bold]{before}[/]{plain(f' ({rule})' if rule else '')} -> [bold]{after}[/]"
                  f"{plain(f' ({other})' if other else '')}  {change.times} times, last {plain(change.last[:19])}")
        groups = f" ({', '.join(change.groups)})" if change.groups else ""
        out.print(f"    {plain(f'{change.user}{groups} on {change.connection}')}")
        out.print(f"    {plain(_shortened(change.sql))}")
    if (more := max(len(found.changes) - limit, 0) + found.left_out) > 0:
        out.print(f"\n… and {more} more (--limit)")
    for word, columns in (("hides", found.hidden), ("no longer hides", found.shown)):
        for name, names in sorted(columns.items()):
            listed = plain(", ".join(sorted(names)))
            out.print(f"\n{plain(name)}: the new version {word} {listed} from somebody in the trail")
    skipped = f"; {found.skipped} without a text were left out" if found.skipped else ""
    out.print(f"\n{found.statements} recorded statements, {found.changed} would get another verdict{skipped}")


def _dump(found: Comparison, lines: list[str], limit: int) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode({
        "differences": lines, "statements": found.statements, "changed": found.changed, "skipped": found.skipped,
        "changes": found.changes[:limit], "left_out": max(len(found.changes) - limit, 0) + found.left_out,
        "hidden": {name: sorted(names) for name, names in found.hidden.items()},
        "shown": {name: sorted(names) for name, names in found.shown.items()},
    })).decode())


# ---------------------------------------------------------------- catalog

@command.command()
@click.argument("connection")
@CONFIG
@click.option("--policy", "policy_file", type=EXISTING, help="Instead of the policy that the configuration names.")
@click.option("-o", "--output", type=click.File("wb"), default="-", help="Instead of standard output.")
def catalog(connection: str, config_file: str | None, policy_file: Path | None, output: Any) -> None:
    """Keep what the gateway knows of CONNECTION's database in a file, for tests without the database.

    It holds names only (tables, masked columns, functions), no rows. Make it again when masks or tables change.
    """
    from hoopfast.cli import offline

    settings = offline.need_config(config_file)
    policy = offline.load_policy(policy_file or Path(settings.policy), settings.connections)
    output.write(offline.save_catalog(policy, connection, offline.read_catalog(settings, policy, connection)))
