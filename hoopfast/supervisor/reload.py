"""Configuration and policy in force: read, compiled, swapped whole; a broken file changes nothing and says so loudly.

Owns the current `Accepted` and its history in the store. Reloads both files on SIGHUP and by the API, and when the
policy file changes. Called by supervisor/main.py; readers, compiler and clock are injected.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

from hoopfast import config as configuration
from hoopfast.config import Config
from hoopfast.errors import ConfigError, GatewayError, Problem
from hoopfast.model import ConfigUpdate, Frozen
from hoopfast.store.rows import PolicyRow
from hoopfast.supervisor.trail import Trail

log = logging.getLogger("hoopfast.supervisor.reload")

SETTLE_S = 0.1
SETTLE_TRIES = 20
POLICY_MAX_BYTES = 4 * 1024 * 1024
# What the sockets, processes and stores were made of.
NEEDS_RESTART = ("listen.address", "listen.workers", "admin.address", "state_dir", "store", "audit", "relay")


class Accepted(Frozen, frozen=True):
    """What is in force. `snapshot` is what policy.snapshot.compile_policy made; `policy` is its source as structs."""

    version: int
    config: Config
    policy: Any
    snapshot: Any
    text: str
    digest: str
    at: float
    tls_files: tuple[tuple[int, ...], ...] = ()     # their signatures: renewed certificates are a change too


class PolicyStore(Protocol):
    def policy_accepted(self, version: int, at: float, digest: str, source_text: str) -> None: ...
    def policy_history(self) -> list[PolicyRow]: ...


class Reloader:
    """`current` is always valid once `start` has returned. `on_accept` callbacks see every later Accepted.

    A callback in `before_accept` or `before_policy` may still refuse by raising ConfigError; then nothing changes.
    """

    current: Accepted

    def __init__(
        self,
        path: Path,
        *,
        load: Callable[[Path], Config],
        parse_policy: Callable[[str, str, Collection[str]], Any],
        compile_policy: Callable[[Config, Any, int, bytes], Any],
        policy_builtins: Callable[[Any], dict[str, Any]],
        mask_key: bytes,
        store: PolicyStore,
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self.failures = 0
        self.problems: list[str] = []       # of the last attempt; empty when it went well
        self.before_accept: list[Callable[[Config], None]] = []
        self.before_policy: list[Callable[[Accepted], None]] = []
        self.on_accept: list[Callable[[Accepted], None]] = []
        self._load = load
        self._parse_policy = parse_policy
        self._compile = compile_policy
        self._policy_builtins = policy_builtins
        self._mask_key = mask_key
        self._store = store
        self._clock = clock
        self._lock = asyncio.Lock()
        self._seen: tuple[int, ...] = ()
        self._changing: tuple[int, ...] = ()

    def update(self) -> ConfigUpdate:
        """What every worker gets, first of all and after each reload."""
        now = self.current
        return ConfigUpdate(
            version=now.version, config=configuration.to_builtins(now.config), policy=self._policy_builtins(now.policy)
        )

    async def start(self, config: Config) -> Accepted:
        """Bring the first policy into force. Raises ConfigError with all problems of the file."""
        history = await asyncio.to_thread(self._store.policy_history)
        newest = history[0] if history else None
        self._seen = signature(Path(config.policy))
        self.current = await asyncio.to_thread(self._read, config, newest.version if newest else 1)
        if newest is not None and newest.digest != self.current.digest:
            self.current = await asyncio.to_thread(self._read, config, newest.version + 1)
        if newest is None or newest.digest != self.current.digest:
            await self._remember(self.current)
        return self.current

    async def reload(self, trail: Trail, by: str) -> Accepted:
        """Read both files again. Raises ConfigError; then what was in force still is."""
        async with self._lock:
            try:
                return await self._swap(trail, by)
            except ConfigError as broken:
                self._failed(broken, trail, by)
                raise

    async def watch(self, trail: Trail) -> None:
        """One look at the policy file, called about once a second; reloads when it has changed and settled."""
        now = signature(Path(self.current.config.policy))
        if now == self._seen:
            self._changing = ()
            return
        # An editor may be half way: a policy cut short can be valid and allow more. Wait until it stays the same.
        if now != self._changing:
            self._changing = now
            return
        self._seen = now
        try:
            await self.reload(trail, "the file changed")
        except ConfigError:
            return      # told loudly already; the next change is another chance

    async def _swap(self, trail: Trail, by: str) -> Accepted:
        config = await asyncio.to_thread(self._load, self.path)
        new = await self._read_settled(config)
        now = self.current
        if (new.config, new.digest, new.tls_files) == (now.config, now.digest, now.tls_files):
            self.problems = []
            log.info("nothing to reload: version %d stays in force", self.current.version)
            return self.current
        for setting in _needing_restart(self.current.config, config):
            log.warning("the change of %s in %s takes effect when the gateway is restarted", setting, self.path)
        for judge in self.before_policy:
            judge(new)
        for check in self.before_accept:
            check(config)
        if new.digest != self.current.digest:
            await self._remember(new)
        self.current = new
        self.problems = []
        trail.record("policy", user=by, version=new.version, digest=new.digest, accepted=True)
        log.info("version %d is in force (%s)", new.version, by)
        for tell in self.on_accept:
            tell(new)
        return new

    async def _read_settled(self, config: Config) -> Accepted:
        """Like `_read`, but of a file that nobody is writing: a SIGHUP may come while an editor still saves."""
        path = Path(config.policy)
        for _ in range(SETTLE_TRIES):
            before = signature(path)
            await asyncio.sleep(SETTLE_S)
            new = await asyncio.to_thread(self._read_if, config, before)
            if new is not None:
                self._seen = before
                return new
        raise ConfigError([Problem(str(path), "$", "keeps changing; reload when it is finished")])

    def _read_if(self, config: Config, unchanged: tuple[int, ...]) -> Accepted | None:
        """None when the file is not the one of that signature, before or after it was read."""
        path = Path(config.policy)
        try:
            new = self._read(config, self.current.version + 1)
        except ConfigError:
            if signature(path) != unchanged:
                return None
            raise
        return new if signature(path) == unchanged else None

    def _read(self, config: Config, version: int) -> Accepted:
        path = Path(config.policy)
        text = _text(path)
        if not text.strip():
            # Valid as YAML, and the usual trace of a write that was cut short. "Nobody" can be written: access: []
            raise ConfigError([Problem(str(path), "$", "is empty; a policy that admits nobody says `access: []`")])
        policy = self._parse_policy(text, str(path), config.connections)
        snapshot = self._compile(config, policy, version, self._mask_key)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return Accepted(
            version=version, config=config, policy=policy, snapshot=snapshot, text=text, digest=digest,
            at=self._clock(), tls_files=tuple(signature(Path(name)) for name in configuration.tls_files(config)),
        )

    async def _remember(self, new: Accepted) -> None:
        try:
            await asyncio.to_thread(self._store.policy_accepted, new.version, new.at, new.digest, new.text)
        except GatewayError:
            raise
        except Exception as failure:
            # A policy that cannot be traced back later is not put into force.
            log.exception("the policy could not be recorded")
            what = f"could not be recorded in the store ({type(failure).__name__})"
            raise ConfigError([Problem(new.config.policy, "$", what)]) from failure

    def _failed(self, broken: ConfigError, trail: Trail, by: str) -> None:
        self.failures += 1
        self.problems = [str(problem) for problem in broken.problems]
        log.error("RELOAD REFUSED (%s): version %d stays in force; problems:", by, self.current.version)
        for problem in self.problems:
            log.error("  %s", problem)
        trail.record("policy", user=by, version=self.current.version, accepted=False, problems=self.problems[:50])


def signature(path: Path) -> tuple[int, ...]:
    """Changes whenever the file does; () when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > POLICY_MAX_BYTES:
            raise ConfigError([Problem(str(path), "$", f"is larger than {POLICY_MAX_BYTES} bytes")])
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise ConfigError([Problem(str(path), "$", f"cannot be read: {failure}")]) from failure


def _needing_restart(old: Config, new: Config) -> list[str]:
    changed = []
    for setting in NEEDS_RESTART:
        before: Any = old
        after: Any = new
        for name in setting.split("."):
            before, after = getattr(before, name), getattr(after, name)
        if before != after:
            changed.append(setting)
    return changed
