"""`hoopfast check`: judge configuration, policy and secret references without starting anything.

Prints every problem of both files and exits with 1; or a summary, with notes on what is allowed but unusual, and exits
with 0.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

import click
import orjson
from rich.console import Console
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from hoopfast import config, document, secrets, units
from hoopfast.errors import ConfigError, Problem
from hoopfast.policy import source

WIDTH_PIPED = 1000                      # where nobody looks, no line is cut


@click.command(name="check")
@click.option("-c", "--config", "file", envvar="HOOPFAST_CONFIG", default="hoopfast.yaml", show_default=True,
              type=click.Path(path_type=Path), help="The configuration; it names the policy.")
@click.option("--no-secrets", is_flag=True, help="Do not try whether the secret references lead to secrets.")
@click.option("--schema", is_flag=False, flag_value="config", type=click.Choice(["config", "policy"]),
              help="Print the JSON Schema of one of the files and do nothing else.")
def command(file: Path, no_secrets: bool, schema: str | None) -> None:
    """Validate configuration and policy without starting."""
    if schema:
        described = config.json_schema() if schema == "config" else source.json_schema()
        click.echo(orjson.dumps(described, option=orjson.OPT_INDENT_2))
        return
    problems: list[Problem] = []
    settings = _load_config(file, problems)
    policy = _load_policy(file, settings, problems)
    if settings and not no_secrets:
        _try_secrets(file, settings, problems)
    if problems or settings is None or policy is None:
        _fail(problems)
    _summary(file, settings, policy)


def _load_config(file: Path, problems: list[Problem]) -> config.Config | None:
    try:
        return config.load(file, production=True)
    except ConfigError as e:
        problems += e.problems
        return None


def _load_policy(file: Path, settings: config.Config | None, problems: list[Problem]) -> source.Policy | None:
    """The policy, found and judged as far as possible even when the configuration has problems."""
    connections: list[str] | None
    if settings:
        path, connections = Path(settings.policy), list(settings.connections)
    else:
        raw: Any = document.read(file, document.Report(str(file)))
        if not isinstance(raw, dict):
            return None
        name, named = raw.get("policy", config.Config().policy), raw.get("connections")
        if not isinstance(name, str):
            return None
        path, connections = file.absolute().parent / name, list(named) if isinstance(named, dict) else None
    try:
        return source.load_policy(path, connections)
    except ConfigError as e:
        problems += e.problems
        return None


def _try_secrets(file: Path, settings: config.Config, problems: list[Problem]) -> None:
    for path, reference in config.secret_references(settings):
        try:
            secrets.resolve(reference)
        except secrets.SecretError as e:
            problems.append(Problem(str(file), path, str(e)))


def _fail(problems: list[Problem]) -> NoReturn:
    console = Console(highlight=False)
    if console.is_terminal:
        for file, found in groupby(problems, key=lambda problem: problem.file):
            console.print(Text(file, style="bold"), soft_wrap=True)
            for problem in found:
                # Text, because [0] in a path would be taken for markup.
                console.print(Padding(Text.assemble((problem.path, "red"), "  ", problem.what), (0, 0, 0, 2)))
        console.print(Text(f"\n{_count(len(problems), 'problem')}", style="bold red"))
    else:
        for problem in problems:
            click.echo(str(problem))
    sys.exit(1)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _summary(file: Path, settings: config.Config, policy: source.Policy) -> None:
    tree = Tree(Text(f"{file}: ok"))
    tree.add(Text(f"listens on {settings.listen.address}, {'TLS' if settings.listen.tls else 'no TLS'}"))
    tree.add(Text(f"admin API on {settings.admin.address}" if settings.admin.address else "no admin API"))
    connections = tree.add(Text(_count(len(settings.connections), "connection")))
    for name, connection in settings.connections.items():
        upstream = connection.upstream
        connections.add(Text(f"{name}: {upstream.database} on {upstream.host}:{upstream.port} as {upstream.user}, "
                             f"tls {upstream.tls}"))
    issuers = tree.add(Text(_count(len(settings.identity), "issuer")))
    for issuer in settings.identity:
        issuers.add(Text(f"{issuer.name}: {issuer.issuer}"))
    rules = tree.add(Text(
        f"policy {settings.policy}: {_count(len(policy.access), 'access rule')}, "
        f"{_count(sum(len(mask.columns) for mask in policy.masks), 'masked column')}, "
        f"{_count(len(policy.rules), 'statement rule')}"))
    for rule in policy.rules:
        rules.add(Text(f"{rule.name}: {rule.action}"))
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH_PIPED)).print(tree)
    for note in notes(settings, policy):
        click.echo(f"note: {note}")


def notes(settings: config.Config, policy: source.Policy) -> list[str]:
    """What is valid, and perhaps not meant."""
    found: list[str] = []
    if not settings.identity:
        found.append("no issuer is configured: only gateway secrets are accepted")
    if not any(access.action == "allow" for access in policy.access):
        found.append("no access rule lets anybody in")
    for name, connection in settings.connections.items():
        upstream = connection.upstream
        away = not upstream.host.startswith("/") and not units.is_loopback(upstream.host)
        if away and upstream.tls not in {"verify-ca", "verify-full"}:
            found.append(f"connection {name}: with tls: {upstream.tls} the gateway does not prove who {upstream.host} "
                         "is; verify-full does")
    able = {*settings.admin.approvers, *settings.admin.groups}
    found += [
        f"rule {rule.name}: none of its approver groups is in admin.approvers or admin.groups, so nobody can decide"
        for rule in policy.rules if rule.approvers and not able.intersection(rule.approvers.groups)
    ]
    restricting = [rule.name for rule in policy.rules if rule.action in {"deny", "approve"}]
    if restricting and not any(_covers_opaque(rule) for rule in policy.rules):
        found.append("no rule covers code that cannot be read (DO, CALL): what rules hold back can be done there; "
                     "add a rule with `when: {opaque: true}`")
    return found


def _covers_opaque(rule: source.Rule) -> bool:
    when = rule.when
    objects = when.tables or when.columns or when.schemas or when.functions
    unconditional = not when.statements and not objects and when.unfiltered is None and when.opaque is None
    return rule.action in {"deny", "approve"} and bool(when.opaque or unconditional or "do" in when.statements)
