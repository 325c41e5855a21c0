"""Tables for the command line: as wide as the terminal and no wider; whole and plain where the output is piped.

A terminal that is too narrow first gets clipped texts, then fewer columns (the least important go first, and it says
so). Used by the verbs that list something. Pure but for asking for the terminal's width.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

GAP = 2
WIDTH_MIN = 40


class Column(NamedTuple):
    """`least`: characters it may be clipped to (0: never clipped). `importance`: the lowest are left out first."""

    title: str
    importance: int
    least: int = 0


def clean(value: Any, *, newlines: bool = False) -> str:
    """Text of a stranger without control characters: a statement must not repaint the reader's terminal."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() or (newlines and c in "\n\t") else "\N{REPLACEMENT CHARACTER}" for c in text)


def moment(value: Any, *, seconds: bool = True) -> str:
    """A time as the API gives it (ISO text or unix seconds), UTC."""
    if isinstance(value, str):
        text = value[:19].replace("T", " ")
    else:
        text = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S") if value else ""
    return clean(text if seconds else text[:16])


def dump(value: Any) -> str:
    """JSON for people and for jq."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def is_piped() -> bool:
    """Whether standard output is no terminal: then nothing is shortened."""
    return terminal_width() is None


def terminal_width() -> int | None:
    """Columns of the terminal on standard output; None when there is none (a pipe, a file)."""
    if not sys.stdout.isatty():
        return None
    import shutil

    return max(shutil.get_terminal_size().columns, WIDTH_MIN)


def lines_of(columns: Sequence[Column], rows: Sequence[Sequence[Any]], width: int | None) -> list[str]:
    """Header and rows as lines of at most `width` characters (None: no limit), and what was left out for that."""
    from rich.cells import cell_len, set_cell_size

    texts = [[clean(cell) for cell in row] for row in rows]
    wanted = [max([cell_len(c.title), *(cell_len(row[i]) for row in texts)]) for i, c in enumerate(columns)]
    shown, sizes = _fit(columns, wanted, width)

    def clip(text: str, size: int) -> str:
        return text if cell_len(text) <= size else set_cell_size(text, max(size - 1, 0)).rstrip() + "…"

    def line(cells: Sequence[str]) -> str:
        fitted = [clip(cells[i], sizes[i]) for i in shown]
        padded = [text + " " * (sizes[i] - cell_len(text)) for text, i in zip(fitted, shown, strict=True)]
        return (" " * GAP).join(padded).rstrip()

    return [line([c.title.upper() for c in columns]), *(line(row) for row in texts)]


def left_out(columns: Sequence[Column], rows: Sequence[Sequence[Any]], width: int | None) -> list[str]:
    """Titles of the columns for which there is no room."""
    from rich.cells import cell_len

    wanted = [max([cell_len(c.title), *(cell_len(clean(row[i])) for row in rows)]) for i, c in enumerate(columns)]
    shown, _ = _fit(columns, wanted, width)
    return [column.title for i, column in enumerate(columns) if i not in shown]


def echo(columns: Sequence[Column], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """Print the table; `empty` goes to standard error when there is nothing in it."""
    import click

    if not rows:
        click.echo(empty, err=True)
        return
    width = terminal_width()
    if width:
        # What is empty everywhere costs room and says nothing; scripts want the same columns always.
        used = [i for i in range(len(columns)) if any(row[i] not in (None, "") for row in rows)]
        columns, rows = [columns[i] for i in used], [[row[i] for i in used] for row in rows]
    head, *body = lines_of(columns, rows, width)
    click.echo(click.style(head, bold=True) if width else head)
    for text in body:
        click.echo(text)
    if width and (missing := left_out(columns, rows, width)):
        click.secho(f"(no room for {', '.join(missing)}: widen the terminal, or use --json)", dim=True, err=True)


def _fit(columns: Sequence[Column], wanted: Sequence[int], width: int | None) -> tuple[list[int], dict[int, int]]:
    """Indexes of the columns that are shown, and the size of each."""
    shown = list(range(len(columns)))
    while True:
        sizes = {i: wanted[i] for i in shown}
        over = 0 if width is None else sum(sizes.values()) + GAP * (len(shown) - 1) - width
        while over > 0:
            # The longest text gives first, so that short ones stay whole.
            soft = [i for i in shown if columns[i].least and sizes[i] > columns[i].least]
            if not soft:
                break
            longest = max(soft, key=lambda i: sizes[i])
            sizes[longest] -= 1
            over -= 1
        if over <= 0 or len(shown) == 1:
            return shown, sizes
        shown.remove(min(shown, key=lambda i: columns[i].importance))
