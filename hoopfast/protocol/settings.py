"""What a client's startup settings become on their way upstream: pure rules, used by the front before it logs in.

The settings travel in our own StartupMessage. In a session with masks some are pinned, because the gateway and the
server must agree where a literal ends and in which encoding a value is masked.
"""

from __future__ import annotations

from typing import Final

from hoopfast import limits
from hoopfast.errors import ClientFault
from hoopfast.protocol import sqlstate

_UTF8: Final = ("utf8", "unicode")
# Encodings whose second byte may be a backslash or quote: the server converts before it reads, the gateway does not.
_AMBIGUOUS: Final = ("sjis", "mskanji", "shiftjis", "win932", "windows932", "shiftjis2004", "big5", "win950",
                     "windows950", "gbk", "win936", "windows936", "gb18030", "uhc", "win949", "windows949", "johab")
_QUIET: Final = ("notice", "warning", "error", "fatal", "panic")
# They print plans and trees, constants of masked columns included, into notices.
_REVEALING: Final = ("debug_print_parse", "debug_print_raw_parse", "debug_print_rewritten", "debug_print_plan")


def application_name(person: str, client: str, order: str = "person-first") -> str:
    """What the server's pg_stat_activity and log show, at most 63 bytes: `person` and the client's own name.

    `order` is the connection's `application_name`. Where both do not fit, the client's name is cut, not the person.
    """
    if order == "client":
        return _cut(client, limits.IDENTIFIER_MAX_BYTES)
    if order == "person-first" or not client:
        return _cut(f"{person} {client}", limits.IDENTIFIER_MAX_BYTES)
    who = _cut(person, limits.IDENTIFIER_MAX_BYTES)
    return f"{_cut(client, limits.IDENTIFIER_MAX_BYTES - len(who.encode()) - 1)} {who}".strip()


def _cut(name: str, size: int) -> str:
    clean = "".join(c if c.isprintable() else "?" for c in name.strip())
    return clean.encode("utf-8", "replace")[: max(size, 0)].decode("utf-8", "ignore").rstrip()


def upstream_settings(
    client: dict[str, str], person: str, *, masked: bool, order: str = "person-first"
) -> dict[str, str]:
    """Settings for the upstream StartupMessage. ClientFault 22023 for one that this session may not have."""
    settings = dict(client)
    settings["application_name"] = application_name(person, settings.get("application_name", ""), order)
    encoding = _folded(settings.get("client_encoding", ""))
    if encoding in _AMBIGUOUS:
        raise _refused("client_encoding", settings["client_encoding"], "Use client_encoding UTF8.")
    # Rules and masks alike need to know where a literal ends.
    if not _is_on(settings.get("standard_conforming_strings", "on")):
        raise _refused("standard_conforming_strings", "off", "Use E'...' for escapes.")
    settings["standard_conforming_strings"] = "on"
    if not masked:
        return settings
    # SQL_ASCII is what a client without a locale sends: it asks for nothing in particular.
    if encoding and encoding not in _UTF8 and encoding != "sqlascii":
        raise _refused(
            "client_encoding", settings["client_encoding"],
            "Columns are masked for you here, which needs UTF8: set PGCLIENTENCODING=UTF8.",
        )
    settings["client_encoding"] = "UTF8"
    for name in _REVEALING:
        if _is_on(settings.get(name, "off")):
            raise _refused(name, "on", "Columns are masked for you here; this setting prints what they hold.")
    if settings.get("client_min_messages", "notice").lower() not in _QUIET:
        raise _refused("client_min_messages", settings["client_min_messages"], "Use notice or higher.")
    return settings


def recorded(client: dict[str, str]) -> dict[str, str]:
    """Of a client's startup settings those that the audit trail keeps, so that a replay starts alike.

    Settings with a dot are an application's own: nobody knows what they hold, so none of them is written down.
    """
    return {name: value for name, value in client.items() if name != "application_name" and "." not in name}


def unreadable(name: str, value: str) -> str:
    """A hint why gateway and server would read SQL differently after SET `name` TO `value`; empty if not."""
    if name == "client_encoding" and _folded(value) in _AMBIGUOUS:
        return "Use client_encoding UTF8."
    if name == "standard_conforming_strings" and value and value != "default" and not _is_on(value):
        return "Use E'...' for escapes."
    return ""


def check_reported(parameters: dict[str, str]) -> str:
    """Why the server's reported parameters do not allow masking; empty when they do."""
    if _folded(parameters.get("client_encoding", "")) not in _UTF8:
        return f"client_encoding is {parameters.get('client_encoding', 'not reported')!r}"
    if parameters.get("standard_conforming_strings") != "on":
        return f"standard_conforming_strings is {parameters.get('standard_conforming_strings', 'not reported')!r}"
    return ""


def _folded(encoding: str) -> str:
    """An encoding's name as the server compares it: letters and digits only, in lower case."""
    return "".join(c for c in encoding.lower() if c.isalnum())


def _is_on(value: str) -> bool:
    # The server takes prefixes of true and yes, "on" and "1"; what it does not take at all it refuses itself.
    lowered = value.strip().lower()
    if not lowered:
        return False
    return lowered in ("1", "on") or "true".startswith(lowered) or "yes".startswith(lowered)


def _refused(name: str, value: str, hint: str) -> ClientFault:
    return ClientFault(
        sqlstate.INVALID_PARAMETER_VALUE, f'"{name}" cannot be "{value}" in a session through the gateway', hint=hint
    )
