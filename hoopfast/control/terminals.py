"""Signing in from a terminal: `hoopfast login` waits while a person, signed in to the console, lets it in.

Two ways to the same end, a one-time code that is worth nothing without the verifier that the terminal kept:

* the browser on the same machine brings the code to the terminal's own port (`grant`, then `redeem`);
* a terminal without a browser shows eight letters, which the person *types* on the console's page (`begin`, `look`,
  `decide`, and `redeem` again and again). Typed, never a link: a link could be sent to somebody else.

In memory, bounded, and pure but for randomness: a restart ends the sign-ins under way. Used by supervisor/own.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hoopfast import units
from hoopfast.control.principal import Refused
from hoopfast.model import Identity

CODE_S: Final = 60.0                # of a code that a browser carries
TYPED_S: Final = 300.0
POLL_S: Final = 5
WAITING_MAX: Final = 1000
PER_ADDRESS_MAX: Final = 20
TRIES_MAX: Final = 5                # wrong letters of one person, within TYPED_S
PEOPLE_MAX: Final = 10_000
NAME_MAX: Final = 100
# No vowels, so no words; nothing that looks like something else.
LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
LETTERS_N: Final = 8


@dataclass(slots=True)
class Terminal:
    """A terminal that waits. `peer` and `name` are what it said of itself: shown, never believed."""

    challenge: str
    peer: str
    name: str
    ends_at: float
    letters: str = ""
    ttl_s: float = 0.0
    identity: Identity | None = None        # who let it in
    rejected: bool = False


class Terminals:
    """`clock` is unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By the digest of the code: a dump of our memory lets nobody in.
        self._waiting: dict[bytes, Terminal] = {}
        self._wrong: dict[str, tuple[int, float]] = {}

    def grant(self, identity: Identity, challenge: str, name: str, ttl_s: float) -> str:
        """The code that the person's browser carries to their terminal. Raises Refused(400)."""
        check_challenge(challenge)
        now = self._clock()
        return self._keep(Terminal(challenge, "", _label(name), now + CODE_S, ttl_s=ttl_s, identity=identity))

    def begin(self, challenge: str, peer: str, name: str, ttl_s: float) -> tuple[str, str]:
        """(the code to redeem, the letters to type). Raises Refused(400, 429)."""
        check_challenge(challenge)
        self._drop_ended()
        host = units.host_of(peer)
        if sum(units.host_of(each.peer) == host for each in self._waiting.values() if each.letters) >= PER_ADDRESS_MAX:
            raise Refused(429, "too many terminals at this address wait already", hint="Try again in five minutes.")
        letters = "".join(secrets.choice(LETTERS) for _ in range(LETTERS_N))
        return self._keep(Terminal(challenge, peer, _label(name), self._clock() + TYPED_S, letters, ttl_s)), letters

    def look(self, person: str, letters: str) -> Terminal:
        """The terminal that shows these letters. Raises Refused(404, 429)."""
        now = self._clock()
        tries, until = self._wrong.get(person, (0, 0.0))
        if until <= now:
            tries = 0
        if tries >= TRIES_MAX:
            raise Refused(429, "too many wrong codes", hint="Wait five minutes, then run `hoopfast login` again.")
        wanted = "".join(c for c in letters.upper() if c in LETTERS)
        for terminal in self._waiting.values():
            fresh = terminal.ends_at > now and terminal.identity is None and not terminal.rejected
            if fresh and terminal.letters and hmac.compare_digest(terminal.letters, wanted):
                return terminal
        self._wrong.pop(person, None)
        self._wrong[person] = (tries + 1, until if tries else now + TYPED_S)
        while len(self._wrong) > PEOPLE_MAX:
            del self._wrong[next(iter(self._wrong))]
        raise Refused(404, "no terminal waits with this code", hint="Codes live for five minutes; compare each letter.")

    def decide(self, identity: Identity, letters: str, *, allow: bool) -> Terminal:
        """Let the terminal in as this person, or turn it away. Raises as `look`."""
        terminal = self.look(identity.user, letters)
        terminal.rejected = not allow
        terminal.identity = identity if allow else None
        return terminal

    def redeem(self, code: str, verifier: str) -> Terminal | None:
        """The terminal, let in, once; None while nobody has decided. Raises Refused(403, 404)."""
        key = _digest(code)
        terminal = self._waiting.get(key)
        if terminal is None or terminal.ends_at <= self._clock():
            self._waiting.pop(key, None)
            raise Refused(404, "this sign-in has ended, or was never begun", hint="Run `hoopfast login` again.")
        if not hmac.compare_digest(terminal.challenge.encode(), challenge_of(verifier).encode()):
            # Whoever has the code without the verifier has taken it from somebody.
            del self._waiting[key]
            raise Refused(403, "this sign-in was begun by another terminal", hint="Run `hoopfast login` again.")
        if terminal.rejected:
            del self._waiting[key]
            raise Refused(403, "the sign-in was turned away on the gateway's page")
        if terminal.identity is None:
            return None
        del self._waiting[key]
        return terminal

    def _keep(self, terminal: Terminal) -> str:
        self._drop_ended()
        if len(self._waiting) >= WAITING_MAX:
            raise Refused(429, "too many terminals wait to be let in", hint="Try again in a few minutes.")
        code = secrets.token_urlsafe(32)
        self._waiting[_digest(code)] = terminal
        return code

    def _drop_ended(self) -> None:
        now = self._clock()
        for key in [key for key, terminal in self._waiting.items() if terminal.ends_at <= now]:
            del self._waiting[key]


def challenge_of(verifier: str) -> str:
    """As PKCE's S256: what the terminal shows beforehand of the verifier that it keeps."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("utf-8", "replace")).digest()).rstrip(b"=").decode()


def check_challenge(challenge: str) -> None:
    """Raises Refused(400) unless it can be one."""
    if len(challenge) != 43 or not challenge.isascii() or not challenge.replace("-", "").replace("_", "").isalnum():
        raise Refused(400, "this is not a sign-in that `hoopfast login` began", hint="Run it again.")


def _label(name: str) -> str:
    return "".join(c for c in name if c.isprintable())[:NAME_MAX] or "a terminal"


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()
