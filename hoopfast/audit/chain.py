"""The proof of the audit trail: signed checkpoints, each over a Merkle tree of events and the checkpoint before. Pure.

An event's leaf is the hash of its JSON line (events.encode, without the newline), so the same event has the same leaf
in every sink and export. Trees are those of RFC 6962. A checkpoint is one line of JSON with its own Ed25519 signature;
the next one names its hash. A rotation of keys is a checkpoint too, signed by the key that goes. docs/audit.md has the
rules.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hoopfast._wire import leaf_hashes, merkle_root

HASH_BYTES = 32
NOTHING = "0" * 64                      # the checkpoint before the first
LINE_MAX = 4096
_CONTEXT = b"hoopfast audit checkpoint 1\n"     # what is signed here means nothing elsewhere, and the other way round

_encoder = msgspec.json.Encoder()


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`first` to `last`: places of its `count` events in the store, gapless from one checkpoint to the next.

    kind "events": `root` is that of their leaves. kind "key": no events; `next_key` is the public key (base64) that
    signs from here on. `recovered`: the events were found without a checkpoint at a start, after a crash.
    """

    version: Literal[1] = 1
    kind: Literal["events", "key"]
    log: str                            # names the chain; random, 16 hex digits
    number: int                         # from 1
    previous: str                       # hash of the checkpoint before
    first: int
    last: int
    count: int
    root: str
    at: str                             # UTC, by the clock of the gateway
    key: str                            # id of the key that signed
    next_key: str = ""
    recovered: bool = False
    place: str = ""                     # of files: "<name>:<offset>" behind the last event
    signature: str = ""

    def line(self) -> bytes:
        """The only way to write it; without a newline."""
        return _encoder.encode(self)

    def digest(self) -> str:
        """What the next one calls `previous`."""
        return hashlib.sha256(self.line()).hexdigest()

    def signed(self) -> bytes:
        """The bytes under the signature."""
        return _CONTEXT + msgspec.structs.replace(self, signature="").line()


class BadCheckpoint(ValueError):
    """A line that no gateway wrote; says why."""


_decoder = msgspec.json.Decoder(Checkpoint)


def parse_checkpoint(line: bytes) -> Checkpoint:
    """Raises BadCheckpoint, also for another spelling of the same content: one content, one hash."""
    try:
        made = _decoder.decode(line)
    except msgspec.MsgspecError as failure:
        raise BadCheckpoint(str(failure)) from failure
    if made.line() != line:
        raise BadCheckpoint("it is not written the way a gateway writes it")
    return made


def key_id(public: Ed25519PublicKey) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def key_text(public: Ed25519PublicKey) -> str:
    """Base64 of the 32 bytes: what `audit keys show` prints and --key takes."""
    return b64encode(public.public_bytes_raw()).decode()


def parse_key(text: str) -> Ed25519PublicKey:
    """PEM or base64 of a public key. Raises ValueError."""
    if "-----BEGIN" in text:
        found = load_pem_public_key(text.encode())
        if not isinstance(found, Ed25519PublicKey):
            raise ValueError("it is no Ed25519 key")
        return found
    return Ed25519PublicKey.from_public_bytes(b64decode(text.strip(), validate=True))


class Signer(NamedTuple):
    """A private key and its id."""

    id: str
    private: Ed25519PrivateKey

    def sign(self, checkpoint: Checkpoint) -> Checkpoint:
        signature = self.private.sign(checkpoint.signed())
        return msgspec.structs.replace(checkpoint, signature=b64encode(signature).decode())


def is_signed(checkpoint: Checkpoint, public: Ed25519PublicKey) -> bool:
    try:
        public.verify(b64decode(checkpoint.signature, validate=True), checkpoint.signed())
    except (InvalidSignature, ValueError):
        return False
    return True


def is_signed_by(line: bytes | None, keys: Collection[str]) -> bool:
    """Whether a checkpoint names one of these keys (ids); not whether its signature is right."""
    try:
        return line is not None and parse_checkpoint(line).key in keys
    except BadCheckpoint:
        return False


# ---------------------------------------------------------------- writing

def after(head: Checkpoint | None, *, log: str, at: str, signer: Signer, leaves: bytes, recovered: bool = False,
          place: str = "") -> Checkpoint:
    """The checkpoint of the events with these leaves, which follow those of `head`."""
    last = head.last if head else 0
    count = len(leaves) // HASH_BYTES
    return signer.sign(Checkpoint(
        kind="events", log=head.log if head else log, number=head.number + 1 if head else 1,
        previous=head.digest() if head else NOTHING, first=last + 1, last=last + count, count=count,
        root=merkle_root(leaves).hex(), at=at, key=signer.id, recovered=recovered, place=place,
    ))


