"""`hoopfast explain`: what would become of a statement, by which rule, and where its columns come from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hoopfast.cli.policy import CONFIG, EXISTING
from hoopfast.cli.table import clean

if TYPE_CHECKING:
    from rich.tree import Tree

    from hoopfast.analysis.catalog import Catalog, Hidden
    from hoopfast.analysis.gate import StatementJudgement
    from hoopfast.control.describe import Described
    from hoopfast.control.preview import Preview, Situation
    from hoopfast.policy.snapshot import Step

PASSES = frozenset({"allow", "limit", "warn"})


@click.command()
@click.argument("sql")
@CONFIG
@click.option("--as", "user", required=True, help="Who would run it.")
@click.option("--group", "groups", multiple=True, help="A group of theirs; again for more.  [default: those of "
              "their latest recorded session, if a gateway runs]")
@click.option("--connection", required=True, help="Where.")
@click.option("--policy", "policy_file", type=EXISTING, help="Instead of the policy that the configuration names.")
@click.option("--address", default=None, help="Address of the client.")
@click.option("--application", default=None, help="What the client calls itself.")
@click.option("--at", default="", help="When, such as 2026-01-31T22:00:00+01:00.  [default: now]")
@click.option("--catalog", "catalog_file", type=EXISTING, help="File of `hoopfast policy catalog`, instead of "
              "the database.")
@click.option("--offline", "without", is_flag=True, help="Ask no database.")
def command(
    sql: str, config_file: str | None, user: str, groups: tuple[str, ...], connection: str, policy_file: Path | None,
    address: str | None, application: str | None, at: str, catalog_file: Path | None, without: bool,
) -> None:
    """Say what would become of SQL, without running it: the verdict, the rule, and the origin of each output column.

    The database is asked for its catalog and for the statement's description; nothing is run there. Exits with 0 when
    the statement would run, with 1 when it would be refused or held, with 2 when that is not sure.
    """
    from hoopfast.cli import offline
    from hoopfast.control.preview import hidden_from, preview, read_by_the_server, traced, with_origins

    config = offline.need_config(config_file)
    target = offline.connection_of(config, connection)
    policy = offline.load_policy(policy_file or Path(config.policy), config.connections)
    snapshot = offline.snapshot_of(policy, config.connections)
    situation, told = _situation(config_file, user, groups, connection, address, application, at)
    catalog: Catalog | None = None
    if snapshot.masks_for(situation.identity, connection):
        if catalog_file:
            catalog = offline.open_catalog(catalog_file, policy, connection)
        elif not without:
            catalog = offline.read_catalog(config, policy, connection)
    seen = preview(snapshot, situation, sql, catalog)
    if seen.misread and not (without or catalog_file):
        seen = read_by_the_server(seen, _describe(target, connection, sql)[1])
    steps = [traced(snapshot, situation, found) for found in seen.facts]
    columns: tuple[Described, ...] = ()
    trouble = ""
    if not (without or catalog_file) and len(seen.statements) == 1:
        columns, trouble = _describe(target, connection, seen.statements[0].text)
    hidden = hidden_from(snapshot, situation, catalog)
    seen = with_origins(seen, hidden, catalog, [(column.table_oid, column.attnum) for column in columns])
    _print(_tree(seen, steps, situation, told, columns, hidden, trouble))
    sys.exit(2 if seen.open_question else 0 if seen.verdict in PASSES else 1)


def _situation(
    config_file: str | None, user: str, groups: tuple[str, ...], connection: str, address: str | None,
    application: str | None, at: str,
) -> tuple[Situation, str]:
    """And a sentence about where the groups come from."""
    import time

    from hoopfast.control.preview import Situation
    from hoopfast.model import Client, Identity
    from hoopfast.policy.expectations import moment

    told = ""
    if not groups:
        groups = _recorded_groups(config_file, user)
        told = "groups of the latest recorded session" if groups else "no groups are known: give them with --group"
    try:
        now = moment(at) if at else time.time()
    except ValueError as fault:
        raise click.BadParameter(str(fault), param_hint="--at") from fault
    identity = Identity(user=user, subject=user, issuer="explain", groups=groups)
    return Situation(identity=identity, connection=connection, now=now,
                     client=Client(peer=address, application=application)), told


def _recorded_groups(config_file: str | None, user: str) -> tuple[str, ...]:
    """Groups are the identity provider's to say; what the trail has of a person is the next best."""
    from hoopfast.cli.client import DEFAULT_CONFIG, connect

    try:
        with connect(config=config_file or DEFAULT_CONFIG) as client:
            events = client.get("/audit/search", user=user, event="session_start", limit=1)["events"]
    except click.ClickException:
        return ()
    return tuple(events[0].get("groups") or ()) if events else ()


