"""How the tour looks: headings, statements, tables, and check marks that count. Used by the parts of demo/tour.py.

Everything that is claimed goes through `verify`, so that what the person reads is what was tested.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 120
CELL_MAX = 120


class Show:
    """The terminal. `pace` is how many seconds a person gets to read a step; 0 when nobody watches.

    Without a terminal (a pipe, a log) everything is printed without colours, PLAIN_WIDTH wide.
    """

    def __init__(self, console: Console | None = None, pace: float = 0.0) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console = Console(file=self.console.file, highlight=False, width=PLAIN_WIDTH, color_system=None)
        self.pace = pace
        self.verified = 0
        self.failed: list[str] = []
        self._step = ""

    # ---------------------------------------------------------------- frame

    def banner(self, text: str) -> None:
        self.console.print(Panel(Text(text, justify="center"), style="black on yellow", padding=(0, 1)))

    def step(self, number: int, total: int, title: str, why: str) -> None:
        """The heading of a step and a sentence on why it matters."""
        self._step = title
        self.console.print()
        self.console.print(Rule(f"[bold cyan]{number}/{total}  {escape(title)}[/]", align="left", style="cyan"))
        self.console.print(f"[italic]{escape(why)}[/]")

    def pause(self, share: float = 1.0) -> None:
        """Time to read, `share` of the pace; Enter ends it."""
        if self.pace <= 0:
            return
        if not sys.stdin.isatty():
            time.sleep(self.pace * share)
        elif select.select([sys.stdin], [], [], self.pace * share)[0]:
            sys.stdin.readline()

    # ---------------------------------------------------------------- content

    def sql(self, who: str, text: str, parameters: Sequence[Any] = ()) -> None:
        """A statement as somebody types it."""
        line = Text.assemble((f"{who}=> ", "bold green"), (text, "bold"))
        if parameters:
            values = ", ".join(f"${i} = {value!r}" for i, value in enumerate(parameters, 1))
            line.append(f"   [{values}]", style="dim")
        self.console.print(line)

    def command(self, who: str, text: str) -> None:
        """A command line as somebody types it."""
        self.console.print(Text.assemble((f"{who}$ ", "bold green"), text))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
        table = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else cell_text(cell) for cell in row))
        self.console.print(table)

    def answer(self, text: str, style: str = "") -> None:
        """What a server or command said, indented."""
        for line in text.strip("\n").rstrip().splitlines():
            self.console.print(Padding(Text(line, style=style), (0, 0, 0, 4), expand=False))

    def error(self, failure: BaseException) -> None:
        self.answer(error_text(failure), "red")

    def note(self, text: str) -> None:
        self.console.print(f"[dim]{escape(text)}[/]")

    # ---------------------------------------------------------------- proof

    def verify(self, claim: object, text: str) -> bool:
        """Show `text` with a check mark when `claim` is true, and count it as a failure when it is not."""
        if claim:
            self.verified += 1
            self.console.print(Text.assemble(("✓ ", "bold green"), text))
        else:
            self.failed.append(f"{self._step}: {text}")
            self.console.print(Text.assemble(("✗ not so: ", "bold red"), text))
        return bool(claim)

    def broken(self, failure: Exception) -> None:
        """A step that could not be done at all."""
        self.verify(False, f"this step ran ({type(failure).__name__}: {failure})")

    def summary(self, seconds: float) -> None:
        if not self.failed:
            said = f"All {self.verified} checks of the tour hold ({seconds:.0f} s)."
            self.console.print(Panel(Text(said), style="green", expand=False))
            return
        lines = [f"{len(self.failed)} of {self.verified + len(self.failed)} checks failed:"]
        lines += [f"  ✗ {failure}" for failure in self.failed]
        self.console.print(Panel(Text("\n".join(lines)), style="red", expand=False))


def cell_text(value: Any) -> Text:
    """A value as psql would show it, safe for a terminal, NULL visible."""
    if value is None:
        return Text("NULL", style="dim italic")
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return Text(text if len(text) <= CELL_MAX else f"{text[: CELL_MAX - 1]}…")


def masked(value: Any) -> Text:
    """A value that the gateway changed."""
    cell = cell_text(value)
    cell.stylize("bold magenta")
    return cell


def error_text(failure: BaseException) -> str:
    """An error as psql prints it: severity, message, detail, hint and SQLSTATE where it has them."""
    diag = getattr(failure, "diag", None)
    if diag is not None and diag.message_primary is not None:
        return notice_text(diag)
    # A refused login arrives as one text, behind the address that libpq puts in front.
    severity = "FATAL:"
    _, found, said = str(failure).partition(severity)
    return severity + said if found else str(failure)


def notice_text(diag: Any) -> str:
    """The fields of an error or notice of PostgreSQL's protocol, one a line."""
    lines = [f"{diag.severity}:  {diag.message_primary}" + (f"  ({diag.sqlstate})" if diag.sqlstate != "00000" else "")]
    if diag.message_detail:
        lines.append(f"DETAIL:  {diag.message_detail}")
    if diag.message_hint:
        lines.append(f"HINT:  {diag.message_hint}")
    return "\n".join(lines)