def rotation(head: Checkpoint, *, at: str, old: Signer, new: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint by which the old key names the new one."""
    return old.sign(Checkpoint(
        kind="key", log=head.log, number=head.number + 1, previous=head.digest(), first=head.last + 1, last=head.last,
        count=0, root=hashlib.sha256().hexdigest(), at=at, key=old.id, next_key=key_text(new), place=head.place,
    ))


def active_key(head: Checkpoint) -> str:
    """Id of the key that signs after this checkpoint."""
    return key_id(parse_key(head.next_key)) if head.kind == "key" else head.key


# ---------------------------------------------------------------- checking

class Chain:
    """Checks a chain link by link. `pinned`: the keys that are trusted by themselves.

    A rotation by a trusted key makes the next key trusted. What an unknown key signed counts when a trusted key signed
    later in the same chain, whose hashes then vouch for it: so the current key alone is enough.
    """

    def __init__(self, pinned: Iterable[Ed25519PublicKey]) -> None:
        self._known = {key_id(key): key for key in pinned}
        self.head: Checkpoint | None = None
        self.unvouched: list[Checkpoint] = []       # the first and the last of them

    def add(self, c: Checkpoint) -> list[str]:
        """What is wrong with the next checkpoint, in words; it is the head from then on, so faults are said once."""
        head, faults = self.head, self._form(c)
        if head is None:
            if c.number == 1 and c.previous != NOTHING:
                faults.append("it is the first and names one before")
        else:
            if c.log != head.log:
                faults.append(f"it belongs to another chain ({c.log})")
            if c.number != head.number + 1:
                faults.append(f"it follows checkpoint {head.number}: what was between is missing, or the order changed")
            elif c.previous != head.digest():
                faults.append(f"it does not follow from checkpoint {head.number} as that stands here")
            if c.first != head.last + 1:
                faults.append(f"its events begin at {c.first}, those before end at {head.last}")
            wanted = active_key(head)
            if c.key != wanted and c.key not in self._known:
                faults.append(f"key {c.key} signed it, where key {wanted} was in force")
        faults += self._signature(c)
        self.head = c
        return faults

    def _form(self, c: Checkpoint) -> list[str]:
        faults = []
        if c.last - c.first + 1 != c.count or (c.count == 0) != (c.kind == "key"):
            faults.append("its numbers do not fit together")
        if c.kind == "key":
            try:
                parse_key(c.next_key)
            except ValueError:
                faults.append("it names no usable next key")
        return faults

    def _signature(self, c: Checkpoint) -> list[str]:
        public = self._known.get(c.key)
        if public is None:
            self.unvouched = [self.unvouched[0] if self.unvouched else c, c]
            return []
        if not is_signed(c, public):
            return [f"its signature by key {c.key} is wrong"]
        self.unvouched = []
        if c.kind == "key":
            try:
                public = parse_key(c.next_key)
            except ValueError:
                return []
            self._known[key_id(public)] = public
        return []


# ---------------------------------------------------------------- proofs of single events

class Step(NamedTuple):
    """A neighbour on the way to the root."""

    side: Literal["left", "right"]
    hash: str


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event as its line, its neighbours from the bottom up, and the checkpoint over the root."""

    event: str
    path: tuple[Step, ...]
    checkpoint: Checkpoint


def path_to(leaves: bytes, index: int) -> tuple[Step, ...]:
    """The neighbours of a leaf, from the bottom up."""
    count = len(leaves) // HASH_BYTES
    if not 0 <= index < count:
        raise IndexError(index)
    if count == 1:
        return ()
    split = 1 << (count - 1).bit_length() - 1
    left, right = leaves[: split * HASH_BYTES], leaves[split * HASH_BYTES :]
    if index < split:
        return (*path_to(left, index), Step("right", merkle_root(right).hex()))
    return (*path_to(right, index - split), Step("left", merkle_root(left).hex()))


def root_of(leaf: bytes, path: Sequence[Step]) -> bytes:
    """Where the path leads. Raises ValueError for hashes that are none."""
    node = leaf
    for side, text in path:
        other = bytes.fromhex(text)
        if len(other) != HASH_BYTES:
            raise ValueError(f"{text!r} is no hash")
        node = hashlib.sha256(b"\1" + (other + node if side == "left" else node + other)).digest()
    return node


def check_proof(proof: Proof, pinned: Iterable[Ed25519PublicKey]) -> list[str]:
    """What is wrong with it, in words. The keys must hold the one that signed this very checkpoint."""
    checkpoint, faults = proof.checkpoint, []
    known = {key_id(key): key for key in pinned}
    if checkpoint.key not in known:
        faults.append(f"key {checkpoint.key} signed checkpoint {checkpoint.number}, and it is not among the given keys")
    elif not is_signed(checkpoint, known[checkpoint.key]):
        faults.append(f"the signature of checkpoint {checkpoint.number} is wrong")
    if checkpoint.kind != "events" or "\n" in proof.event:
        faults.append("it is no proof of one event")
    elif root_of(leaf_hashes(proof.event.encode() + b"\n"), proof.path).hex() != checkpoint.root:
        faults.append(f"the event is not among those of checkpoint {checkpoint.number}")
    return faults
