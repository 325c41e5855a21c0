"""The first packets of a client, as data: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage. Pure.

`net/startup.py` reads the bytes and answers; this module says what they are, with the limits and the SQLSTATEs of
PostgreSQL's ProcessStartupPacket. Every fault is a ClientFault that is fatal; `Unanswered` is one that PostgreSQL
itself answers by closing only.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from hoopfast import limits
from hoopfast.errors import ClientFault, GatewayError
from hoopfast.protocol import messages, sqlstate

TLS_RECORD_FIRST_BYTE: Final = 0x16                 # a TLS handshake record: direct TLS, no SSLRequest before it
NEWEST_MINOR: Final = 2
_SMUGGLED: Final = "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack."
_RESERVED: Final = ("user", "database", "replication", "options")
_TRUE: Final = ("on", "true", "yes", "1")
_FALSE: Final = ("off", "false", "no", "0")


class Unanswered(GatewayError):
    """Not a client of ours, or one that must learn nothing: close without a word (a port probe, a bad cancel)."""


class UnsupportedProtocol(ClientFault):
    """A protocol version that is not 3.x. `legacy` clients (before 3) read errors as plain text."""

    def __init__(self, major: int, minor: int) -> None:
        super().__init__(
            sqlstate.FEATURE_NOT_SUPPORTED,
            f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}",
            hint="Use a client for PostgreSQL 7.4 or later.",
        )
        self.legacy = major < 3

    def frame(self) -> bytes:
        """The ErrorResponse in the form this client can read."""
        if self.legacy:
            return b"EFATAL:  " + self.message.encode() + b"\n\x00"
        return messages.error_response("FATAL", self.sqlstate, self.message, hint=self.hint)


class SslRequest(NamedTuple):
    """Ask for TLS; answered with one byte."""


class GssRequest(NamedTuple):
    """Ask for GSSAPI encryption; always answered with N."""


class CancelRequest(NamedTuple):
    pid: int
    secret: bytes


class StartupRequest(NamedTuple):
    """What a client wants. `database` is the user when none was named; `parameters` are settings
    only, named in lower case.

    `minor` is the protocol we speak with it, `negotiate` whether it must be told so (with the `_pq_.` options we do
    not know, which stand in `unknown`).
    """

    user: str
    database: str
    parameters: dict[str, str]
    minor: int
    negotiate: bool
    unknown: tuple[str, ...]


Packet = SslRequest | GssRequest | CancelRequest | StartupRequest


def smuggled(request: str) -> ClientFault:
    """The answer to plaintext behind an SSLRequest or GSSENCRequest (CVE-2021-23214)."""
    return ClientFault(
        sqlstate.PROTOCOL_VIOLATION, f"received unencrypted data after {request} request", detail=_SMUGGLED
    )


# Of a Terminate message, which drivers send when they are closed before they have sent anything else.
_TERMINATE_HEAD = b"X\x00\x00\x00"


def packet_length(head: bytes) -> int:
    """Bytes that follow the 4 bytes of length in `head`. Checked before anything is allocated for them."""
    if head == _TERMINATE_HEAD:
        raise Unanswered("the client took its leave instead of logging in")
    (length,) = struct.unpack("!I", head)
    if not 8 <= length <= limits.STARTUP_PACKET_MAX_BYTES:
        raise ClientFault(
            sqlstate.PROTOCOL_VIOLATION, "invalid length of startup packet",
            hint="This port speaks the PostgreSQL protocol.",
        )
    return int(length) - 4


def parse_packet(body: bytes) -> Packet:
    """What a first packet is; `body` is what follows its length. ClientFault or Unanswered if it is none."""
    (code,) = struct.unpack_from("!I", body)
    if code == messages.CANCEL_REQUEST_CODE:
        return _parse_cancel(body)
    if code in (messages.SSL_REQUEST_CODE, messages.GSSENC_REQUEST_CODE):
        if len(body) != 4:
            raise ClientFault(sqlstate.PROTOCOL_VIOLATION, "invalid length of encryption request packet")
        return SslRequest() if code == messages.SSL_REQUEST_CODE else GssRequest()
    major, minor = code >> 16, code & 0xFFFF
    if major != 3:
        raise UnsupportedProtocol(major, minor)
    return _parse_startup(body[4:], minor)


def _parse_cancel(body: bytes) -> CancelRequest:
    secret = body[8:]
    if not limits.CANCEL_KEY_MIN_BYTES <= len(secret) <= limits.CANCEL_KEY_MAX_BYTES:
        raise Unanswered("invalid length of cancel request packet")
    return CancelRequest(struct.unpack_from("!I", body, 4)[0], secret)


def _parse_startup(body: bytes, minor: int) -> StartupRequest:
    pairs = _split_pairs(body)
    unknown = tuple(name for name, _ in pairs if name.startswith("_pq_."))
    parameters = {name: value for name, value in pairs if not name.startswith("_pq_.")}
    user = parameters.pop("user", "")
    database = parameters.pop("database", "") or user
    if not user:
        raise ClientFault(
            sqlstate.INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet",
            hint="Name a user, for example user=you@example.com.",
        )
    _refuse_replication(parameters.pop("replication", ""))
    settings = parse_options(parameters.pop("options", ""))
    settings.update({name.lower(): value for name, value in parameters.items()})    # these override `options`
    for name in settings:
        # The server compares names of settings without case, those of the packet with: `-c replication=on` or a
        # parameter `USER` must not become the real thing when the settings go upstream in a packet of ours.
        if name in _RESERVED or name.startswith("_pq_."):
            raise ClientFault(
                sqlstate.UNDEFINED_OBJECT, f'unrecognized configuration parameter "{name}"',
                hint="Settings in the startup packet and in options must be settings of the server.",
            )
    spoken = minor if minor in (0, NEWEST_MINOR) else (NEWEST_MINOR if minor > NEWEST_MINOR else 0)
    return StartupRequest(user, database, settings, spoken, spoken != minor or bool(unknown), unknown)


def _split_pairs(body: bytes) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    at = 0
    while at < len(body) and body[at] != 0:
        name_end = body.find(b"\x00", at)
        value_end = body.find(b"\x00", name_end + 1) if name_end >= 0 else -1
        if value_end < 0:
            break
        pairs.append((_text(body[at:name_end]), _text(body[name_end + 1:value_end])))
        at = value_end + 1
    if at != len(body) - 1:
        raise ClientFault(
            sqlstate.PROTOCOL_VIOLATION, "invalid startup packet layout: expected terminator as last byte"
        )
    return pairs


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ClientFault(
            sqlstate.CHARACTER_NOT_IN_REPERTOIRE, "a value of the startup packet is not valid UTF-8",
            hint="The gateway reads user, database and settings as UTF-8.",
        ) from None


def _refuse_replication(value: str) -> None:
    lowered = value.lower()
    if not lowered or lowered in _FALSE:
        return
    if lowered not in _TRUE and lowered != "database":
        raise ClientFault(sqlstate.INVALID_PARAMETER_VALUE, 'invalid value for parameter "replication"')
    raise ClientFault(
        sqlstate.FEATURE_NOT_SUPPORTED, "replication connections do not pass the gateway",
        detail="A replication stream carries whole tables: it cannot be masked, nor audited statement by statement.",
        hint="Connect to the database server itself for replication.",
    )


# ---------------------------------------------------------------- options

def split_options(text: str) -> list[str]:
    """Words of an `options` value: separated by white space, a backslash takes the next character as it is."""
    words: list[str] = []
    word: list[str] | None = None
    characters = iter(text)
    for character in characters:
        if character in " \t\n\r\v\f":
            if word is not None:
                words.append("".join(word))
                word = None
            continue
        word = [] if word is None else word
        word.append(next(characters, "") if character == "\\" else character)
    if word is not None:
        words.append("".join(word))
    return words


def parse_options(text: str) -> dict[str, str]:
    """Settings of an `options` value: `-c k=v`, `-ck=v`, `--k=v`. Names are folded (lower case, `_`)."""
    settings: dict[str, str] = {}
    words = iter(split_options(text))
    for word in words:
        if word.startswith("--") and len(word) > 2:
            flag, assignment = "--", word[2:]
        elif word == "-c":
            flag, assignment = "-c ", next(words, "")
        elif word.startswith("-c"):
            flag, assignment = "-c ", word[2:]
        else:
            raise ClientFault(
                sqlstate.SYNTAX_ERROR, f"invalid command-line argument for server process: {word}",
                hint="The gateway takes settings only, written as -c name=value or --name=value.",
            )
        name, equals, value = assignment.partition("=")
        if not name or not equals:
            raise ClientFault(sqlstate.SYNTAX_ERROR, f"{flag}{assignment} requires a value")
        settings[name.replace("-", "_").lower()] = value
    return settings

