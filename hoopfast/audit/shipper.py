"""The shipper: journal segments and the supervisor's own events, to every sink, at least once and in order per worker.

Run in a process of its own: supervisor/shipping_process.py calls `step`, about ten times a second when idle. Sinks
that keep up share one *lane*: records are decoded once for all of them. A sink that fails leaves with a lane of its
own, retries with back-off, and joins again when it has caught up. What a sink has for good is written to its
checkpoint about once a second; after a crash it goes on from there. A segment is deleted when the checkpoints of all
sinks are behind it; sessions and statements that are still open live on in snapshots beside the checkpoint, so they
do not hold segments back.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from hoopfast.audit.builder import Batch
from hoopfast.audit.lanes import (
    BACKOFF_FIRST_S,
    Checkpoint,
    Lane,
    ShipperLag,
    SinkLag,
    Standing,
    error_of,
    is_required,
    unread_bytes,
)
from hoopfast.audit.outlet import Busy, Outlet
from hoopfast.audit.sinks.base import Sink
from hoopfast.audit.streams import (
    Place,
    SpoolStream,
    Stream,
    WorkerStream,
    segment_paths,
    spool_files,
    workers_of,
)
from hoopfast.audit.vault import Vault
from hoopfast.errors import AuditUnavailable
from hoopfast.limits import JOURNAL_SEGMENT_BYTES

BATCH_RECORDS = 20_480                  # per stream, step and lane: some 5,000 statements, 25 ms, one transaction
CHECKPOINT_S = 1.0
RUNNING_AFTER_NS = 1_000_000_000
BACKOFF_MAX_S = 30.0
CLOSE_S = 5.0

log = logging.getLogger(__name__)


class Shipper:
    """`step`, `lag` and `close`, from one thread at a time.

    `living(streams)` says which of these streams may still grow: `w<worker>-<boot>` of workers that run, and the spool
    (streams.Spool) that is written now. Once a stream is not among them, it is final. Checkpoints and spools live in
    `ship` beside the journal directory. A sink that is not `required` (audit.outlet) and more than `optional_bytes`
    behind is moved on to where the others are. `vault` protects values of masked columns; without one they stand in the
    events. Raises OSError when checkpoints cannot be made, AuditUnavailable without a sink.
    """

    def __init__(
        self, journal_dir: Path, sinks: list[Sink], *, living: Callable[[Collection[str]], Collection[str]],
        optional_bytes: int = 2**62, vault: Vault | None = None,
    ) -> None:
        if not sinks:
            raise AuditUnavailable("there is no audit sink: name at least one under audit.sinks")
        self._journal = journal_dir
        self._home = ship_dir(journal_dir)
        self._living = living
        self._vault = vault
        self._sinks = sinks
        self._step = threading.Lock()
        self._errors = 0
        self._failures = {sink.name: 0 for sink in sinks}
        self._skipped = {sink.name: 0 for sink in sinks}
        self._optional_bytes = optional_bytes
        self._written = {sink.name: 0 for sink in sinks}
        self._next_checkpoint = 0.0
        self._next_running = 0.0
        journal_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._kept: dict[str, Checkpoint] = {}
        self._lanes = self._restore()

    # ------------------------------------------------------------ for the process

    def step(self) -> int:
        """Some work for every sink; how many events were built. 0: everything that is there has been read."""
        with self._step:
            if self._vault is not None:
                self._vault.refresh()
            return self._advance()

    def lag(self) -> ShipperLag:
        lanes = list(self._lanes)
        now = time.monotonic()
        return ShipperLag(
            bytes=max((unread_bytes(lane) for lane in lanes if lane.is_required), default=0),
            seconds=max((0.0 if lane.current else now - lane.caught_up_at for lane in lanes if lane.is_required),
                        default=0.0),
            events_total=max(self._written.values(), default=0),
            errors=self._errors + sum(sink.errors for sink in self._sinks if isinstance(sink, Outlet)),
            failing={sink.name: error for lane in lanes for sink in lane.sinks if (error := error_of(sink, lane))},
            sinks={sink.name: self._lag_of(sink, lane, now) for lane in lanes for sink in lane.sinks},
        )

    def _lag_of(self, sink: Sink, lane: Lane, now: float) -> SinkLag:
        lag = SinkLag(
            bytes=unread_bytes(lane), seconds=0.0 if lane.current else now - lane.caught_up_at,
            events=self._written[sink.name], errors=self._failures[sink.name], skipped=self._skipped[sink.name],
            error=error_of(sink, lane), required=is_required(sink))
        if not isinstance(sink, Outlet):
            return lag
        return msgspec.structs.replace(
            lag, seconds=max(lag.seconds, sink.waits_s()), events=sink.delivered, errors=sink.errors,
            dead=sink.letters.count if sink.letters is not None else 0)

    def close(self) -> None:
        """Ship what is there, for a few seconds at most; what is left is found again at the next start."""
        with self._step:
            deadline = time.monotonic() + CLOSE_S
            while self._advance() and time.monotonic() < deadline:
                pass
            self._checkpoint()
            for sink in self._sinks:
                if isinstance(sink, Outlet):
                    sink.finish(deadline)
            self._checkpoint()
            for lane in self._lanes:
                for stream in lane.streams.values():
                    stream.close()
            for sink in self._sinks:
                try:
                    sink.close()
                except Exception as failure:  # noqa: BLE001  (a sink may fail in any way; the others are closed too)
                    self._failed(sink, failure)

    # ------------------------------------------------------------ one step

    def _advance(self) -> int:
        self._discover()
        # Who is alive is asked before the files are read: a worker that dies in between is final next time.
        asked = {key for lane in self._lanes for key, stream in lane.streams.items() if not stream.done}
        living = set(self._living(asked))
        live = {key: key in living for key in asked}
        built = 0
        lead: dict[str, tuple[Place, bool]] | None = None
        ahead_first = sorted(self._lanes, key=lambda lane: lane.progress, reverse=True)
        for lane in sorted(ahead_first, key=lambda lane: bool(lane.error)):
            built += self._ship(lane, live, lead)
            if lead is None:
                lead = lane.places
        self._move_on()
        self._merge()
        now = time.monotonic()
        if now >= self._next_running:
            self._next_running = now + 1.0
            self._show_running()
        if now >= self._next_checkpoint:
            self._next_checkpoint = now + CHECKPOINT_S
            self._checkpoint()
        return built

    def _ship(self, lane: Lane, live: dict[str, bool], lead: dict[str, tuple[Place, bool]] | None) -> int:
        now = time.monotonic()
        if now < lane.retry_at:
            return 0
        built = 0
        if not lane.pending:
            for key, stream in lane.streams.items():
                until = lead.get(key) if lead is not None else None
                # Up to where the lead lane is, so that this one can join it; its end is everybody's end.
                place = until[0] if until is not None and not until[1] else None
                try:
                    stream.read(lane.pending, BATCH_RECORDS, live=live.get(key, True), until=place)
                except OSError as failure:
                    self._errors += 1
                    log.error("the journal cannot be read", extra={"fields": {"stream": key, "error": str(failure)}})
            built = len(lane.pending)
        if lane.pending:
            self._write(lane)
        if lane.current:
            lane.caught_up_at = now
        return built

    def _write(self, lane: Lane) -> None:
        batch, failed = lane.pending, []
        for sink in lane.sinks:
            try:
                sink.write(batch)
                self._written[sink.name] += len(batch)
            except Busy:
                failed.append((sink, ""))
            except Exception as failure:  # noqa: BLE001  (whatever a sink does must not stop the others)
                self._failed(sink, failure)
                failed.append((sink, f"{type(failure).__name__}: {failure}"))
        if not failed:
            lane.pending, lane.error, lane.backoff = Batch(), "", BACKOFF_FIRST_S
            return
        for sink, error in failed:
            left = lane
            if len(lane.sinks) > 1:
                lane.sinks.remove(sink)
                left = Lane([sink], {key: stream.clone() for key, stream in lane.streams.items()})
                left.pending, left.caught_up_at = batch, lane.caught_up_at
                self._lanes.append(left)
            left.error = error
            if error:
                left.retry_at = time.monotonic() + left.backoff
                left.backoff = min(left.backoff * 2, BACKOFF_MAX_S)
        if lane.sinks[0] not in [sink for sink, _ in failed]:
            lane.pending, lane.error, lane.backoff = Batch(), "", BACKOFF_FIRST_S

    def _failed(self, sink: Sink, failure: Exception) -> None:
        self._errors += 1
        self._failures[sink.name] += 1
        said = f"{type(failure).__name__}: {failure}"
        log.error("audit sink failed", extra={"fields": {"sink": sink.name, "error": said}})

    def _discover(self) -> None:
        workers = workers_of(self._journal)
        spools = {path.stem: path for path in spool_files(self._home)}
        for lane in self._lanes:
            known = lane.streams
            done = {key for sink in lane.sinks for key in self._kept[sink.name].done}
            for worker, boot in workers:
                key = f"w{worker}-{boot}"
                if key not in known and key not in done:
                    known[key] = WorkerStream(self._journal, worker, boot, self._vault)
            for key, path in spools.items():
                if key not in known and key not in done:
                    known[key] = SpoolStream(path)

    def _move_on(self) -> None:
        """Sinks that the journal need not wait for, and that are too far behind, go on where the first lane is."""
        lead = max((lane for lane in self._lanes if lane.is_required), key=lambda lane: lane.progress, default=None)
        for lane in self._lanes:
            if lead is None or lane.is_required or self._behind(lane, lead) <= self._optional_bytes:
                continue
            for stream in lane.streams.values():
                stream.close()
            lane.streams = {key: stream.clone() for key, stream in lead.streams.items()}
            lane.pending, lane.error = Batch(), ""
            for sink in lane.sinks:
                self._skipped[sink.name] += 1
                log.error("an audit sink was moved on: the journal could not wait for it, and it misses events", extra={
                    "fields": {"sink": sink.name, "error": error_of(sink, lane)}})
                if isinstance(sink, Outlet):
                    sink.drop()
                self._keep_standing(sink, self._standing(sink, lane), sink.sync())

    def _behind(self, lane: Lane, lead: Lane) -> int:
        """Bytes of whole segments that stay for this lane alone."""
        count = 0
        for worker, boot in workers_of(self._journal):
            own, first = (other.streams.get(f"w{worker}-{boot}") for other in (lane, lead))
            if own is not None and first is not None and not own.done:
                numbers = segment_paths(self._journal, worker, boot)
                count += sum(1 for number in numbers if own.place[0] <= number < first.place[0])
        return count * JOURNAL_SEGMENT_BYTES

    def _merge(self) -> None:
        for lane in list(self._lanes):
            if lane.pending or lane.error or lane not in self._lanes:
                continue
            for other in list(self._lanes):
                if other is not lane and not other.pending and not other.error and other.places == lane.places:
                    lane.sinks += other.sinks
                    lane.caught_up_at = min(lane.caught_up_at, other.caught_up_at)
                    for stream in other.streams.values():
                        stream.close()
                    self._lanes.remove(other)

    def _show_running(self) -> None:
        before = time.time_ns() - RUNNING_AFTER_NS
        for lane in self._lanes:
            if lane.error:
                continue
            statements = [s for stream in lane.streams.values() for s in stream.running(before)]
            for sink in lane.sinks:
                try:
                    sink.running(statements)
                except Exception as failure:  # noqa: BLE001  (a view only)
                    self._failed(sink, failure)

    # ------------------------------------------------------------ checkpoints

    def _checkpoint(self) -> None:
        for lane in self._lanes:
            for sink in lane.sinks:
                try:
                    if isinstance(sink, Outlet):
                        self._keep_later(sink, lane)
                    elif not lane.pending:
                        self._keep(sink, lane)
                except Exception as failure:  # noqa: BLE001  (sync of a sink, or the disk)
                    self._failed(sink, failure)
        self._delete()

    def _keep(self, sink: Sink, lane: Lane, *, first: bool = False) -> None:
        kept, standing = self._kept[sink.name], self._standing(sink, lane)
        if not first and (standing.places, standing.done) == (kept.places, kept.done):
            sink.kept(kept.mark)
        else:
            self._keep_standing(sink, standing, sink.sync())

    def _keep_later(self, sink: Outlet, lane: Lane) -> None:
        """A checkpoint of what was written some time ago, and is delivered by now."""
        answered = sink.answer()
        if answered is not None:
            self._keep_standing(sink, *answered)
        kept, standing = self._kept[sink.name], self._standing(sink, lane)
        if not sink.is_asked and not lane.pending and (standing.places, standing.done) != (kept.places, kept.done):
            sink.ask(standing)

    def _standing(self, sink: Sink, lane: Lane) -> Standing:
        kept = self._kept[sink.name]
        places = {key: stream.place for key, stream in lane.streams.items() if not stream.done}
        done = [key for key, stream in lane.streams.items() if stream.done]
        # From before a restart, and other sinks still need the files.
        done += [key for key in kept.done if key not in lane.streams and self._is_present(key)]
        states = {}
        for key in places:
            segment, snapshot = lane.streams[key].state()
            if snapshot:
                states[f"{key}-{segment}.state"] = snapshot
        return Standing(places, done, states)

    def _keep_standing(self, sink: Sink, standing: Standing, mark: dict[str, Any]) -> None:
        home = self._home / sink.name
        home.mkdir(mode=0o700, exist_ok=True)
        for name, snapshot in standing.states.items():
            path = home / name
            if not path.exists():
                _write_file(path, snapshot)
        new = Checkpoint(standing.places, standing.done, mark)
        _write_file(home / "checkpoint", msgspec.json.encode(new))
        self._kept[sink.name] = new
        sink.kept(mark)
        wanted = {f"{key}-{place[0]}.state" for key, place in standing.places.items()}
        for path in home.glob("*.state"):
            if path.name not in wanted:
                path.unlink()

    def _delete(self) -> None:
        """Remove what every sink has for good."""
        kept = list(self._kept.values())
        for worker, boot in workers_of(self._journal):
            key = f"w{worker}-{boot}"
            done = all(key in checkpoint.done for checkpoint in kept)
            behind = min((c.places.get(key, (2**63 if key in c.done else -1, 0))[0] for c in kept), default=-1)
            for number, path in segment_paths(self._journal, worker, boot).items():
                if done or number < behind:
                    path.unlink(missing_ok=True)
        for path in spool_files(self._home):
            if all(path.stem in checkpoint.done for checkpoint in kept):
                path.unlink(missing_ok=True)
        for lane in self._lanes:
            for key in [key for key, stream in lane.streams.items() if stream.done and not self._is_present(key)]:
                lane.streams.pop(key).close()

    def _is_present(self, key: str) -> bool:
        return key in {f"w{worker}-{boot}" for worker, boot in workers_of(self._journal)} or any(
            path.stem == key for path in spool_files(self._home)
        )

    def _restore(self) -> list[Lane]:
        lanes: list[Lane] = []
        loaded = {sink.name: self._load(sink.name) for sink in self._sinks}
        # A sink that is new here starts where another one stands: what went before is not in the journal any more. It
        # gets a checkpoint at once, or it would be new again after a restart and lose what it could not take by then.
        other = next((name for name, checkpoint in loaded.items() if checkpoint is not None), None)
        for sink in self._sinks:
            own = loaded[sink.name]
            origin = sink.name if own is not None or other is None else other
            start = own or loaded[origin] or Checkpoint()
            checkpoint = Checkpoint(dict(start.places), list(start.done), start.mark if own is not None else {})
            sink.restore(checkpoint.mark)
            self._kept[sink.name] = checkpoint
            for lane in lanes:
                first = self._kept[lane.sinks[0].name]
                if (first.places, sorted(first.done)) == (checkpoint.places, sorted(checkpoint.done)):
                    lane.sinks.append(sink)
                    break
            else:
                lanes.append(Lane([sink], self._streams(checkpoint, self._home / origin)))
        for lane in lanes:
            for sink in lane.sinks:
                if loaded[sink.name] is None:
                    self._keep(sink, lane, first=True)
        return lanes

    def _load(self, name: str) -> Checkpoint | None:
        try:
            return msgspec.json.decode((self._home / name / "checkpoint").read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as failure:
            # Starting over repeats events, which sinks drop by key; refusing to start would stop the gateway.
            log.error("audit checkpoint is damaged", extra={"fields": {"sink": name, "error": str(failure)}})
            return None

    def _streams(self, checkpoint: Checkpoint, home: Path) -> dict[str, Stream]:
        streams: dict[str, Stream] = {}
        workers = {f"w{worker}-{boot}": (worker, boot) for worker, boot in workers_of(self._journal)}
        spools = {path.stem: path for path in spool_files(self._home)}
        for key, place in checkpoint.places.items():
            if key in spools:
                streams[key] = SpoolStream(spools[key], place[1])
            elif key in workers:
                streams[key] = self._resume(*workers[key], place, home / f"{key}-{place[0]}.state")
        return streams

    def _resume(self, worker: int, boot: int, place: Place, state: Path) -> WorkerStream:
        try:
            return WorkerStream.resume(self._journal, worker, boot, place, state.read_bytes(), self._vault)
        except (FileNotFoundError, msgspec.MsgspecError) as failure:
            log.error("audit snapshot cannot be read", extra={"fields": {"file": state.name, "error": str(failure)}})
            return WorkerStream.resume(self._journal, worker, boot, place, None, self._vault)


def ship_dir(journal_dir: Path) -> Path:
    """Where checkpoints and spools are."""
    return journal_dir.parent / "ship"


def _write_file(path: Path, data: bytes) -> None:
    """Whole or not at all, and there after a power cut."""
    partial = path.with_name(path.name + ".new")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    partial.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