def _describe(target: Any, name: str, sql: str) -> tuple[tuple[Described, ...], str]:
    from hoopfast.cli import offline
    from hoopfast.control.describe import Refused, describe

    try:
        found: tuple[Described, ...] = offline.asked(describe(target, offline.password_of(target), sql), name)
    except Refused as refusal:
        return (), str(refusal)
    return found, ""


# ---------------------------------------------------------------- the tree

def _print(tree: Tree) -> None:
    from rich.console import Console

    from hoopfast.cli.table import is_piped

    Console(highlight=False, width=1000 if is_piped() else None).print(tree)


def _tree(
    seen: Preview, steps: list[tuple[Step, ...]], situation: Situation, told: str, columns: tuple[Described, ...],
    hidden: Hidden, trouble: str,
) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    from hoopfast.analysis.lineage import outputs

    colour = "yellow" if seen.open_question or seen.verdict in ("warn", "approve") else (
        "green" if seen.verdict in PASSES else "red")
    rule = f' by rule "{seen.rule}"' if seen.rule else ""
    tree = Tree(Text.assemble((seen.verdict, f"bold {colour}"), clean(rule)))
    if seen.reason:
        tree.add(Text(f"because {clean(seen.reason)}"))
    if seen.hint:
        tree.add(Text(f"way out: {clean(seen.hint)}"))
    if seen.judgement is not None and (knob := seen.judgement.knob):
        tree.add(Text(f"the policy's knob for this is `{knob}` (docs/hidden-columns.md)"))
    if seen.open_question:
        tree.add(Text(f"not sure: {clean(seen.open_question)}", style="yellow"))
    if trouble:
        tree.add(Text(f"the server refuses it: {clean(trouble)}", style="red"))
    _who(tree, situation, told)
    _ruling(tree, seen)
    _statements(tree, seen, steps)
    _columns(tree, seen, columns, hidden)
    for name in dict.fromkeys(name for one in _judged(seen) for name in one.steers):
        tree.add(Text(clean(f"CONTROL: {name} is hidden from them and decides which rows come back"), "yellow"))
    if not columns and not trouble and any(outputs(one) for one in seen.statements):
        tree.add(Text("which table a column comes from is the server's answer: one statement, without --offline and "
                      "--catalog, is asked there"))
    return tree


def _who(tree: Tree, situation: Situation, told: str) -> None:
    from rich.text import Text

    who = situation.identity
    node = tree.add(Text(clean(f"{who.user} on {situation.connection}")))
    node.add(Text(clean(f"groups: {', '.join(who.groups) or 'none'}{f' ({told})' if told else ''}")))
    for name, value in (("address", situation.client.peer), ("application", situation.client.application)):
        if value is not None:
            node.add(Text(clean(f"{name}: {value}")))


def _ruling(tree: Tree, seen: Preview) -> None:
    from rich.text import Text

    ruling = seen.ruling
    for warned in ruling.warnings:
        tree.add(Text(clean(f'rule "{warned.rule}" warns{f": {warned.reason}" if warned.reason else ""}')))
    if ruling.action == "approve":
        tree.add(Text(clean(f"waits for {ruling.approvals_needed} of {', '.join(ruling.approver_groups)}, "
                            f"at most {ruling.expires_s:g} s")))
    if ruling.limit_s:
        tree.add(Text(clean(f'rule "{ruling.limit_rule}" lets it run for {ruling.limit_s:g} s')))
    if ruling.timed:
        tree.add(Text("another time of day may give another verdict"))


