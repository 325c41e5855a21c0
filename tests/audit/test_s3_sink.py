"""Objects in a local S3 server (moto): locked, exactly once through crashes, provable by a copy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import minio
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from hoopfast.audit.builder import as_batch
from hoopfast.audit.events import Event, encode
from hoopfast.audit.keys import KeyRing
from hoopfast.audit.outlet import Outlet
from hoopfast.audit.sinks import s3
from hoopfast.audit.sinks.s3 import S3Sink
from hoopfast.audit.verify import Report
from hoopfast.audit.verify_files import verify_objects
from hoopfast.config_sinks import Sink
from hoopfast.errors import AuditUnavailable
from tests.audit.test_postgres_store import batches
from tests.audit.test_search import EVENTS

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


class Bucket:
    """A bucket with object lock, and the sink of a gateway."""

    def __init__(self, url: str, name: str, root: Path, *, lock: bool = True) -> None:
        self.url, self.name, self.root = url, name, root
        self.client = minio.Minio(url.removeprefix("http://"), "key", "secret", secure=False, region="us-east-1")
        self.client.make_bucket(name, object_lock=lock)

    def sink(self, **options: Any) -> S3Sink:
        base: dict[str, Any] = {"lock": "compliance", "keep": "30d", "prefix": "hoopfast/", "region": "us-east-1"}
        configured = Sink(kind="s3", url=self.url, bucket=self.name, **(base | options))
        return S3Sink("s3", configured, KeyRing(self.root / "audit-keys"), access_key="key", secret_key="secret")

    def objects(self, kind: str) -> list[str]:
        found = self.client.list_objects(self.name, prefix=f"hoopfast/{kind}/", recursive=True)
        return [str(one.object_name) for one in found]

    def lines(self) -> list[bytes]:
        data = [self.client.get_object(self.name, key).read() for key in self.objects("events")]
        return b"".join(zstandard.ZstdDecompressor().decompress(part, 1 << 24) for part in data).splitlines()

    @property
    def keys(self) -> list[Ed25519PublicKey]:
        return [known.key for known in KeyRing(self.root / "audit-keys").public()]

    def copy(self) -> Path:
        for key in [*self.objects("events"), *self.objects("checkpoints")]:
            self.client.fget_object(self.name, key, str(self.root / "copy" / key.removeprefix("hoopfast/")))
        return self.root / "copy"

    def verify(self) -> Report:
        return verify_objects(self.copy(), self.keys)


@pytest.fixture
def bucket(server: str, tmp_path: Path, request: pytest.FixtureRequest) -> Bucket:
    return Bucket(server, f"audit-{abs(hash(request.node.name)) % 10**9}", tmp_path)


def lines(*parts: list[Event]) -> list[bytes]:
    return [encode(event) for part in parts for event in part]


def marked(sink: S3Sink) -> dict[str, Any]:
    sink.asked()
    return sink.sync()


def test_objects_are_locked_whole_and_provable(bucket: Bucket) -> None:
    sink = bucket.sink()
    one, two = batches(2)
    for part in (EVENTS, one, two):
        sink.write(as_batch(part))
        marked(sink)
    assert bucket.lines() == lines(EVENTS, one, two)
    for key in (bucket.objects("events")[0], bucket.objects("checkpoints")[0]):
        found = bucket.client.stat_object(bucket.name, key)
        assert found.metadata is not None
        assert found.metadata["x-amz-object-lock-mode"] == "COMPLIANCE"
        until = datetime.fromisoformat(found.metadata["x-amz-object-lock-retain-until-date"])
        assert until > datetime.now(UTC) + timedelta(days=29)
        with pytest.raises(minio.error.S3Error, match="AccessDenied"):
            bucket.client.remove_object(bucket.name, key, version_id=found.version_id)
    assert (bucket.verify().good, bucket.verify().events, bucket.verify().checkpoints) == (True, 17, 3)


def test_a_copy_that_was_changed_is_found(bucket: Bucket) -> None:
    sink = bucket.sink()
    for part in (EVENTS, *batches(2)):
        sink.write(as_batch(part))
        marked(sink)
    copy = bucket.copy()
    objects = sorted((copy / "events").rglob("*.zst"))
    kept = objects[1].read_bytes()
    objects[1].write_bytes(objects[2].read_bytes())
    assert [problem.kind for problem in verify_objects(copy, bucket.keys).problems] == ["changed"]
    objects[1].unlink()
    assert [problem.kind for problem in verify_objects(copy, bucket.keys).problems] == ["removed"]
    objects[1].write_bytes(b"damaged")
    assert [problem.kind for problem in verify_objects(copy, bucket.keys).problems] == ["changed"]
    objects[1].write_bytes(kept)
    assert verify_objects(copy, bucket.keys).good
    sorted((copy / "checkpoints").rglob("*.json"))[1].unlink()
    assert "checkpoint" in {problem.kind for problem in verify_objects(copy, bucket.keys).problems}
    assert not verify_objects(copy, []).good


def test_what_comes_again_after_a_crash_is_dropped(bucket: Bucket) -> None:
    one, two, three = batches(3)
    sink = bucket.sink()
    sink.write(as_batch(one))
    mark = marked(sink)
    sink.write(as_batch(two))
    marked(sink)                                        # stored, and the mark is not kept: then it is killed
    again = bucket.sink()
    again.restore(mark)
    again.write(as_batch([*two[:2]]))
    again.write(as_batch([*two[2:], *three]))
    marked(again)
    assert bucket.lines() == lines(one, two, three)
    assert bucket.verify().good


def test_an_object_without_its_checkpoint_is_sealed_at_the_next_start(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = batches(2)
    sink = bucket.sink()
    sink.write(as_batch(one))
    mark = marked(sink)
    sink.write(as_batch(two))
    monkeypatch.setattr(sink, "_seal", lambda: None)
    marked(sink)
    again = bucket.sink()
    again.restore(mark)
    again.write(as_batch(two))
    report = bucket.verify()
    assert (report.good, report.recovered, report.events) == (True, 5, 10), report


def test_a_lost_answer_and_a_mark_that_says_no_more_than_is_there(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = batches(2)
    sink = bucket.sink()
    sink.write(as_batch(one))
    real = sink._client.put_object

    def lost(*args: Any, **options: Any) -> Any:
        real(*args, **options)
        monkeypatch.undo()
        raise OSError("connection reset")

    monkeypatch.setattr(sink._client, "put_object", lost)
    with pytest.raises(AuditUnavailable, match="connection reset"):
        marked(sink)
    sink.asked()
    sink.write(as_batch(two))                           # behind the mark that is asked for, perhaps in its object
    assert sink.sync()["object"] == 0
    marked(sink)
    assert bucket.lines() == lines(one, two)
    assert bucket.verify().good


def test_few_large_objects(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks are asked for every second; an object is made once a minute, or when it is large."""
    sink = bucket.sink()
    outlet = Outlet(sink, required=False)
    outlet.restore({})
    parts = batches(12)
    for part in parts[:3]:
        while outlet._queue:
            pass
        outlet.write(part)
    outlet.ask("state")
    assert outlet.answer() is None
    outlet.finish(s3.time.monotonic() + 5)
    answered = outlet.answer()
    assert answered is not None and answered[0] == "state"
    outlet.close()
    assert len(bucket.objects("events")) == 1
    assert bucket.lines() == lines(*parts[:3])


def test_a_bucket_without_lock_is_refused(server: str, tmp_path: Path) -> None:
    bucket = Bucket(server, "plain", tmp_path, lock=False)
    with pytest.raises(AuditUnavailable, match="no object lock"):
        bucket.sink().write(as_batch(EVENTS))
    sink = bucket.sink(lock="", keep="")
    sink.write(as_batch(EVENTS))
    marked(sink)
    assert bucket.lines() == lines(EVENTS)


def test_a_bucket_that_is_not_there(server: str, tmp_path: Path) -> None:
    bucket = Bucket(server, "there", tmp_path)
    bucket.name = "nowhere"
    with pytest.raises(AuditUnavailable, match="nowhere"):
        bucket.sink(lock="", keep="").write(as_batch(EVENTS))
