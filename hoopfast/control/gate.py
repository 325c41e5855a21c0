"""The one gate: every credential, whatever way it came in, becomes an Identity here or is refused here.

Runs in the supervisor, for the workers (`authenticate`, the password field of a PostgreSQL client) and for the admin
API (`verify_bearer`). It believes the credential and nothing else: the user name of the startup packet is a request,
never an identity, and does not matter here. What the person may then do is policy's business.

A refusal says little and the same for every credential that proves nothing; the true reason is returned beside it, for
metrics and the audit trail. Any unforeseen exception is a refusal too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

from hoopfast import units
from hoopfast.config import Config
from hoopfast.control.keys import KeyCaches, ProviderUnreachable
from hoopfast.control.throttle import FailureThrottle
from hoopfast.errors import AuthenticationFailed, ClientFault
from hoopfast.identity import credentials, tokens
from hoopfast.identity.claims import identity_of
from hoopfast.model import AuthReply, AuthWanted, Identity

log = logging.getLogger(__name__)

# Reasons given here, next to those of identity.tokens and identity.claims.
REASONS = frozenset({
    "tls_required", "empty", "no_password", "secret_incomplete", "secret_unknown", "secret_revoked", "secret_expired",
    "secret_of_demo", "identity_conflict", "provider_unreachable", "internal",
})

_PINS_REMEMBERED_MAX = 10_000


class KnownSecret(Protocol):
    """What the gate reads of a stored secret (store.rows.SecretRow)."""

    @property
    def id(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def expires_at(self) -> float: ...
    @property
    def revoked_at(self) -> float: ...


class CredentialStore(Protocol):
    """What the gate needs of the store (store.control.ControlStore): blocking, thread-safe."""

    def find_secret(self, digest: bytes) -> KnownSecret | None: ...
    def touch_secret(self, id: str, at: float) -> None: ...  # noqa: A002 - the store's name
    def pin_identity(self, user: str, issuer: str, subject: str) -> bool: ...


class Gate:
    """Made once, by the supervisor. `clock` is unix time: tokens are judged by it; `sleep` is for tests."""

    def __init__(
        self,
        config: Config,
        store: CredentialStore,
        keys: KeyCaches,
        clock: Callable[[], float] = time.time,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._store = store
        self._keys = keys
        self._clock = clock
        self._sleep = sleep
        self._throttle = FailureThrottle()
        self._pinned: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._background: set[asyncio.Task[None]] = set()

    def reload(self, config: Config) -> None:
        """Follow a new configuration. Raises ConfigError, and then nothing has changed."""
        self._keys.reload(config)
        self._config = config

    async def authenticate(self, wanted: AuthWanted) -> tuple[AuthReply, str]:
        """The answer for the worker, and the true reason of a refusal ("" when accepted). Raises nothing."""
        try:
            self._require_tls(wanted)
            identity = await self._admit(wanted.credential, units.host_of(wanted.peer))
        except ClientFault as fault:
            reply = AuthReply(request=wanted.request, sqlstate=fault.sqlstate, message=fault.message, hint=fault.hint)
            return reply, reason_of(fault)
        return AuthReply(request=wanted.request, identity=identity), ""

    async def verify_bearer(self, token: str, peer: str = "") -> Identity:
        """Who presents this token or secret to the admin API. Raises ClientFault; `reason_of` tells why.

        `peer` ("address:port") counts failures by address, as for PostgreSQL clients. The caller has seen to TLS.
        """
        # Not encodable: half characters can reach us through an HTTP header, and can be no credential.
        return await self._admit(token.encode("utf-8", "replace"), units.host_of(peer))

    async def close(self) -> None:
        """Wait for what is still being written."""
        if self._background:
            await asyncio.wait(self._background)

    # ---------------------------------------------------------------- the way in

    def _require_tls(self, wanted: AuthWanted) -> None:
        if wanted.tls or (units.is_local_peer(wanted.peer) and units.parse_address(self._config.listen.address).local):
            return
        raise RefusedEarly(
            "tls_required",
            "28000",
            "this gateway takes credentials over TLS only",
            hint="Connect with sslmode=verify-full, or your driver's setting for TLS. What was sent just now went over "
            "the network in the clear: if it was a real credential, have it revoked.",
        )

    async def _admit(self, credential: bytes, host: str) -> Identity:
        delay = self._throttle.delay(host, self._clock())
        if delay:
            await self._sleep(delay)
        try:
            return await self._prove(credential)
        except AuthenticationFailed:
            self._throttle.failed(host, self._clock())
            raise
        except ClientFault:
            raise
        except Exception:
            log.exception("a credential could not be checked, so it is refused")
            raise RefusedEarly(
                "internal",
                "XX000",
                "the gateway could not check this credential",
                hint="Tell the gateway's administrator; the gateway's log says what happened.",
            ) from None

    async def _prove(self, credential: bytes) -> Identity:
        if not credential:
            raise AuthenticationFailed("empty", "no credential was given", hint=tokens.HINT)
        if credentials.looks_like_secret(credential):
            return await self._prove_secret(credential)
        if credentials.looks_like_token(credential):
            return await self._prove_token(credential)
        raise AuthenticationFailed(
            "no_password",
            "this gateway has no passwords",
            hint="Give a token of your identity provider or a gateway secret (hf_...) as the password; "
            "`hoopfast secret create` makes one.",
        )

    async def _prove_secret(self, credential: bytes) -> Identity:
        if credentials.is_demo_secret(credential) and not self._is_demo():
            raise AuthenticationFailed("secret_of_demo", hint=tokens.HINT)
        if not credentials.is_whole_secret(credential):
            raise AuthenticationFailed(
                "secret_incomplete",
                "this is not a whole secret",
                hint="Copy it again, from its first character to its last.",
            )
        row = await asyncio.to_thread(self._store.find_secret, credentials.digest(credential))
        now = self._clock()
        if row is None:
            raise AuthenticationFailed("secret_unknown", hint=tokens.HINT)
        # From here on the sender is known to have held a real secret, so the message may say more.
        if row.revoked_at:
            raise AuthenticationFailed("secret_revoked", "this secret was revoked", hint=tokens.HINT)
        if row.expires_at and row.expires_at <= now:
            raise AuthenticationFailed(
                "secret_expired", f"this secret expired at {tokens.clock_text(row.expires_at)}", hint=tokens.HINT
            )
        self._note_use(row.id, now)
        longest = now + self._config.sessions.max_duration
        return Identity(
            user=row.user,
            subject=row.user,
            issuer="gateway",
            groups=tuple(row.groups),
            method="secret",
            credential=row.id,
            expires_at=min(row.expires_at, longest) if row.expires_at else longest,
        )

    async def _prove_token(self, credential: bytes) -> Identity:
        unverified = tokens.precheck(credential)
        cache = self._keys.select(unverified.issuer)
        if cache is None:
            raise AuthenticationFailed("wrong_issuer", hint=tokens.HINT)
        issuer = cache.issuer
        key = await cache.key(unverified.kid)
        now = self._clock()
        claims = tokens.verify(unverified, issuer, key, now)
        # Not the token's own end: it lives an hour, and the session's next reconnect needs a live one anyway.
        identity = identity_of(claims, issuer, expires_at=now + self._config.sessions.max_duration)
        # By the issuer's address, which is what its tokens swear by; the configured name may change.
        await self._pin(identity, issuer.issuer)
        return identity

    def _is_demo(self) -> bool:
        return any(issuer.development for issuer in self._config.identity)

    # ---------------------------------------------------------------- the store

    async def _pin(self, identity: Identity, issuer: str) -> None:
        """A name belongs to the first subject that came with it; another one with the same name is somebody else."""
        pin = (identity.user.casefold(), issuer, identity.subject)
        if pin in self._pinned:
            self._pinned.move_to_end(pin)
            return
        if not await asyncio.to_thread(self._store.pin_identity, identity.user, issuer, identity.subject):
            log.warning(
                "refused a second subject with a known name",
                extra={"fields": {"user": identity.user, "issuer": issuer, "subject": identity.subject}},
            )
            raise AuthenticationFailed(
                "identity_conflict",
                "another account signed in with your name before",
                hint="Ask the gateway's administrator: either the account was made anew, or somebody uses your name.",
            )
        self._pinned[pin] = None
        while len(self._pinned) > _PINS_REMEMBERED_MAX:
            self._pinned.popitem(last=False)

    def _note_use(self, secret: str, now: float) -> None:
        # Beside the login, not in it: a busy store must not make people wait for a column in a list.
        task = asyncio.get_running_loop().create_task(self._touch(secret, now))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _touch(self, secret: str, now: float) -> None:
        try:
            await asyncio.to_thread(self._store.touch_secret, secret, now)
        except Exception:
            log.exception("the last use of secret %s could not be noted", secret)


class RefusedEarly(ClientFault):
    """Refused without a word about the credential; `reason` as in AuthenticationFailed."""

    def __init__(self, reason: str, sqlstate: str, message: str, *, hint: str) -> None:
        super().__init__(sqlstate, message, hint=hint)
        self.reason = reason


def reason_of(fault: ClientFault) -> str:
    """The true reason of a refusal by the gate, for metrics and the audit trail; never for the wire."""
    if isinstance(fault, AuthenticationFailed | ProviderUnreachable | RefusedEarly):
        return fault.reason
    return "internal"
