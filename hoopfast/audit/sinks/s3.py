"""Events as objects in S3-compatible storage, locked against removal if it is asked for.

`<prefix>events/<chain>/<number>.jsonl.zst` has the events of a minute, `<prefix>checkpoints/<chain>/<number>.json` a
signed checkpoint (audit.chain), one for each object of events. Numbers have no gaps. A copy of both directories is
checked by `hoopfast audit verify` (verify_files.verify_objects). The chain is named by the gateway's first audit key.
"""

from __future__ import annotations

import hashlib
import io
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import minio
import urllib3
import zstandard
from minio.commonconfig import COMPLIANCE, GOVERNANCE
from minio.retention import Retention

from hoopfast._wire import leaf_hashes
from hoopfast.audit.builder import Batch, Item, as_batch, as_event
from hoopfast.audit.chain import Checkpoint, parse_checkpoint
from hoopfast.audit.events import Statement, decode
from hoopfast.audit.keys import KeyRing
from hoopfast.audit.sealing import Sealer
from hoopfast.config_sinks import Sink, keep_days
from hoopfast.errors import AuditUnavailable

OBJECT_BYTES = 8 << 20                  # of events, before compression
OBJECT_S = 60.0                         # so long they wait for company: every request costs money
PART_BYTES = 1 << 30
TIMEOUT_S = 30.0
QUIET = 20                              # batches, after which nothing comes again any more
OBJECT_BYTES_MAX = 1 << 30              # of one that is read back, uncompressed


class Upload(NamedTuple):
    """An object on its way: what is sent again after a lost answer is the same to the byte."""

    number: int
    data: bytes
    leaves: bytes


