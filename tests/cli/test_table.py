"""Tables of the command line: nothing is wider than the terminal, what matters stays, pipes get everything."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from hoopfast.cli import approvals, secret, sessions
from hoopfast.cli.table import Column, clean, echo, left_out, lines_of, moment

COLUMNS = (Column("id", 9), Column("who", 8, least=6), Column("text", 7, least=10), Column("when", 1))
ROWS = [("apr_1", "ana@example.com", "SELECT " + "x" * 90, "2026-01-31 12:00"), ("apr_2", "bo", "y", "")]


@pytest.mark.parametrize("width", range(20, 160))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(cell_len, lines_of(COLUMNS, ROWS, width))) <= width
    assert all("apr_" in line for line in lines_of(COLUMNS, ROWS, width)[1:])


def test_the_longest_gives_first_then_the_least_important_goes() -> None:
    assert "ana@example.com  SELECT xx" in lines_of(COLUMNS, ROWS, 70)[1]
    assert left_out(COLUMNS, ROWS, 70) == []
    assert left_out(COLUMNS, ROWS, 40) == ["when"]
    narrow = lines_of(COLUMNS, ROWS, 40)
    assert narrow[0].split() == ["ID", "WHO", "TEXT"]
    assert narrow[1].endswith("…")


def test_a_pipe_gets_everything() -> None:
    assert ROWS[0][2] in lines_of(COLUMNS, ROWS, None)[1]
    assert left_out(COLUMNS, ROWS, None) == []


def test_wide_characters_count_twice() -> None:
    rows = [("数据库" * 10, "ana"), ("x", "bo")]
    lines = lines_of((Column("name", 2, least=8), Column("who", 1)), rows, 24)
    assert all(cell_len(line) <= 24 for line in lines)
    assert lines[1].index("ana") < lines[2].index("bo")          # in characters; on the screen they are aligned
    assert cell_len(lines[1][: lines[1].index("ana")]) == cell_len(lines[2][: lines[2].index("bo")])


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\u202eb", "a\nb", "a\x9bb"])
def test_nobody_repaints_the_terminal(text: str) -> None:
    assert lines_of((Column("x", 1),), [(text,)], None)[1] in ("a\ufffdb", "a\ufffd[2Jb")
    assert clean("a\nb", newlines=True) == "a\nb"


def test_an_empty_list_is_said_beside_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    echo(COLUMNS, [], "nothing waits")
    assert capsys.readouterr() == ("", "nothing waits\n")


@pytest.mark.parametrize("columns", [approvals.COLUMNS, secret.COLUMNS, sessions.COLUMNS])
def test_eighty_columns_show_what_matters(columns: tuple[Column, ...]) -> None:
    long = {"session": "6b03fe680117d578", "user": "somebody.with.a.name@example.com", "statements": "12 (3 denied)",
            "started": "2026-01-31 12:00", "until": "2026-01-31 12:00", "secret": "sec_f40f2b66b8",
            "request": "apr_auk46kpn", "state": "withdrawn", "where": "orders-production", "statement": "DROP " * 40,
            "who": "somebody.with.a.name@example.com", "application": "pgAdmin 4 - CONN:8392217", "lasted": "12 min"}
    rows = [[long.get(column.title, "x" * 12) for column in columns]]
    lines = lines_of(columns, rows, 80)
    assert all(len(line) <= 80 for line in lines)
    first = [column for column in columns if column.importance >= 7]
    assert all(column.title.upper() in lines[0] for column in first)
    assert not any(line.replace("…", "").split() == [] for line in lines)


def test_times_of_both_kinds() -> None:
    assert moment(0) == ""
    assert moment(1_700_000_000.5) == "2023-11-14 22:13:20"
    assert moment("2026-01-31T12:00:59.123456789Z", seconds=False) == "2026-01-31 12:00"
