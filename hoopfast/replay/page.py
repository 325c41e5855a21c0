"""A report as one HTML page: nothing is loaded, everything is escaped, scripts only filter. Used by cli/replay.py."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from hoopfast.replay.compare import DIFFERS, SAME
from hoopfast.replay.report import Report

SAME_MAX = 2000                         # steps that did the same, on the page; JSON has all of them
SQL_MAX = 4000


def page(made: Report) -> str:
    """Every step that differs or was left out, and the first SAME_MAX of the others."""
    environment = Environment(
        loader=PackageLoader("hoopfast.replay", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
    environment.filters |= {"ms": _ms, "shown": _shown}
    steps, same = [], 0
    for step in made.steps:
        same += step.status == SAME
        if step.status != SAME or same <= SAME_MAX:
            steps.append(step)
    return environment.get_template("report.html").render(
        report=made, steps=steps, left_out=len(made.steps) - len(steps), differing=DIFFERS,
        people={session.session: session.user for session in made.sessions},
    )


def _ms(us: int) -> str:
    return f"{us / 1000:.1f} ms" if us < 1_000_000 else f"{us / 1_000_000:.2f} s"


def _shown(sql: str) -> str:
    text = sql.strip()
    return text if len(text) <= SQL_MAX else f"{text[:SQL_MAX]}... ({len(text)} characters)"
