"""What stays after the tour: addresses, a psql line, a token for each person, how to approve. Called by cli/demo.py."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from psycopg.conninfo import make_conninfo
from rich.panel import Panel
from rich.text import Text

from hoopfast.demo import issuer, settings
from hoopfast.demo.show import Show
from hoopfast.demo.stage import Stage

# As long as a session may last; the tokens die with the demo anyway.
TOKEN_LIFE_S = 8 * 3600.0


def write_credentials(stage: Stage) -> tuple[Path, dict[str, str]]:
    """A password file for psql and a token file for each person, readable by their owner only. Returns the former and
    the tokens by person."""
    tokens = {person.login: stage.token(person.login, TOKEN_LIFE_S) for person in issuer.PEOPLE}
    lines = [f"{settings.HOST}:{stage.port}:*:{login}:{token}\n" for login, token in tokens.items()]
    passwords = stage.directory / "pgpass"
    settings.write_private(passwords, "".join(lines).encode())
    for login, token in tokens.items():
        settings.write_private(stage.directory / f"{login}.token", token.encode())
    return passwords, tokens


def farewell(stage: Stage, show: Show) -> None:
    """Print how to go on by hand."""
    passwords, tokens = write_credentials(stage)
    out = show.console
    program = stage.psql()
    packaged = program.startswith(str(stage.directory)) or "pginstall" in program
    # The packaged psql has no TLS; the gateway allows that on loopback.
    dsn = make_conninfo(
        host=settings.HOST, port=stage.port, dbname=settings.CONNECTION, user="ana",
        sslmode="prefer" if packaged else "require",
    )
    out.print()
    ending = Text("The demo keeps running. Ctrl-C ends it and removes everything.", justify="center")
    out.print(Panel(ending, style="green"))
    name = shlex.quote(program) if packaged else "psql"
    _line(show, "psql as Ana", f"PGPASSFILE={passwords} {name} {shlex.quote(dsn)}")
    _line(show, "psql as Max", "the same with user=max (Ada administers and audits: no rule lets her at the data)")
    program_here = shlex.quote(_hoopfast())
    if not packaged:
        _line(show, "or sign in", f"{program_here} login {stage.admin_url} --ca {stage.directory}/server.crt"
                                  f"  (click on Ana), then: psql service={settings.CONNECTION}")
    _line(show, "any other client", f"host {settings.HOST}, port {stage.port}, database {settings.CONNECTION}, "
                                    "TLS required, user and password of:")
    for person in issuer.PEOPLE:
        out.print()
        out.print(f"[bold]{person.login}[/]  {person.name}, {person.role} (groups: {', '.join(person.groups)})")
        # In one piece, whatever the width: it will be copied.
        out.print(tokens[person.login], style="dim", soft_wrap=True)
    out.print()
    _line(show, "console", f"{stage.admin_url}/  (sign in by clicking on a person)")
    _line(show, "metrics", f"{stage.admin_url}/metrics")
    _line(show, "approve", f"open {stage.admin_url}/approvals as Max, or:")
    _line(show, "", f"HOOPFAST_SERVER={stage.admin_url} HOOPFAST_TOKEN=$(cat {stage.directory}/max.token) "
                    f"{program_here} approvals list")
    _line(show, "try", "SELECT * FROM employees; DELETE FROM order_items; DROP TABLE employees; GRANT ana TO max")
    _line(show, "policy", f"{stage.directory}/policy.yaml  (change it: it is read again at once)")
    _line(show, "gateway's log", str(stage.log))


def _hoopfast() -> str:
    """How to call this program again: `make demo` has it in a virtual environment that is not on the PATH."""
    started_by = Path(sys.argv[0])
    ours = started_by.name == "hoopfast" and not shutil.which("hoopfast")
    return str(started_by.absolute()) if ours else "hoopfast"


def _line(show: Show, label: str, text: str) -> None:
    show.console.print(Text.assemble((f"{label:<18}", "bold cyan"), text), soft_wrap=True)
