"""Seals the values that the record of a statement must not show: encryption for auditors that a person's erasure ends.

Two keys are needed to open a text: the private *recovery key*, which auditors hold, and the *person's key*, which stays
in the state directory. A text is AES-256-GCM under a key derived (HKDF-SHA256) from both: from the X25519 secret shared
by the recovery key and a key pair made for one person and hour, and from the person's key. The gateway keeps neither
what opens its texts nor, once the person's key is destroyed, what anybody could open them with.

`recovery-keys/`: `<id>.pub` (PEM), `current` (names the one in force) and, until somebody takes it away, `<id>.key`.
`person-keys/`: a file for each person, private to the service's user; `<name>.erased` says when keys were destroyed.

The shipper seals (through the builder), `hoopfast audit` opens, erases and makes recovery keys.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from hoopfast.audit.events import utc
from hoopfast.audit.keys import private_directory, write_private
from hoopfast.errors import AuditUnavailable

RECOVERY_DIRECTORY: Final = "recovery-keys"
PERSON_DIRECTORY: Final = "person-keys"
VERSION: Final = "hf1"
INFO: Final = b"hoopfast protected 1"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
PAD_BYTES: Final = 48
ENVELOPES_MAX: Final = 4096             # kept in memory: one for each person and hour
HOUR_NS: Final = 3_600_000_000_000


log = logging.getLogger(__name__)


class CannotOpen(Exception):
    """A text cannot be opened; says why."""


class RecoveryKey(NamedTuple):
    """`seals`: it is the current one. `private_here`: its private part lies on this machine."""

    id: str
    public: X25519PublicKey
    seals: bool
    private_here: bool


class Erasure(msgspec.Struct, forbid_unknown_fields=True):
    """`key` is the id of the key that was destroyed; "": there was none."""

    key: str
    at: int                             # unix ns
    reason: str = ""


class _PersonKey(msgspec.Struct):
    id: str
    user: str
    key: bytes


class _Envelope(NamedTuple):
    prefix: str
    cipher: AESGCM
    nonce_key: bytes


# ---------------------------------------------------------------- recovery keys

class RecoveryKeys:
    """Raises AuditUnavailable for keys that are missing or damaged, OSError for files that cannot be written."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / RECOVERY_DIRECTORY

    def current(self) -> RecoveryKey:
        """The key that seals now; the first one is made here."""
        if not (self.directory / "current").exists():
            if any(self.directory.glob("*.pub")):
                raise AuditUnavailable(f"{self.directory / 'current'} is missing: it names the recovery key in force")
            return self.new()
        found = next((key for key in self.all() if key.seals), None)
        if found is None:
            raise AuditUnavailable(f"{self.directory / 'current'} names a recovery key that is not there")
        return found

    def all(self) -> list[RecoveryKey]:
        """Every one that was ever in force here, the current one last."""
        try:
            current = (self.directory / "current").read_text().strip()
        except FileNotFoundError:
            current = ""
        found = []
        for path in sorted(self.directory.glob("*.pub")):
            public = read_public(path)
            key = recovery_id(public)
            found.append(RecoveryKey(key, public, key == current, (self.directory / f"{key}.key").exists()))
        return sorted(found, key=lambda key: key.seals)

    def new(self, private_to: Path | None = None) -> RecoveryKey:
        """Make one and put it in force. Its private part goes to `private_to`, or beside the public one.

        FileExistsError when `private_to` exists."""
        private = X25519PrivateKey.generate()
        public = private.public_key()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        if private_to is not None:
            fd = os.open(private_to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
        else:
            private_directory(self.directory)
            write_private(self.directory / f"{recovery_id(public)}.key", pem)
        return self.install(public)

    def install(self, public: X25519PublicKey) -> RecoveryKey:
        """Put a public key in force whose private part was made elsewhere."""
        private_directory(self.directory)
        name = recovery_id(public)
        write_private(self.directory / f"{name}.pub",
                      public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        # Last: before this, nobody seals with it.
        write_private(self.directory / "current", name.encode() + b"\n")
        return RecoveryKey(name, public, True, (self.directory / f"{name}.key").exists())


def recovery_id(public: X25519PublicKey) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def read_public(path: Path) -> X25519PublicKey:
    try:
        found = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as failure:
        raise AuditUnavailable(f"{path} is no public key: {failure}") from failure
    if not isinstance(found, X25519PublicKey):
        raise AuditUnavailable(f"{path} is no X25519 key; `openssl genpkey -algorithm X25519` makes one")
    return found


def read_private(path: Path) -> X25519PrivateKey:
    try:
        found = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as failure:
        raise AuditUnavailable(f"the recovery key {path} cannot be read: {failure}") from failure
    if not isinstance(found, X25519PrivateKey):
        raise AuditUnavailable(f"{path} is no X25519 key")
    return found


# ---------------------------------------------------------------- people

class PersonKeys:
    """One key for each person that the trail has protected values of."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / PERSON_DIRECTORY

    def obtain(self, user: str) -> tuple[str, bytes]:
        """(id, key) of a person, made when there is none."""
        path = self._path(user, "key")
        try:
            found = msgspec.msgpack.decode(path.read_bytes(), type=_PersonKey)
        except FileNotFoundError:
            private_directory(self.directory)
            found = _PersonKey(secrets.token_hex(8), user, secrets.token_bytes(KEY_BYTES))
            write_private(path, msgspec.msgpack.encode(found))
        except msgspec.MsgspecError as failure:
            raise AuditUnavailable(f"{path} is damaged: {failure}") from failure
        return found.id, found.key

    def has(self, user: str) -> bool:
        return self._path(user, "key").exists()

    def find(self, key: str) -> bytes:
        """The key with this id. Raises CannotOpen."""
        for path in self.directory.glob("*.key"):
            try:
                found = msgspec.msgpack.decode(path.read_bytes(), type=_PersonKey)
            except (OSError, msgspec.MsgspecError):
                continue
            if found.id == key:
                return found.key
        for path in self.directory.glob("*.erased"):
            for erasure in _erasures(path):
                if erasure.key == key:
                    raise CannotOpen(f"the person's key {key} was destroyed at {utc(erasure.at)}"
                                     + (f": {erasure.reason}" if erasure.reason else ""))
        raise CannotOpen(f"the person's key {key} is not in {self.directory}: it is another gateway's, or lost")

    def erased_at(self, user: str) -> int:
        """When this person's key was last destroyed, in unix ns; 0: never."""
        return max((erasure.at for erasure in _erasures(self._path(user, "erased"))), default=0)

    def erase(self, user: str, reason: str) -> Erasure:
        """Destroy a person's key for good. What was recorded until now can then be opened by nobody."""
        private_directory(self.directory)
        path = self._path(user, "key")
        try:
            key = msgspec.msgpack.decode(path.read_bytes(), type=_PersonKey).id
        except FileNotFoundError:
            key = ""
        except msgspec.MsgspecError:
            key = "damaged"
        made = Erasure(key, time.time_ns(), reason)
        # First: whoever sees the key gone learns why, and what is still in the journal is not sealed under a new key.
        tomb = self._path(user, "erased")
        written = [*_erasures(tomb), made]
        write_private(tomb, b"".join(msgspec.json.encode(one) + b"\n" for one in written))
        if path.exists():
            # Out of the way first: the shipper must not read half of it.
            gone = path.with_suffix(".destroyed")
            path.rename(gone)
            with gone.open("r+b") as file:
                file.write(bytes(gone.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
            gone.unlink()
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return made

    def _path(self, user: str, kind: str) -> Path:
        # People's names may hold anything; the file does not give them away either.
        return self.directory / f"{hashlib.sha256(user.encode()).hexdigest()[:32]}.{kind}"


def _erasures(path: Path) -> list[Erasure]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [msgspec.json.decode(line, type=Erasure) for line in lines if line]


# ---------------------------------------------------------------- sealing and opening

class Vault:
    """Seals for one process. `keep` False: nothing is kept, every text is empty.

    The same text comes out for the same name and secret within a process, so all sinks have the same event.
    """

    def __init__(self, state_dir: Path, *, keep: bool = True) -> None:
        self._recovery = RecoveryKeys(state_dir)
        self._people = PersonKeys(state_dir)
        self._keep = keep
        self._envelopes: dict[tuple[str, int], _Envelope] = {}
        self._erased: dict[str, int] = {}
        self._seen: tuple[int, ...] = ()

    def refresh(self) -> None:
        """Look whether keys were made or destroyed by somebody else; called before each batch.

        AuditUnavailable when there are recovery keys and none can be used: what is in the journal waits for one."""
        seen = tuple(_changed(directory) for directory in (self._recovery.directory, self._people.directory))
        if seen != self._seen:
            if self._keep and self._recovery.directory.exists():
                self._recovery.current()
            self._seen = seen
            self._envelopes.clear()
            self._erased.clear()

    def seal(self, user: str, at: int, name: str, secret: bytes) -> str:
        """A text for the trail. `at` in unix ns; `name` is unique for the secret. Never raises: a record is half read
        when it is called."""
        if not self._keep:
            return ""
        try:
            envelope = self._envelopes.get((user, at // HOUR_NS)) or self._envelope(user, at // HOUR_NS)
            if at <= self._erased[user]:
                return ""
        except (OSError, AuditUnavailable, msgspec.MsgspecError) as failure:
            log.error("values of masked columns cannot be sealed, and are not kept: %s", failure)
            return ""
        nonce = hmac.digest(envelope.nonce_key, name.encode(), "sha256")[:NONCE_BYTES]
        # JSON with spaces behind it is the same JSON, and its length tells less.
        padded = secret.ljust(-(-len(secret) // PAD_BYTES) * PAD_BYTES)
        return envelope.prefix + _text(nonce + envelope.cipher.encrypt(nonce, padded, None))

    def _envelope(self, user: str, hour: int) -> _Envelope:
        if len(self._envelopes) >= ENVELOPES_MAX:
            self._envelopes.clear()
        recovery = self._recovery.current()
        self._erased[user] = self._people.erased_at(user)
        person, key = self._people.obtain(user)
        pair = X25519PrivateKey.generate()
        public = pair.public_key().public_bytes_raw()
        made = derive(pair.exchange(recovery.public), key, public, recovery.public)
        nonce_key = hashlib.sha256(b"nonce" + made).digest()
        prefix = f"{VERSION}.{recovery.id}.{person}.{_text(public)}."
        envelope = self._envelopes[user, hour] = _Envelope(prefix, AESGCM(made), nonce_key)
        return envelope


def derive(shared: bytes, person: bytes, ephemeral: bytes, recovery: X25519PublicKey) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, ephemeral + recovery.public_bytes_raw(), INFO).derive(shared + person)


def key_of(text: str) -> str:
    """The id of the recovery key that a text is sealed to. Raises CannotOpen."""
    return _parts(text)[0]


def open_text(text: str, private: X25519PrivateKey, people: PersonKeys) -> bytes:
    """What was sealed. Raises CannotOpen."""
    recovery, person, ephemeral, sealed = _parts(text)
    if recovery_id(private.public_key()) != recovery:
        raise CannotOpen(f"it is sealed to the recovery key {recovery}, and this is "
                         f"{recovery_id(private.public_key())}")
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        made = derive(shared, people.find(person), ephemeral, private.public_key())
        return AESGCM(made).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
    except (InvalidTag, ValueError) as failure:
        raise CannotOpen("it was changed, or is cut short") from failure


def _parts(text: str) -> tuple[str, str, bytes, bytes]:
    if not text:
        raise CannotOpen("its values were not kept")
    try:
        version, recovery, person, ephemeral, sealed = text.split(".")
        if version != VERSION:
            raise CannotOpen(f"it was sealed by a newer version of hoopfast ({version})")
        return recovery, person, _bytes(ephemeral), _bytes(sealed)
    except ValueError as failure:
        raise CannotOpen("it is no sealed text") from failure


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _changed(directory: Path) -> int:
    try:
        return directory.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
