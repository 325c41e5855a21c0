"""What people may do for themselves, without any role: see their connections, make and revoke their own secrets.

A secret made here stands for its maker with the groups of their sign-in, for at most `self_service.max_ttl` after that
sign-in: whoever leaves a group has lost it everywhere by then. Only a sign-in with the identity provider makes one; a
secret cannot prolong itself. The admin API, the console and `hoopfast login` all come here.
"""

from __future__ import annotations

import asyncio
import secrets as randomness
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from hoopfast import units
from hoopfast.config import Config
from hoopfast.control.principal import Principal, Refused, principal_of
from hoopfast.control.terminals import POLL_S, TYPED_S, Terminals
from hoopfast.errors import GatewayError
from hoopfast.identity import credentials
from hoopfast.model import Identity
from hoopfast.store.rows import SecretRow

LABEL_MAX: Final = 200
TTL_MIN_S: Final = 60.0


class SecretStore(Protocol):
    """The part of store.control.ControlStore that is used here."""

    def add_secret(
        self, id: str, digest: bytes, user: str, groups: tuple[str, ...], label: str, created_by: str,  # noqa: A002
        created_at: float, expires_at: float,
    ) -> None: ...
    def list_secrets(self) -> list[SecretRow]: ...


class InForce(Protocol):
    """supervisor.reload.Accepted."""

    @property
    def config(self) -> Config: ...
    @property
    def snapshot(self) -> Any: ...


