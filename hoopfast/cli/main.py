"""The `hoopfast` command: a table of verbs, each in a module of its own that is imported only when it is called."""

from __future__ import annotations

import importlib

import click

# verb -> (module with a click command named `command`, or module:name; one line for the overview)
VERBS = {
    "login": ("hoopfast.cli.login:login", "sign in at a gateway, so that psql and other clients just work"),
    "logout": ("hoopfast.cli.login:logout", "sign out again"),
    "token": ("hoopfast.cli.login:token", "print your secret, for tools that ask a command for a password"),
    "exec": ("hoopfast.cli.login:exec_", "run a command with your sign-in in its environment"),
    "serve": ("hoopfast.cli.serve", "run the gateway"),
    "check": ("hoopfast.cli.check", "validate configuration and policy without starting"),
    "policy": ("hoopfast.cli.policy", "test a policy, compare two versions on what was recorded"),
    "provision": ("hoopfast.cli.provision", "print the SQL with which the database itself hides columns, or compare"),
    "explain": ("hoopfast.cli.explain", "say what would become of a statement, and why"),
    "secret": ("hoopfast.cli.secret", "create, list and revoke gateway secrets"),
    "approvals": ("hoopfast.cli.approvals", "list, show, approve and reject held statements"),
    "sessions": ("hoopfast.cli.sessions", "list sessions, show one as a timeline, end one"),
    "audit": ("hoopfast.cli.audit", "search, export and follow the audit trail"),
    "replay": ("hoopfast.cli.replay", "run a recorded session again in a sandbox and compare"),
    "demo": ("hoopfast.cli.demo", "the whole product on an embedded database"),
}


class Verbs(click.Group):
    """Lazy group: `hoopfast --help` imports nothing heavy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name or "command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


@click.group(cls=Verbs)
@click.version_option(package_name="hoopfast")
def main() -> None:
    """hoopfast: a PostgreSQL access gateway."""