def _statements(tree: Tree, seen: Preview, steps: list[tuple[Step, ...]]) -> None:
    from rich.text import Text

    for statement, found, asked in zip(seen.statements, seen.facts, steps, strict=True):
        node = tree.add(Text(clean(" ".join(statement.text.split()))))
        node.add(Text(f"is: {', '.join(found.kinds)}{', unfiltered' if found.unfiltered else ''}"))
        columns = [".".join(filter(None, pair)) for pair in found.touches]
        for word, names in (("tables", found.tables), ("columns", columns), ("functions", found.functions),
                            ("schemas", found.schemas)):
            if names:
                node.add(Text(clean(f"{word}: {', '.join(names)}")))
        if found.opaque:
            node.add(Text(clean(f"cannot be read: {found.opaque}")))
        rules = node.add(Text("rules")) if asked else node
        for step in asked:
            style = "bold" if step.counts else "dim"
            rules.add(Text(clean(f"{step.rule} ({step.action}) {step.why}"), style=style))


def _judged(seen: Preview) -> tuple[StatementJudgement, ...]:
    return seen.judgement.statements if seen.judgement is not None else ()


def _columns(tree: Tree, seen: Preview, columns: tuple[Described, ...], hidden: Hidden) -> None:
    """From the server's description where there is one, otherwise what the text tells.

    The word in capitals is the column's place in CLEAN < SOURCE < DERIVED < OPAQUE.
    """
    from rich.text import Text

    from hoopfast.analysis.lineage import outputs
    from hoopfast.model import MASK_NAMES

    items = outputs(seen.statements[0]) if len(seen.statements) == 1 else ()
    if not columns and not items:
        return
    node = tree.add(Text("output columns"))
    if not columns:
        for item in items:
            what = f" of {', '.join(item.reads)}" if item.reads and item.kind == "expression" else ""
            node.add(Text(clean("all columns" if item.kind == "star" else f"{item.name or '?'}: {item.kind}{what}")))
        return
    masks = {(one.table_oid, one.attnum): MASK_NAMES[hidden.specs[one.mask].kind] for one in hidden.columns}
    # An item stands for one column each only where no * is among them.
    aligned = items if len(items) == len(columns) and all(item.kind != "star" for item in items) else ()
    for number, column in enumerate(columns):
        mask = masks.get((column.table_oid, column.attnum))
        label = Text(clean(f"{column.name}  {column.type}  "))
        if mask:
            masked = f"SOURCE: from {column.origin}, masked ({mask}): the policy hides it from them"
            label.append(clean(masked), "yellow")
        elif column.origin:
            label.append(clean(f"CLEAN: from {column.origin}, shown as it is"))
        else:
            label.append(*_without_origin(seen, aligned[number].reads if aligned else (), hidden))
        node.add(label)


def _without_origin(seen: Preview, reads: tuple[str, ...], hidden: Hidden) -> tuple[str, str]:
    """What is known of a computed column that reads these, and its colour."""
    from hoopfast.analysis import gate

    what = f"an expression of {', '.join(reads)}" if reads else "an expression"
    names = {name.rpartition(".")[2] for name in hidden.names.values()}
    judged = _judged(seen)
    if any(one.redact for one in judged):
        return clean(f"DERIVED: {what}, shown as NULL like every column here without an origin"), "yellow"
    if not seen.masks or (seen.judgement is not None and seen.judgement.outcome in (gate.CLEAN, gate.TOUCHED)):
        proven = ", which reads no hidden column" if seen.masks else ""
        return clean(f"CLEAN: {what}{proven}: it has no origin, and is shown as it is"), ""
    hides = sorted(read for read in reads if read.rpartition(".")[2] in names)
    if hides:
        return clean(f"DERIVED: {what}; {', '.join(hides)} may be hidden from them"), "red"
    return clean(f"OPAQUE: {what}, of which nothing is proven"), "red"
