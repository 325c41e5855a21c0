"""Logs: one line per event on standard error, key=value (default) or JSON, and never a credential in it.

Every module logs with the standard library (`logging.getLogger(__name__)`); more fields go into
`extra={"fields": {...}}`.
`setup` is called once per process. Levels: debug for developers, info for what an operator may want to know tomorrow,
warning for what they should look at, error for what is broken now.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import time
import traceback
from typing import Any, Literal, TextIO

# A JWT is three base64url parts of which the first begins with {" ; a gateway secret begins with hf_.
_SECRETS = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}"
    r"|\bhf(?:demo)?_[A-Za-z0-9_-]{4,}"
    r"|(?i:\bbearer +|\b(?:password|client_secret|token) *= *)(?!\[)[^\s,;\"'&]{6,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
_LABEL = re.compile(r"(?i)bearer +|[a-z_]+ *= *")
_LINE_MAX = 16_384
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+-]+")

Format = Literal["logfmt", "json"]


def redact(text: str) -> str:
    """The text without anything that looks like a token, a gateway secret, or a password in a URL or assignment."""
    return _SECRETS.sub(_mark, text)


def _mark(match: re.Match[str]) -> str:
    found = match.group()
    if found.startswith("eyJ"):
        return "[token]"
    if found.startswith("hf"):
        return "[secret]"
    label = _LABEL.match(found)
    return f"{label.group()}[redacted]" if label else "[redacted]"


class LineFormatter(logging.Formatter):
    """One record, one line: newlines of messages and tracebacks are escaped, so a client cannot forge a line."""

    def __init__(self, style: Format = "logfmt", process: str = "") -> None:
        super().__init__()
        self._shape = style
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fields = self._fields(record)
        if self._shape == "json":
            line = json.dumps({name: _clean(value) for name, value in fields.items()}, ensure_ascii=False, default=str)
        else:
            line = " ".join(f"{name}={_quoted(_clean(value))}" for name, value in fields.items())
        if not line.isprintable():
            # JSON leaves some that terminals obey (C1) or that turn the text around (bidirectional marks).
            line = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line[:_LINE_MAX])
        return line if len(line) <= _LINE_MAX else line[:_LINE_MAX] + "[cut]"

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        when = time.gmtime(record.created)
        fields: dict[str, Any] = {
            "ts": f"{time.strftime('%Y-%m-%dT%H:%M:%S', when)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if self._process:
            fields["process"] = self._process
        fields["msg"] = record.getMessage()
        extra = getattr(record, "fields", None)
        if isinstance(extra, dict):
            fields.update(extra)
        if record.exc_info and record.exc_info[0] is not None:
            out = io.StringIO()
            traceback.print_exception(*record.exc_info, limit=20, file=out)
            fields["exception"] = out.getvalue().rstrip()
        return fields


def setup(level: str = "info", *, style: Format = "logfmt", process: str = "", stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (standard error). Replaces what was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(style, process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "uvicorn", "asyncio", "sqlalchemy", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def _clean(value: Any) -> Any:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    return redact(str(value))


def _quoted(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
