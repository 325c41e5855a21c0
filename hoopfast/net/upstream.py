"""Logging in to PostgreSQL as a client: addresses, TLS, startup, authentication, until the first ReadyForQuery.

The front calls `login` for each session and `net/cancel.py` calls `open_route` for each cancel. Every failure is an
UpstreamFault; its text never holds the password, nor the server's address (that goes into the log).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from hoopfast import config, limits
from hoopfast._wire import TlsConnection, TlsContext
from hoopfast.errors import ClientFault, UpstreamFault
from hoopfast.net.channel import Channel, PeerGone, TlsFailed
from hoopfast.protocol import messages, scram, sqlstate

log = logging.getLogger(__name__)

ADDRESSES_MAX: Final = 8
LOGIN_MESSAGES_MAX: Final = 1000
_ASK_OPERATORS: Final = "Tell the operators of the gateway; its log names the server and the reason."


class Route(NamedTuple):
    """How one session reached its server, so that its cancels go the same way. `context` is None without TLS."""

    family: int
    address: object
    context: TlsContext | None
    hostname: str


class UpstreamLogin(NamedTuple):
    """A server ready for queries. The descriptor is the caller's; `leftover` was read behind ReadyForQuery."""

    fd: int
    tls: TlsConnection | None
    parameters: dict[str, str]
    pid: int                        # 0 with an empty secret: the server gave no cancel key
    secret: bytes
    leftover: bytes
    status: bytes
    route: Route


def client_context(target: config.Upstream) -> TlsContext | None:
    """The TLS context of a target; None when it is not to be used. ValueError with OpenSSL's reason on bad files."""
    if target.tls == "disable" or target.host.startswith("/"):
        return None
    verify = {"verify-ca": "ca", "verify-full": "full"}.get(target.tls, "ca" if target.ca else "none")
    if target.tls == "prefer":
        verify = "none"             # it falls back to plaintext anyway: a check would only pretend
    return TlsContext(
        server=False, certificate=target.cert or None, key=target.key or None, ca=target.ca or None,
        verify=verify,  # type: ignore[arg-type]  # one of its three words
    )


async def login(
    target: config.Upstream,
    context: TlsContext | None,
    password: Callable[[], Awaitable[str]],
    settings: dict[str, str],
    *,
    deadline: float,
    version: int = messages.PROTOCOL_3_0,
) -> UpstreamLogin:
    """Log in to `target` with `settings` in the StartupMessage (user and database are the target's).

    `password` is asked for only when the server wants one; `deadline` is loop time. UpstreamFault carries the server's
    own SQLSTATE when it refused (3D000, 53300, 57P03, ...), 08001 when it was not reached, 08004 when it did not accept
    the gateway's credential, 08006 when it broke the protocol.
    """
    channel, route = await _reach(target, context, deadline)
    try:
        channel.read_ahead = True
        own = {"user": target.user, "database": target.database}
        await channel.write(messages.startup_message(version, own | settings | own))
        state = await _converse(channel, target, password, version & 0xFFFF)
        fd, tls, leftover = channel.detach()
        return UpstreamLogin(fd, tls, state.parameters, state.pid, state.secret, leftover, state.status, route)
    except TimeoutError:
        raise _unreachable(target, "it did not finish the login in time") from None
    except (PeerGone, TlsFailed) as failure:
        raise _broken(target, str(failure)) from None
    except ClientFault:
        raise _broken(target, "it sent a message larger than a login may have") from None
    except ValueError as failure:
        raise _broken(target, str(failure)) from None
    finally:
        channel.close()


async def ask(
    target: config.Upstream,
    context: TlsContext | None,
    password: Callable[[], Awaitable[str]],
    sql: str,
    *,
    deadline: float,
) -> list[tuple[str | None, ...]]:
    """The rows of one small query of the gateway's own, on a connection of its own. UpstreamFault as `login`."""
    channel, _ = await _reach(target, context, deadline)
    try:
        own = {"user": target.user, "database": target.database, "application_name": "hoopfast"}
        await channel.write(messages.startup_message(messages.PROTOCOL_3_0, own))
        await _converse(channel, target, password, 0)
        await channel.write(messages.query(sql))
        rows: list[tuple[str | None, ...]] = []
        for _ in range(LOGIN_MESSAGES_MAX):
            kind, body = await _next(channel, target)       # raises what an ErrorResponse says
            if kind == b"D":
                rows.append(messages.parse_data_row(body))
            elif kind == b"Z":
                await channel.write(messages.frame(b"X", b""))
                return rows
        raise ValueError("its answer has no end")
    except TimeoutError:
        raise _unreachable(target, "it did not answer in time") from None
    except (PeerGone, TlsFailed, ClientFault, ValueError) as failure:
        raise _broken(target, str(failure)) from None
    finally:
        channel.close()


# ---------------------------------------------------------------- reaching it

