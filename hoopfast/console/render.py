"""Templates to responses: jinja2 with escaping always on, the headers of every page, and a few filters.

Pure but for reading the templates. Used by console/pages.py only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

HEADERS = {
    # No scripts at all, so none can be injected.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: browsers would then hide the Origin of our own forms too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def render(template: str, code: int = 200, /, **values: Any) -> HTMLResponse:
    """The page `template` (without .html) with a status code; `values` are the template's, whatever their names."""
    return HTMLResponse(_environment.get_template(f"{template}.html").render(**values), code, HEADERS)


def moment(value: Any) -> str:
    """Unix seconds or an event's own text, as UTC to the second; "" for 0 and nothing."""
    if isinstance(value, str):
        return value[:19].replace("T", " ")
    if not value:
        return ""
    return datetime.fromtimestamp(float(value), UTC).strftime("%Y-%m-%d %H:%M:%S")


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


def _make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hoopfast.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": moment, "duration": duration, "size": size, "shown": shown}
    return environment


_environment = _make_environment()
