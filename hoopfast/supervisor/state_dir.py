"""The state directory: private to the service's user, one gateway at a time, with the key of the hash masks.

Called once by supervisor/main.py, before anything else touches the directory.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from pathlib import Path

from hoopfast.errors import ConfigError, Problem

MASK_KEY_BYTES = 32
MASK_KEY_NAME = "mask.key"
JOURNAL_NAME = "journal"
LOCK_NAME = "lock"
WORKERS_LOCK = "run/workers.lock"   # every worker holds it, shared, for as long as it lives
ORPHANS_S = 15.0


class StateDir:
    """An opened and locked state directory; `close` frees it for another gateway."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / JOURNAL_NAME
        self.admin_socket = path / "admin.sock"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _insist_private(path)
            self._lock = _lock(path / LOCK_NAME)
            (path / "run").mkdir(mode=0o700, exist_ok=True)
            _wait_for_orphans(path / WORKERS_LOCK)
            self.journal.mkdir(mode=0o700, exist_ok=True)
        except OSError as failure:
            said = f"cannot be used: {failure.strerror or failure} ({failure.filename or path})"
            raise _problem(said) from failure
        self.mask_key = _mask_key(path / MASK_KEY_NAME)

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _insist_private(path: Path) -> None:
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise _problem(f"{path} is not a directory")
    if found.st_uid != os.geteuid():
        raise _problem(f"{path} belongs to user {found.st_uid}, the gateway runs as {os.geteuid()}")
    if found.st_mode & 0o077:
        path.chmod(0o700)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise _problem(f"{path.parent} is in use by another gateway, process {holder}; stop it first") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _wait_for_orphans(path: Path) -> None:
    """Workers of a gateway that was killed end by themselves; their journals are final only when they have."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + ORPHANS_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    what = f"workers of an earlier gateway still run and hold {path}; end them first (fuser {path})"
                    raise _problem(what) from None
                time.sleep(0.05)
    finally:
        os.close(descriptor)


def hold_workers_lock(state_dir: str) -> int:
    """For a worker process: take part in the lock until the process ends. Returns the descriptor."""
    descriptor = os.open(Path(state_dir) / WORKERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _mask_key(path: Path) -> bytes:
    """Made once: with another key, the same value would get another hash, and joins over time would break."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(MASK_KEY_BYTES)
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, key)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # Whole or not at all: half a key would be refused at every later start.
        draft.rename(path)
    if len(key) != MASK_KEY_BYTES:
        raise _problem(f"{path} holds {len(key)} bytes instead of {MASK_KEY_BYTES}; restore it from a backup")
    return key


def _problem(what: str) -> ConfigError:
    return ConfigError([Problem("hoopfast.yaml", "$.state_dir", what)])