class Own:
    """`note` records an action; `end` revokes a secret by its id and returns (whether it was good, sessions ended)."""

    def __init__(
        self,
        store: SecretStore,
        in_force: Callable[[], InForce],
        note: Callable[..., None],
        end: Callable[[str, str], Awaitable[tuple[bool, int]]],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._in_force = in_force
        self._note = note
        self._end = end
        self._clock = clock
        self._terminals = Terminals(clock)

    # ------------------------------------------------------------ what is theirs

    def connections(self, who: Principal) -> list[str]:
        """Those that the policy lets this person use, by name."""
        now = self._in_force()
        return [name for name in now.config.connections if now.snapshot.may_enter(who.identity, name)]

    def place(self, reached_as: str) -> dict[str, Any]:
        """Where PostgreSQL clients connect, for somebody who reaches this gateway by the host name `reached_as`."""
        listen = self._in_force().config.listen
        if listen.public_address:
            at = units.parse_address(listen.public_address)
            return {"host": at.host, "port": at.port, "tls": listen.tls is not None}
        at = units.parse_address(listen.address)
        if at.path:
            return {"host": at.path.rpartition("/")[0], "port": 5432, "tls": False}
        everywhere = at.host in ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
        return {"host": reached_as if everywhere else at.host, "port": at.port, "tls": listen.tls is not None}

    async def secrets(self, who: Principal) -> list[dict[str, Any]]:
        """Every secret that stands for this person and is still good, newest first."""
        now = self._clock()
        rows = await asyncio.to_thread(self._store.list_secrets)
        return [{**msgspec.to_builtins(row), "state": row.state(now)} for row in rows
                if _same(row.user, who.identity.user) and row.state(now) == "active"]

    async def make_secret(self, who: Principal, *, label: str, ttl_s: float, via: str = "") -> dict[str, Any]:
        """The answer holds the secret: it is the only time that anybody sees it. Raises Refused (400, 403, 409)."""
        me, own, now = who.identity, self._in_force().config.self_service, self._clock()
        until = self._until(me, now)
        if not self.connections(who):
            raise Refused(
                403, f"no connection of this gateway is open to {me.user}, so a secret would be of no use",
                hint="Access is given to groups in the policy; ask its owner.",
            )
        label = label.strip()
        if len(label) > LABEL_MAX or not label.isprintable():
            raise Refused(400, f"a label is printable, of at most {LABEL_MAX} characters")
        if not TTL_MIN_S <= ttl_s <= own.max_ttl:
            raise Refused(400, f"a secret of your own lives between a minute and {own.max_ttl / 3600:g} hours")
        if len(await self.secrets(who)) >= own.max_secrets:
            raise Refused(409, f"you have {own.max_secrets} secrets already", hint="Revoke one that you do not need.")
        demo = any(issuer.development for issuer in self._in_force().config.identity)
        secret, name = credentials.new_secret(demo=demo), "sec_" + randomness.token_hex(5)
        ends_at = min(now + ttl_s, until)
        try:
            await asyncio.to_thread(
                self._store.add_secret, name, credentials.digest(secret), me.user, me.groups, label, me.user, now,
                ends_at,
            )
        except GatewayError as failure:
            raise Refused(409, str(failure)) from failure
        self._note(
            who, "own_secret_create", secret=name, groups=list(me.groups), ttl_s=round(ends_at - now), label=label,
            **({"via": via} if via else {}),
        )
        return {
            "id": name, "secret": secret, "user": me.user, "expires_at": ends_at,
            "connections": self.connections(who),
        }

    async def revoke_secret(self, who: Principal, name: str) -> dict[str, Any]:
        """Ends a secret of this person's and its sessions. Raises Refused(404), also for somebody else's."""
        if not any(row["id"] == name for row in await self.secrets(who)):
            raise Refused(404, f"you have no secret {name}", hint="It may have ended, or been revoked already.")
        _, sessions = await self._end(name, who.identity.user)
        self._note(who, "own_secret_revoke", secret=name, sessions=sessions)
        return {"revoked": name, "sessions": sessions}

    def why_none(self, who: Principal) -> str:
        """Why this person cannot make a secret now, as a sentence; "" when they can."""
        try:
            self._until(who.identity, self._clock())
        except Refused as refused:
            return refused.message
        return ""

    def _until(self, me: Identity, now: float) -> float:
        """The latest end of a secret that is made now. Raises Refused(403)."""
        config = self._in_force().config
        if not config.self_service.enabled:
            raise Refused(403, "people cannot make their own secrets here", hint="An administrator can make one.")
        if me.method != "token":
            raise Refused(
                403, "only a sign-in with the identity provider makes a secret",
                hint="Sign out, and sign in again with your organisation's account.",
            )
        # The gate gives an identity sessions.max_duration from its proof on.
        proved_at = min(now, me.expires_at - config.sessions.max_duration) if me.expires_at else now
        until = proved_at + config.self_service.max_ttl
        if until < now + TTL_MIN_S:
            raise Refused(403, "this sign-in is too old to make a secret", hint="Sign out, and sign in again.")
        return until

    # ------------------------------------------------------------ terminals

    def begin_terminal(self, challenge: str, peer: str, name: str, ttl_s: float) -> dict[str, Any]:
        """A terminal without a browser asks to be let in; nobody has proved anything yet."""
        code, letters = self._terminals.begin(challenge, peer, name, ttl_s)
        return {"code": code, "letters": letters, "expires_in": TYPED_S, "interval": POLL_S}

    def grant_terminal(self, who: Principal, challenge: str, name: str, ttl_s: float) -> str:
        """The one-time code for the terminal of a person who has just said yes on the console's page."""
        self._until(who.identity, self._clock())
        return self._terminals.grant(who.identity, challenge, name, ttl_s)

    def look_at_terminal(self, who: Principal, letters: str) -> dict[str, Any]:
        terminal = self._terminals.look(who.identity.user, letters)
        return {"letters": terminal.letters, "name": terminal.name, "peer": terminal.peer}

    def decide_terminal(self, who: Principal, letters: str, *, allow: bool) -> None:
        self._until(who.identity, self._clock())
        terminal = self._terminals.decide(who.identity, letters, allow=allow)
        self._note(who, "terminal_let_in" if allow else "terminal_turned_away", name=terminal.name, peer=terminal.peer)

    async def redeem_terminal(self, code: str, verifier: str, reached_as: str) -> dict[str, Any] | None:
        """A secret for a terminal that was let in; None: not yet."""
        terminal = self._terminals.redeem(code, verifier)
        if terminal is None or terminal.identity is None:
            return None
        config = self._in_force().config
        who = principal_of(terminal.identity, config.admin)
        ttl_s = min(terminal.ttl_s or config.self_service.max_ttl, config.self_service.max_ttl)
        made = await self.make_secret(who, label=f"hoopfast login on {terminal.name}", ttl_s=ttl_s, via="terminal")
        return {**made, **self.place(reached_as)}


def host_name(url: str) -> str:
    """The host of a URL or of a Host header's `http://...`; "" when there is none."""
    return urlsplit(url).hostname or ""


def _same(user: str, other: str) -> bool:
    return user.casefold() == other.casefold()
