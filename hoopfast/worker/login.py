"""One accepted client from its first byte to the relay: startup, credential, access, upstream login, hand-over.

`worker/front.py` runs `Login.run` as a task per accepted client and lends it what it needs (`Desk`). Whatever happens,
the client gets one clear ErrorResponse or a closed connection, the supervisor hears of exactly one end of the
connection (ConnectionDone, or SessionOpened and later SessionClosed), and no descriptor is left.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from typing import Any, Final, Protocol

from hoopfast import config as configuration
from hoopfast import limits, model, secrets, units
from hoopfast.audit.events import start_record
from hoopfast.errors import ClientFault, GatewayError, UpstreamFault
from hoopfast.net import upstream
from hoopfast.net.cancel import Key
from hoopfast.net.channel import Channel, PeerGone, TlsFailed
from hoopfast.net.startup import receive_startup
from hoopfast.policy.enforced import Entry, entry_for
from hoopfast.policy.snapshot import Snapshot
from hoopfast.protocol import messages, sqlstate
from hoopfast.protocol.settings import check_reported, recorded, upstream_settings
from hoopfast.protocol.startup import CancelRequest, StartupRequest, Unanswered, UnsupportedProtocol
from hoopfast.worker.plan import Plan
from hoopfast.worker.session import Session

log = logging.getLogger(__name__)

LINGER_S: Final = 1.0
REPLANS_MAX: Final = 8                      # policy changes during one login
TERMINAL_CUTS: Final = (4095, 1023)         # a terminal in canonical mode drops what is typed beyond (Linux, macOS)
_NOT_AVAILABLE_HINT: Final = "Check the name, or ask the operators of the gateway which databases you may use."


class Desk(Protocol):
    """What a login needs of the front."""

    plan: Plan | None
    draining: str
    places: asyncio.Semaphore               # bounds the logins under way to upstreams; beyond it they wait their turn

    async def authenticate(self, wanted: model.AuthWanted) -> model.AuthReply: ...
    async def catalog(self, connection: str) -> Any: ...
    def known_catalog(self, connection: str, plan: Plan) -> Any: ...
    async def cancel_key(self, pid: int, secret: bytes) -> None: ...
    def context_for(
        self, identity: model.Identity, connection: str, snapshot: Snapshot, catalog: Any, client: model.Client,
        entry: Entry | None = None,
    ) -> Any: ...
    def next_session(self) -> int: ...
    def issue_key(self, session: int, minor: int, pid: int) -> Key: ...
    def release_key(self, key: Key) -> None: ...
    def next_request(self) -> int: ...
    def adopt(self, session: Session, **legs: Any) -> None: ...
    def tell(self, message: Any) -> None: ...


class Login:
    """One client. `peer` is "address:port" or "unix"; `deadline` is loop time and counts from the accept."""

    def __init__(self, desk: Desk, plan: Plan, fd: int, peer: str, deadline: float) -> None:
        self._desk = desk
        self._plan = plan
        self._peer = peer
        self._deadline = deadline
        self._channel = Channel(fd, asyncio.get_running_loop())
        self._request: StartupRequest | None = None
        self._identity: model.Identity | None = None

    async def run(self) -> None:
        """All of it. Never raises but CancelledError (the worker ends)."""
        outcome = "error"
        try:
            async with asyncio.timeout_at(self._deadline):
                outcome = await self._session()
        except (Unanswered, PeerGone, TlsFailed) as quiet:
            # Port probes, psql asking for a password first, a client that does not trust our certificate.
            log.debug("client left during login", extra={"fields": {"client": self._peer, "reason": str(quiet)}})
            outcome = "probe"
        except TimeoutError:
            outcome = "timeout"
            if self._request is not None:
                late = ClientFault(sqlstate.QUERY_CANCELED, "the login took too long",
                                   hint="The gateway waits for listen.login_timeout seconds from connect to login.")
                await self._refuse(late, "timeout")
        except ClientFault as fault:
            outcome = "refused"
            await self._refuse(fault, fault.message)
        except UpstreamFault as fault:
            outcome = "refused"
            shown = ClientFault(fault.sqlstate, fault.message, hint=fault.hint)
            await self._refuse(shown, f"upstream: {fault.message}")
        except asyncio.CancelledError:
            reason = self._desk.draining or "the gateway is shutting down"
            await self._refuse(ClientFault(sqlstate.ADMIN_SHUTDOWN, reason), "")
            raise
        except Exception:
            log.exception("a login failed for a reason of ours", extra={"fields": {"client": self._peer}})
            ours = ClientFault(sqlstate.INTERNAL_ERROR, "the gateway failed to handle this login",
                               hint="Tell the operators of the gateway; its log has the details.")
            await self._refuse(ours, "internal")
        finally:
            self._channel.close()
            if outcome:
                self._desk.tell(model.ConnectionDone(reason=outcome, peer=self._peer))

    async def _session(self) -> str:
        """"" when the client has become a session, "cancel" for a CancelRequest."""
        request = await receive_startup(self._channel, self._plan.server_tls)
        if isinstance(request, CancelRequest):
            await self._desk.cancel_key(request.pid, request.secret)
            return "cancel"
        self._request = request
        self._log_tls()
        self._channel.read_ahead = True
        self._insist_tls()
        if request.negotiate:
            await self._channel.write(messages.negotiate_protocol_version(request.minor, request.unknown))
        identity = self._identity = await self._authenticate(request)
        connection = self._admit(identity, request.database)
        async with self._desk.places:
            await self._connect(request, identity, connection)
        return ""

    def _log_tls(self) -> None:
        """The name that the client believes to talk to (SNI) chooses nothing here, but tells much when TLS fails."""
        if (tls := self._channel.tls) is not None and log.isEnabledFor(logging.DEBUG):
            certificate = hashlib.sha256(tls.peer_certificate()).hexdigest() if tls.peer_certificate() else ""
            fields = {"client": self._peer, "version": tls.version(), "server_name": tls.server_name()[:255],
                      "alpn": tls.alpn().decode(), "client_certificate": certificate}
            log.debug("client speaks TLS", extra={"fields": fields})

    def _insist_tls(self) -> None:
        if self._channel.tls is not None or units.is_local_peer(self._peer):
            return
        hint = "Add sslmode=require to the connection string." if self._plan.server_tls is not None else (
            "The listener has no certificate (listen.tls): tell the operators of the gateway.")
        raise ClientFault(
            sqlstate.INVALID_AUTHORIZATION, "TLS is required: your credential would travel in the clear", hint=hint
        )

    # ------------------------------------------------------------ who

    async def _authenticate(self, request: StartupRequest) -> model.Identity:
        await self._channel.write(messages.authentication_cleartext())
        credential = await self._password()
        reply = await self._desk.authenticate(model.AuthWanted(
            request=self._desk.next_request(), credential=credential, user=request.user, database=request.database,
            peer=self._peer, tls=self._channel.tls is not None,
        ))
        if reply.identity is not None:
            return reply.identity
        message, hint = reply.message or "the gateway did not accept this credential", reply.hint
        if len(credential) in TERMINAL_CUTS and credential.startswith(b"eyJ"):
            message = f"your terminal cut the token: exactly {len(credential)} bytes of it arrived"
            hint = "Do not paste a token at a prompt: use `hoopfast login`, PGPASSWORD or a password file."
        raise ClientFault(reply.sqlstate or sqlstate.INVALID_PASSWORD, message, hint=hint)

    async def _password(self) -> bytes:
        try:
            # Length word and terminator are part of the message.
            kind, body = await self._channel.read_message(limits.CREDENTIAL_MAX_BYTES + 5)
        except ClientFault as fault:
            raise ClientFault(
                fault.sqlstate, f"the password message is malformed or longer than {limits.CREDENTIAL_MAX_BYTES} bytes",
                hint="The password is a token of your identity provider or a gateway secret (hf_...).",
            ) from None
        if kind == b"X":
            raise PeerGone("the client ended the login")
        if kind != b"p":
            raise ClientFault(sqlstate.PROTOCOL_VIOLATION, "expected password response")
        try:
            credential = messages.parse_password(body)
        except ValueError:
            raise ClientFault(sqlstate.PROTOCOL_VIOLATION, "invalid password packet size") from None
        if not credential:
            raise ClientFault(
                sqlstate.INVALID_PASSWORD, "empty password returned by client",
                hint="The password is a token of your identity provider or a gateway secret (hf_...).",
            )
        return credential

    # ------------------------------------------------------------ where to

    def _admit(self, identity: model.Identity, name: str) -> configuration.Connection:
        """The connection by this name. Unknown and forbidden ones get the same answer: names are not for probing."""
        connection = self._plan.config.connections.get(name)
        if connection is None or not self._plan.snapshot.may_enter(identity, name):
            raise ClientFault(
                sqlstate.INSUFFICIENT_PRIVILEGE, f'database "{name}" is not available to you', hint=_NOT_AVAILABLE_HINT
            )
        if name not in self._plan.upstream_tls:
            raise ClientFault(
                sqlstate.CONNECTION_UNABLE, f'the TLS files of connection "{name}" cannot be used',
                hint="Tell the operators of the gateway; its log names the file.",
            )
        return connection

    async def _connect(
        self, request: StartupRequest, identity: model.Identity, connection: configuration.Connection
    ) -> None:
        name = request.database
        entry = entry_for(connection, self._plan.snapshot, identity, name)
        masked = bool(entry.masks)
        settings = upstream_settings(
            request.parameters, identity.user, masked=masked, order=connection.application_name)
        if masked:
            await self._desk.catalog(name)          # nothing is opened upstream for a login that cannot be masked
        target = entry.target(connection)
        login = await upstream.login(
            target, self._plan.upstream_tls[name], lambda: password_of(target), settings, deadline=self._deadline
        )
        owned = [login.fd]
        try:
            if masked and (why := check_reported(login.parameters)):
                log.error("masking is not possible", extra={"fields": {"connection": name, "reason": why}})
                raise ClientFault(
                    sqlstate.CONNECTION_REJECTED, "columns are masked for you here, which the server's settings forbid",
                    detail=f"On the server, {why}.", hint="Tell the operators of the gateway.",
                )
            client = model.Client(peer=self._peer, application=request.parameters.get("application_name", ""))
            context = await self._context(identity, name, target, client, masked=masked)
            self._hand_over(request, identity, login, context, target, masked, owned)
        finally:
            for fd in owned:
                os.close(fd)

    async def _context(
        self, identity: model.Identity, name: str, target: configuration.Upstream, client: model.Client, *,
        masked: bool,
    ) -> Any:
        """The verdict context under the policy and catalog in force now: both may have changed since the login began.

        Nothing waits between the last check here and the hand-over.
        """
        for _ in range(REPLANS_MAX):
            catalog = await self._desk.catalog(name) if masked else None
            plan = self._desk.plan
            if self._desk.draining or plan is None:
                raise ClientFault(sqlstate.ADMIN_SHUTDOWN, self._desk.draining or "the gateway is shutting down")
            if plan is self._plan:
                if not masked:
                    # Their statements are read for values of columns that others may not see.
                    catalog = self._desk.known_catalog(name, plan)
                entry = entry_for(plan.config.connections[name], plan.snapshot, identity, name)
                return self._desk.context_for(identity, name, plan.snapshot, catalog, client, entry)
            self._plan = plan
            connection = self._admit(identity, name)
            entry = entry_for(connection, plan.snapshot, identity, name)
            if entry.target(connection) != target or masked != bool(entry.masks):
                break                               # what went upstream does not fit any more
        raise ClientFault(
            sqlstate.CANNOT_CONNECT_NOW, "the gateway's policy changed during your login", hint="Connect again."
        )

    def _hand_over(
        self, request: StartupRequest, identity: model.Identity, login: upstream.UpstreamLogin, context: Any,
        target: configuration.Upstream, masked: bool, owned: list[int],
    ) -> None:
        """From here on the relay owns both legs. No await between the checks before and the announcement after."""
        connection = self._plan.config.connections[request.database]
        results = configuration.result_bytes(connection.results or self._plan.config.audit.results)
        now = time.time()
        number = self._desk.next_session()
        key = self._desk.issue_key(number, request.minor, login.pid)
        opened = model.SessionOpened(
            session=number, identity=identity, connection=request.database, database=target.database, role=target.user,
            peer=self._peer, application=request.parameters.get("application_name", ""),
            tls=self._channel.tls is not None, started_at=now, settings=recorded(request.parameters),
        )
        ends_at = now + self._plan.config.sessions.max_duration
        session = Session(
            opened, context=context, snapshot=self._plan.snapshot, masked=masked, key=key, route=login.route,
            upstream_pid=login.pid, upstream_secret=login.secret,
            ends_at=min(ends_at, identity.expires_at) if identity.expires_at else ends_at,
        )
        demo = any(issuer.development for issuer in self._plan.config.identity)
        try:
            client_fd, client_tls, leftover = self._channel.detach()
            owned.append(client_fd)
            self._desk.adopt(
                session, client_fd=client_fd, client_tls=client_tls, upstream_fd=login.fd, upstream_tls=login.tls,
                start_record=start_record(opened),
                to_client=_welcome(login, key, opened.application, demo=demo), from_client=leftover,
                from_upstream=login.leftover, status=login.status, capture_bytes=results,
            )
        except BaseException:
            self._desk.release_key(key)
            raise
        owned.clear()
        self._desk.tell(opened)

    # ------------------------------------------------------------ no

    async def _refuse(self, fault: ClientFault, reason: str) -> None:
        """Answer with a FATAL error, and let the audit trail know when somebody had named themselves."""
        if self._request is not None and reason:
            self._desk.tell(model.LoginRefused(
                user=self._request.user, database=self._request.database, peer=self._peer, reason=reason,
                identity=self._identity,
            ))
        if self._channel.closed:
            return
        frame = fault.frame() if isinstance(fault, UnsupportedProtocol) else messages.error_response(
            "FATAL", fault.sqlstate, fault.message, detail=fault.detail, hint=fault.hint)
        try:
            async with asyncio.timeout(LINGER_S):
                await self._channel.write(frame)
            await self._channel.linger(LINGER_S)
        except (PeerGone, TimeoutError):
            pass


def _welcome(login: upstream.UpstreamLogin, key: Key, application: str, *, demo: bool) -> bytes:
    """What the client gets when both legs are ready. It sees its own application_name; the server has the person's."""
    parts = [messages.authentication_ok()]
    if demo:
        # Nobody may take the development issuer's people for proven ones: every session says so.
        parts.append(messages.notice_response(
            "WARNING", "01000", "this is a hoopfast demo: anybody on this machine can sign in as anybody"))
    shown = login.parameters | ({"application_name": application} if "application_name" in login.parameters else {})
    parts += [messages.parameter_status(name, value) for name, value in shown.items()]
    parts += [messages.backend_key_data(key.pid, key.secret), messages.ready_for_query(login.status)]
    return b"".join(parts)


async def password_of(target: configuration.Upstream) -> str:
    """The upstream's password, resolved anew for each login so that a rotated secret works at once."""
    try:
        return await asyncio.to_thread(secrets.resolve, target.password)
    except GatewayError as fault:
        log.error("the password of an upstream cannot be had: %s", fault, extra={"fields": {"host": target.host}})
        raise UpstreamFault(
            sqlstate.CONNECTION_REJECTED, "the gateway has no credential for the database server",
            hint="Tell the operators of the gateway; its log names the secret.",
        ) from None
