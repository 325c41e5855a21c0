"""The keys that sign checkpoints: a directory in the state directory, private to the service's user.

`<id>.key` (PEM, 0600) is a private key, `<id>.pub` its public one, `current` names the key that signs. The shipper
makes the first one; `hoopfast audit keys rotate` makes the next, also while the gateway runs. Private keys that no sink
signs with any more are removed, so that who gets in later cannot sign what was before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from hoopfast.audit.chain import Signer, key_id, parse_key
from hoopfast.errors import AuditUnavailable

DIRECTORY = "audit-keys"


class PublicKey(NamedTuple):
    """`signs`: it is the current one."""

    id: str
    key: Ed25519PublicKey
    signs: bool


class KeyRing:
    """Raises AuditUnavailable for keys that are missing or damaged, OSError for files that cannot be written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._signers: dict[str, Signer] = {}
        self._users: list[Callable[[], str]] = []

    def current(self) -> Signer:
        """The key that signs now; looked up anew each time, as it may have been rotated."""
        try:
            name = (self.directory / "current").read_text().strip()
        except FileNotFoundError:
            if any(self.directory.glob("*.key")):
                missing = self.directory / "current"
                raise AuditUnavailable(f"{missing} is missing: it names the key that signs") from None
            return self.rotate()
        return self.signer(name)

    def signer(self, name: str) -> Signer:
        known = self._signers.get(name)
        if known is None:
            path = self.directory / f"{name}.key"
            try:
                private = load_pem_private_key(path.read_bytes(), None)
            except (OSError, ValueError, TypeError) as failure:
                raise AuditUnavailable(
                    f"the audit key {path} cannot be read ({failure}); put it back, or make a new one with "
                    "`hoopfast audit keys rotate`"
                ) from failure
            if not isinstance(private, Ed25519PrivateKey) or key_id(private.public_key()) != name:
                raise AuditUnavailable(f"{path} is not the Ed25519 key {name}")
            known = self._signers[name] = Signer(name, private)
        return known

    def can_sign(self, name: str) -> bool:
        return name in self._signers or (self.directory / f"{name}.key").exists()

    def public(self) -> list[PublicKey]:
        """All that were ever in force here, the current one last."""
        try:
            current = (self.directory / "current").read_text().strip()
        except FileNotFoundError:
            current = ""
        found = []
        for path in sorted(self.directory.glob("*.pub")):
            try:
                key = parse_key(path.read_text())
            except (ValueError, OSError) as failure:
                raise AuditUnavailable(f"{path} is no public key: {failure}") from failure
            found.append(PublicKey(key_id(key), key, key_id(key) == current))
        return sorted(found, key=lambda key: key.signs)

    def rotate(self) -> Signer:
        """A new key, which signs from the next checkpoint on; each chain records it, signed by the old one."""
        private_directory(self.directory)
        private = Ed25519PrivateKey.generate()
        name = key_id(private.public_key())
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self._write(f"{name}.pub", public)
        self._write(f"{name}.key", private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        # Last: before this, nobody signs with it.
        self._write("current", name.encode() + b"\n")
        return self.signer(name)

    def use(self, active: Callable[[], str]) -> None:
        """Register a chain; `active` says which key it signed with last ("": none)."""
        self._users.append(active)

    def retire(self) -> None:
        """Remove private keys that are neither current nor in use by any chain."""
        needed = {self.current().id, *(active() for active in self._users)}
        for path in self.directory.glob("*.key"):
            if path.stem not in needed:
                self._signers.pop(path.stem, None)
                path.unlink(missing_ok=True)

    def _write(self, name: str, data: bytes) -> None:
        write_private(self.directory / name, data)


def private_directory(path: Path) -> None:
    """Made if it is not there, for the owner of its parent."""
    if not path.exists():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.parent.stat()
        if owner.st_uid != os.geteuid():
            os.chown(path, owner.st_uid, owner.st_gid)


def write_private(path: Path, data: bytes) -> None:
    """A file for the owner of its directory alone, whole or not at all."""
    partial = path.with_name(f"{path.name}.new")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        # Root may write it; the gateway still has to read it.
        owner = path.parent.stat()
        if owner.st_uid != os.geteuid():
            os.fchown(fd, owner.st_uid, owner.st_gid)
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    partial.rename(path)
