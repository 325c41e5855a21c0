"""Templates to responses: jinja2 with escaping always on, the headers of every page, and a few filters.

What strangers wrote goes through `visible`: escaped, and with characters that cannot be seen shown by their code.
Pure but for reading the templates. Used by console/pages.py only.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

_CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    # No scripts at all, so none can be injected; `render` allows our own one where a page refreshes itself.
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: browsers would then hide the Origin of our own forms too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
ONELINE_MAX = 160


def render(template: str, code: int = 200, /, *, refresh: int = 0, **values: Any) -> HTMLResponse:
    """The page `template` (without .html) with a status code; `values` are the template's, whatever their names.

    `refresh`: seconds after which the page brings itself up to date; 0 never.
    """
    headers, nonce = HEADERS, ""
    if refresh:
        nonce = secrets.token_urlsafe(16)
        headers = HEADERS | {"Content-Security-Policy": f"{_CSP}; script-src 'nonce-{nonce}'; connect-src 'self'"}
    known = {"who": None, "waiting_count": 0}
    page = _environment.get_template(f"{template}.html").render(**known | values, refresh=refresh, nonce=nonce)
    return HTMLResponse(page, code, headers)


# ---------------------------------------------------------------- what strangers wrote

def visible(value: Any) -> Markup:
    """Escaped text in which nothing hides: control, bidirectional and zero-width characters are shown by their code.

    Otherwise an approver could be shown another statement than the one that runs.
    """
    if isinstance(value, Markup):
        return value
    text = str(value).replace("\r\n", "\n")
    if text.isprintable():
        return escape(text)
    return Markup("").join(escape(c) if _plain(c) else Markup('<span class="odd">U+{:04X}</span>').format(ord(c))
                           for c in text)


def has_odd(text: str) -> bool:
    return not all(map(_plain, text.replace("\r\n", "\n")))


def _plain(character: str) -> bool:
    return character.isprintable() or character in "\n\t"


def oneline(sql: str) -> Markup:
    """The beginning of a statement, for a table."""
    text = " ".join(sql[:ONELINE_MAX * 4].split())
    return visible(text[:ONELINE_MAX] + (" …" if len(text) > ONELINE_MAX or len(sql) > ONELINE_MAX * 4 else ""))


def masked_columns(columns: Sequence[Any], masks: Sequence[str]) -> list[bool]:
    """Which result columns carry the name of a masked column of the statement.

    By name only, since the trail keeps no origins of result columns: a renamed one is not found, so pages always list
    the masks beside it.
    """
    hidden = {mask.rpartition(".")[2] for mask in masks}
    return [(column["name"] if isinstance(column, dict) else column) in hidden for column in columns]


# ---------------------------------------------------------------- times and sizes

def moment(value: Any) -> str:
    """Unix seconds or an event's own text, as UTC to the second; "" for 0 and nothing."""
    if isinstance(value, str):
        return value[:19].replace("T", " ")
    if not value:
        return ""
    return datetime.fromtimestamp(float(value), UTC).strftime("%Y-%m-%d %H:%M:%S")


def daytime(value: str) -> str:
    """The time of day of an event's own text, to the millisecond."""
    return value[11:23].rstrip("Z")


def span(seconds: Any) -> str:
    """40 s, 12 min, 3 h, 5 d."""
    left = max(float(seconds), 0.0)
    for unit, size_s, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if left < most * size_s:
            return f"{left / size_s:.0f} {unit}"
    return f"{left / 86400:.0f} d"


def ago(value: Any, now: float) -> str:
    return f"{span(now - float(value))} ago" if value else ""


def until(value: Any, now: float) -> str:
    """For the end of something that waits."""
    left = float(value or 0) - now
    return f"expires in {span(left)}" if left > 0 else "expires now"


def lasted(begin: str, end: str) -> str:
    """Between two times of the audit trail."""
    try:
        return span((datetime.fromisoformat(end[:19]) - datetime.fromisoformat(begin[:19])).total_seconds())
    except (TypeError, ValueError):
        return "?"


def duration(microseconds: Any) -> str:
    """3 µs, 1.2 ms, 4.5 s."""
    us = float(microseconds or 0)
    if us < 1000:
        return f"{us:.0f} µs"
    return f"{us / 1000:.1f} ms" if us < 1_000_000 else f"{us / 1_000_000:.1f} s"


def size(count: Any) -> str:
    """Bytes for people."""
    value = float(count or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def shown(value: Any) -> str:
    """A database value: NULL for None, texts as they are, anything else as JSON."""
    if value is None:
        return "NULL"
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def listed(value: Any) -> str:
    """A list or an object as "a, b" or "a=1, b=2"."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={shown(item)}" for name, item in value.items())
    return ", ".join(map(shown, value)) if isinstance(value, list | tuple) else shown(value)


def conninfo(value: Any) -> str:
    """A value inside of a libpq connection string in double quotes of a shell."""
    text = str(value)
    if text and all(c.isalnum() or c in "._-@+" for c in text):
        return text
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "".join("\\" + c if c in '"$`\\' else c for c in quoted)


def _make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hoopfast.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        visible, has_odd, oneline, masked_columns, moment, daytime, span, ago, until, lasted, duration, size,
        shown, listed, conninfo,
    ):
        environment.filters[function.__name__] = function
    return environment


_environment = _make_environment()