class S3Sink:
    """See outlet.Patient. Exactly once: objects beyond the mark are read back, and what comes again is dropped."""

    def __init__(self, name: str, sink: Sink, keys: KeyRing, *, access_key: str, secret_key: str) -> None:
        self.name = name
        self._sink = sink
        self._ring = keys
        self._client = _client(sink, access_key, secret_key)
        self._mark: dict[str, Any] = {}
        self._chain = ""
        self._number = 0                            # of the last object of events
        self._sealer: Sealer | None = None
        self._lines: list[bytes] = []
        self._leaves: list[bytes] = []
        self._size = 0
        self._since = 0.0
        self._upload: Upload | None = None
        self._checkpoints: list[Checkpoint] = []    # made, and not stored yet
        self._repeated: set[tuple[str, int]] = set()
        self._quiet = 0                             # batches without a repetition
        self._base = 0                              # the last object before the mark that is asked for
        self._closing = False
        keys.use(lambda: "" if self._sealer else str(self._mark.get("key", "")))

    # ------------------------------------------------------------ for the outlet

    def restore(self, mark: dict[str, Any]) -> None:
        self._mark = dict(mark)

    def write(self, events: Sequence[Item]) -> None:
        self._open()
        if self._size >= OBJECT_BYTES:
            self._flush()
        batch = as_batch(events)
        if self._repeated:
            names = [(event.session, event.seq) for event in map(as_event, batch)]
            batch = Batch(item for item, name in zip(batch, names, strict=True) if name not in self._repeated)
            if self._repeated.isdisjoint(names):
                self._quiet += 1
                if self._quiet >= QUIET:
                    self._repeated.clear()
            self._repeated.difference_update(names)
        if not batch:
            return
        if not self._lines:
            self._since = time.monotonic()
        lines = b"".join(batch.lines())
        self._lines.append(lines)
        self._leaves.append(batch.leaves())
        self._size += len(lines)

    def asked(self) -> None:
        self._base = self._number

    def is_due(self) -> bool:
        """Whether a mark may be asked for: it makes an object."""
        return not self._lines or self._closing or time.monotonic() - self._since >= OBJECT_S

    def sync(self) -> dict[str, Any]:
        self._open()
        self._flush()
        self._mark = {"object": self._base, "key": self._ring.current().id}
        return dict(self._mark)

    def kept(self, mark: dict[str, Any]) -> None:
        """The clock is `is_due`."""

    def running(self, events: Sequence[Statement]) -> None:
        """Objects cannot be taken back, so statements are written when they have ended."""

    def finish(self) -> None:
        """From now on objects may be small."""
        self._closing = True

    def close(self) -> None:
        """What is not stored yet comes again at the next start."""

    # ------------------------------------------------------------ writing

    def _flush(self) -> None:
        assert self._sealer is not None
        if self._upload is None and self._lines:
            packed = zstandard.ZstdCompressor(level=3).compress(b"".join(self._lines))
            self._upload = Upload(self._number + 1, packed, b"".join(self._leaves))
            self._lines, self._leaves, self._size = [], [], 0
        if self._upload is not None:
            self._put(self._events_key(self._upload.number), self._upload.data, "application/zstd")
            self._number = self._upload.number
            self._sealer.add(self._upload.leaves, place=str(self._number))
            self._upload = None
        self._seal()

    def _seal(self) -> None:
        assert self._sealer is not None
        if not self._checkpoints:
            made = self._sealer.make()
            self._checkpoints = [checkpoint for checkpoint, _ in made]
            self._sealer.keep(made)
        while self._checkpoints:
            first = self._checkpoints[0]
            self._put(self._checkpoint_key(first.number), first.line() + b"\n", "application/json")
            del self._checkpoints[0]

    def _put(self, key: str, data: bytes, kind: str) -> None:
        retention = None
        if self._sink.lock:
            until = datetime.now(UTC) + timedelta(days=keep_days(self._sink.keep))
            retention = Retention(COMPLIANCE if self._sink.lock == "compliance" else GOVERNANCE, until)
        # A locked object needs a checksum; and in one part, or it would be a checksum of checksums.
        checksum: dict[str, str | list[str] | tuple[str]] = {
            "x-amz-sdk-checksum-algorithm": "SHA256",
            "x-amz-checksum-sha256": b64encode(hashlib.sha256(data).digest()).decode()}
        with _explained(f"{self._sink.bucket}/{key}"):
            self._client.put_object(
                self._sink.bucket, key, io.BytesIO(data), len(data), content_type=kind, retention=retention,
                metadata=checksum, part_size=PART_BYTES)

    # ------------------------------------------------------------ at a start

    def _open(self) -> None:
        if self._sealer is not None:
            return
        if self._sink.lock:
            self._insist_lockable()
        names = [key.id for key in self._ring.public()] or [self._ring.current().id]
        found = [(name, head) for name in names if (head := self._head(name)) is not None]
        self._chain, head = max(found, key=lambda one: one[1].number) if found else (self._first_name(names), None)
        sealer = Sealer(self._ring, head, where=f"the bucket {self._sink.bucket}")
        self._number = int(head.place or 0) if head else 0
        for number in self._numbers("events", self._number):
            # Stored, and not sealed: there was a crash in between.
            sealer.add(leaf_hashes(self._get(number)), place=str(number), recovered=True)
            self._number = number
        for number in self._numbers("events", int(self._mark.get("object", 0))):
            events = map(decode, self._get(number).splitlines())
            self._repeated.update((event.session, event.seq) for event in events)
        self._sealer = sealer
        self._seal()

    def _first_name(self, names: list[str]) -> str:
        """Of a chain without a checkpoint: one with events, or the current key's."""
        for name in names:
            self._chain = name
            if next(self._numbers("events", 0), None) is not None:
                return name
        return self._ring.current().id

    def _insist_lockable(self) -> None:
        try:
            with _explained(self._sink.bucket):
                self._client.get_object_lock_config(self._sink.bucket)
        except AuditUnavailable as failure:
            raise AuditUnavailable(
                f"the bucket {self._sink.bucket} has no object lock ({failure}); make it with one, or leave out `lock`",
            ) from failure

    def _head(self, chain: str) -> Checkpoint | None:
        self._chain = chain
        # The mark is a good place to begin: there is at least one checkpoint for each object.
        last = 0
        for number in self._numbers("checkpoints", max(0, int(self._mark.get("object", 0)) - 1)):
            last = number
        if not last:
            return None
        try:
            with _explained(self._checkpoint_key(last)):
                return parse_checkpoint(self._read(self._checkpoint_key(last)).rstrip(b"\n"))
        except ValueError as failure:
            raise AuditUnavailable(f"{self._checkpoint_key(last)} is damaged: {failure}") from failure

    def _numbers(self, kind: str, after: int) -> Iterator[int]:
        prefix = f"{self._sink.prefix}{kind}/{self._chain}/"
        with _explained(f"{self._sink.bucket}/{prefix}"):
            for found in self._client.list_objects(
                    self._sink.bucket, prefix=prefix, start_after=f"{prefix}{after:012d}~"):
                yield int(str(found.object_name)[len(prefix) : len(prefix) + 12])

    def _get(self, number: int) -> bytes:
        with _explained(self._events_key(number)):
            data = self._read(self._events_key(number))
        try:
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=OBJECT_BYTES_MAX)
        except zstandard.ZstdError as failure:
            raise AuditUnavailable(f"{self._events_key(number)} is damaged: {failure}") from failure

    def _read(self, key: str) -> bytes:
        answer = self._client.get_object(self._sink.bucket, key)
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()

    def _events_key(self, number: int) -> str:
        return f"{self._sink.prefix}events/{self._chain}/{number:012d}.jsonl.zst"

    def _checkpoint_key(self, number: int) -> str:
        return f"{self._sink.prefix}checkpoints/{self._chain}/{number:012d}.json"


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """What the library raises, as an error of ours that names the object and no credential."""
    try:
        yield
    except minio.error.S3Error as failure:
        raise AuditUnavailable(f"{what}: {failure.code}: {failure.message}") from failure
    except (minio.error.MinioException, urllib3.exceptions.HTTPError, OSError) as failure:
        raise AuditUnavailable(f"{what}: {type(failure).__name__}: {failure}") from failure


def _client(sink: Sink, access_key: str, secret_key: str) -> minio.Minio:
    url = urlsplit(sink.url or f"https://s3.{sink.region + '.' if sink.region else ''}amazonaws.com")
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(TIMEOUT_S), retries=urllib3.Retry(total=0), cert_reqs="CERT_REQUIRED",
        ca_certs=sink.ca or None)
    return minio.Minio(
        url.netloc, access_key=access_key or None, secret_key=secret_key or None, region=sink.region or None,
        secure=url.scheme == "https", http_client=pool)