async def _reach(target: config.Upstream, context: TlsContext | None, deadline: float) -> tuple[Channel, Route]:
    """The first address that answers, TLS settled. Addresses are tried in the resolver's order."""
    loop = asyncio.get_running_loop()
    failure = "its name has no address"
    for family, address in await _resolve(target, deadline):
        until = min(deadline, loop.time() + target.connect_timeout)
        route = Route(family, address, context, target.host)
        try:
            return await _open(target, route, until)
        except TimeoutError:
            failure = f"no answer within {target.connect_timeout:g} seconds"
        except (OSError, PeerGone, TlsFailed) as error:
            failure = getattr(error, "strerror", None) or str(error)
        log.debug("upstream address failed", extra={"fields": {"address": str(address), "reason": failure}})
        if loop.time() >= deadline:
            break
    raise _unreachable(target, failure)


async def _resolve(target: config.Upstream, deadline: float) -> list[tuple[int, object]]:
    if target.host.startswith("/"):
        return [(socket.AF_UNIX, f"{target.host}/.s.PGSQL.{target.port}")]
    try:
        async with asyncio.timeout_at(deadline):
            found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise _unreachable(target, "its name was not resolved in time") from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unreachable(target, f"its name cannot be resolved: {reason}") from None
    return [(int(family), address) for family, _, _, _, address in found[:ADDRESSES_MAX]]


async def _open(target: config.Upstream, route: Route, deadline: float) -> tuple[Channel, Route]:
    """A connection on `route`, with the fallback to plaintext that `prefer` allows."""
    try:
        return await open_route(route, deadline, plaintext=target.tls == "prefer")
    except (PeerGone, TlsFailed) as failure:
        if target.tls != "prefer" or route.context is None:
            raise
        fields = {"host": target.host, "reason": str(failure)}
        log.info("upstream TLS failed, going on without", extra={"fields": fields})
        return await open_route(route._replace(context=None), deadline)


async def open_route(route: Route, deadline: float, *, plaintext: bool = False) -> tuple[Channel, Route]:
    """Connect and, when the route has a TLS context, switch TLS on. Returns the route as it was really taken.

    `plaintext` allows going on when the server declines TLS. Raises OSError, PeerGone, TlsFailed, TimeoutError.
    """
    fd = socket.socket(route.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC).detach()
    channel = Channel(fd, asyncio.get_running_loop(), deadline=deadline)
    try:
        await channel.connect(route.address)
        if route.context is None:
            return channel, route
        await channel.write(messages.SSL_REQUEST)
        answer = await channel.read_exactly(1)
        if answer not in (b"S", b"N"):
            raise TlsFailed("the server answered the TLS request with an error" if answer == b"E"
                            else "the server's answer to the TLS request is none of the protocol")
        # The server has to wait for us now. Bytes behind its answer were put there by somebody else (CVE-2021-23222).
        if await channel.has_more():
            raise TlsFailed("the server sent unencrypted data ahead of the TLS handshake")
        if answer == b"S":
            await channel.start_tls(route.context, route.hostname)
            return channel, route
        if not plaintext:
            raise TlsFailed("the server does not offer TLS, which this connection requires")
        return channel, route._replace(context=None)
    except BaseException:
        channel.close()
        raise


# ---------------------------------------------------------------- startup and authentication

class _State:
    """What the server told during the login."""

    __slots__ = ("authenticated", "parameters", "pid", "secret", "status")

    def __init__(self) -> None:
        self.authenticated = False
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.secret = b""
        self.status = b"I"


async def _converse(
    channel: Channel, target: config.Upstream, password: Callable[[], Awaitable[str]], minor: int
) -> _State:
    state = _State()
    for _ in range(LOGIN_MESSAGES_MAX):
        kind, body = await _next(channel, target)
        if kind == b"R":
            if state.authenticated:
                raise ValueError("it asked for authentication twice")
            await _authenticate(channel, target, password, body)
            state.authenticated = True
        elif kind == b"v":
            offered, unknown = messages.parse_negotiate_protocol_version(body)
            if offered > minor or unknown:
                raise ValueError("it negotiated a protocol that was not offered")
        elif not state.authenticated:
            raise ValueError("it skipped authentication")
        elif kind == b"S":
            name, value = messages.parse_parameter_status(body)
            state.parameters[name] = value
        elif kind == b"K":
            state.pid, state.secret = messages.parse_backend_key_data(body)
        elif kind == b"Z" and body in (b"I", b"T", b"E"):
            state.status = body
            return state
        else:
            raise ValueError(f"a message of type {kind!r} has no place in a login")
    raise ValueError("its login has no end")


async def _next(channel: Channel, target: config.Upstream) -> tuple[bytes, bytes]:
    """The next message that is not a notice. UpstreamFault for an ErrorResponse."""
    for _ in range(LOGIN_MESSAGES_MAX):
        kind, body = await channel.read_message(limits.AUTH_MESSAGE_MAX_BYTES)
        if kind == b"E":
            raise _refusal(target, messages.parse_fields(body))
        if kind != b"N":
            return kind, body
    raise ValueError("it sends nothing but notices")


