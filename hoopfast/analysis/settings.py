"""Which settings a session with masks may change, and how COPY's options read. Used by `gate`.

Some settings make server and gateway disagree about where a literal ends; others print data into messages.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hoopfast.analysis.classify import option_on
from hoopfast.analysis.flow import Refused
from hoopfast.analysis.tree import Body, text_constant, unwrap

QUIET_LEVELS = frozenset({"notice", "warning", "error", "fatal", "panic"})
UTF8 = frozenset({"utf8", "utf-8", "unicode"})
TRUE = frozenset({"on", "true", "yes", "1", "t", "tru", "y", "ye", "default"})
FORBIDDEN_PREFIXES = ("debug_", "auto_explain.", "log_", "trace_", "session_preload", "local_preload",
                      "dynamic_library", "jit_debugging", "jit_dump", "wal_", "ignore_", "allow_system", "backtrace_")


def check_setting(name: str, values: list[str | None]) -> None:
    """Raise Refused when SET `name` TO `values` could open a way around the masks. None: a value not known here."""
    name = name.lower()
    value = (values[0] or "").lower() if values else "default"
    unknown = None in values
    if name == "standard_conforming_strings" and (unknown or value not in TRUE):
        raise Refused("standard_conforming_strings has to stay on while columns are hidden from you")
    if name in ("client_encoding", "names") and (unknown or value not in UTF8 | {"default"}):
        raise Refused("client_encoding has to stay UTF8 while columns are hidden from you")
    if name == "client_min_messages" and (unknown or value not in QUIET_LEVELS | {"default"}):
        raise Refused("client_min_messages cannot be more talkative than notice while columns are hidden from you")
    if name.startswith(FORBIDDEN_PREFIXES):
        raise Refused(f"setting {name} cannot be changed while columns are hidden from you")


def assigned(node: Body) -> tuple[str, str]:
    """Name and value that a VariableSetStmt gives a setting, in lower case; empty where the text does not say."""
    values = [text_constant(arg) for arg in node.get("args", ())]
    return str(node.get("name", "")).lower(), (values[0] or "").lower() if values else ""


def check_set(node: Body) -> str:
    """Check a VariableSetStmt; returns the setting's name ("" for RESET ALL)."""
    name = str(node.get("name", ""))
    if str(node.get("kind")) in ("VAR_SET_VALUE", "VAR_SET_CURRENT"):
        check_setting(name, [text_constant(arg) for arg in node.get("args", ())] or [None])
    return name.lower()


class CopyFormat(msgspec.Struct, frozen=True):
    """How the rows of COPY TO STDOUT are written: the arguments of `_wire.pack_copy_plan`."""

    format: str
    delimiter: bytes
    quote: bytes
    escape: bytes
    null: bytes
    header: bool = False


def copy_format(node: Body) -> CopyFormat:
    """The options of a COPY TO. Raises Refused for one that nobody has thought about."""
    options: dict[str, Any] = {}
    for item in node.get("options", ()):
        _, body = unwrap(item)
        options[str(body.get("defname"))] = body
    unknown = set(options) - {"format", "delimiter", "null", "header", "quote", "escape", "force_quote", "encoding"}
    if unknown:
        raise Refused(f"COPY option {min(unknown)} cannot be used while columns are hidden from you")
    text = {name: text_constant(body.get("arg")) for name, body in options.items()}
    if "encoding" in text and (text["encoding"] or "").lower() not in UTF8:
        raise Refused("COPY has to use UTF8 while columns are hidden from you")
    kind = (text.get("format") or "text").lower()
    if kind not in ("text", "csv", "binary"):
        raise Refused(f"COPY format {kind} is not known")
    if "force_quote" in options and "null" in options:
        raise Refused("COPY with both force_quote and null cannot be masked reliably")
    csv = kind == "csv"
    quote = text.get("quote") or '"'
    return CopyFormat(
        format=kind,
        delimiter=(text.get("delimiter") or ("," if csv else "\t")).encode(),
        quote=quote.encode(),
        escape=(text.get("escape") or quote).encode(),
        null=(text["null"] or "" if "null" in text else "" if csv else "\\N").encode(),
        header="header" in options and (text["header"] == "match" or option_on(options["header"])),
    )