async def _authenticate(
    channel: Channel, target: config.Upstream, password: Callable[[], Awaitable[str]], body: bytes
) -> None:
    """Answer one Authentication request, up to and including the AuthenticationOk."""
    code, rest = messages.parse_authentication(body)
    if target.channel_binding == "require" and code != messages.AUTH_SASL:
        # Before anything secret is sent: somebody in between could have asked for the password itself.
        raise _rejected(target, "channel_binding: require wants SCRAM, and the server asks for something else")
    if code == messages.AUTH_OK:
        return
    if code not in (messages.AUTH_CLEARTEXT, messages.AUTH_MD5, messages.AUTH_SASL):
        raise _rejected(target, f"it wants authentication method {code}, which the gateway does not have")
    secret = await password()
    if not secret:
        raise _rejected(target, "it wants a password and none is configured")
    if code == messages.AUTH_CLEARTEXT:
        await channel.write(messages.password_message(secret))
    elif code == messages.AUTH_MD5:
        if len(rest) != 4:
            raise ValueError("an md5 request with a salt of the wrong size")
        await channel.write(messages.password_message(scram.md5_password(target.user, secret, rest)))
    else:
        await _scram(channel, target, secret, rest)
    if await _authentication(channel, target) != (messages.AUTH_OK, b""):
        raise ValueError("it did not confirm the authentication")


async def _authentication(channel: Channel, target: config.Upstream) -> tuple[int, bytes]:
    kind, body = await _next(channel, target)
    if kind != b"R":
        raise ValueError(f"a message of type {kind!r} has no place in an authentication")
    return messages.parse_authentication(body)


async def _scram(channel: Channel, target: config.Upstream, secret: str, offer: bytes) -> None:
    mechanisms = offer.split(b"\x00")
    wanted = channel.tls is not None and target.channel_binding != "disable"
    binding = scram.end_point(channel.tls.peer_certificate()) if wanted and channel.tls is not None else b""
    plus = bool(binding) and scram.MECHANISM_PLUS.encode() in mechanisms
    if target.channel_binding == "require" and not plus:
        why = "the server does not offer it" if binding else "the server's certificate has none"
        raise _rejected(target, f"channel_binding: require, and {why}")
    if not plus and scram.MECHANISM.encode() not in mechanisms:
        raise _rejected(target, "it offers no SASL mechanism that the gateway has")
    nonce = base64.b64encode(secrets.token_bytes(18)).decode()
    client = scram.ScramClient(secret, nonce, binding=binding, plus=plus)
    await channel.write(messages.sasl_initial_response(client.mechanism, client.first()))
    try:
        code, first = await _authentication(channel, target)
        if code != messages.AUTH_SASL_CONTINUE:
            raise ValueError("it broke off the SCRAM exchange")
        challenge = client.challenge(first)
        # In a thread: a login storm must not hold the loop for milliseconds each, nor a hostile count for a second.
        salted = await asyncio.to_thread(scram.salt_password, client.password, challenge.salt, challenge.iterations)
        await channel.write(messages.sasl_response(client.final(salted)))
        code, final = await _authentication(channel, target)
        if code != messages.AUTH_SASL_FINAL:
            raise ValueError("it did not prove that it knows the password")
        client.verify(final)
    except scram.ScramError as failure:
        raise _rejected(target, str(failure)) from None


# ---------------------------------------------------------------- faults

def _log(target: config.Upstream, reason: str) -> None:
    place = {"host": target.host, "port": target.port, "database": target.database, "user": target.user}
    log.warning("upstream login failed", extra={"fields": {**place, "reason": reason}})


def _unreachable(target: config.Upstream, reason: str) -> UpstreamFault:
    _log(target, reason)
    return UpstreamFault(
        sqlstate.CONNECTION_UNABLE, f"the database server cannot be reached: {reason}", hint=_ASK_OPERATORS
    )


def _broken(target: config.Upstream, reason: str) -> UpstreamFault:
    _log(target, reason)
    return UpstreamFault(
        sqlstate.CONNECTION_FAILURE, f"the database server broke off the login: {reason}", hint=_ASK_OPERATORS
    )


def _rejected(target: config.Upstream, reason: str) -> UpstreamFault:
    _log(target, reason)
    return UpstreamFault(
        sqlstate.CONNECTION_REJECTED, "the database server and the gateway do not agree on a credential",
        hint=_ASK_OPERATORS,
    )


def _refusal(target: config.Upstream, fields: dict[str, str]) -> UpstreamFault:
    """The server's own ErrorResponse. Class 28 speaks of the gateway's account: no business of the person's."""
    code = fields.get("C", "")
    message = fields.get("M", "") or "no reason given"
    if len(code) != 5 or not (code.isascii() and code.isalnum()):
        code = sqlstate.CONNECTION_FAILURE
    if code.startswith("28"):
        return _rejected(target, message)
    _log(target, f"{code} {message}")
    return UpstreamFault(code, message, hint=fields.get("H", ""), fields=fields)
