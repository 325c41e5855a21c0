"""What the shipper asks of a sink, and how the configured ones are made."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hoopfast import secrets
from hoopfast.audit.builder import Item
from hoopfast.audit.events import Statement
from hoopfast.audit.keys import DIRECTORY, KeyRing
from hoopfast.audit.outlet import DeadLetters, Outlet, Patient
from hoopfast.config import Config
from hoopfast.config_sinks import Sink as SinkConfig
from hoopfast.config_sinks import keep_days, named

if TYPE_CHECKING:
    from hoopfast.audit.sinks.http import Dialect


class Sink(Protocol):
    """Called by one thread at a time. Any exception of `write` and `sync` means: not done, try again later.

    After a crash the shipper sends again what it sent since the last `sync`; a sink drops or overwrites repetitions,
    by (session, seq) or by going back to the mark.
    """

    name: str                           # a file name; the checkpoint is kept under it

    def restore(self, mark: dict[str, Any]) -> None:
        """Once, before the first write: go back to what `sync` returned last; {} when there is no such thing."""

    def write(self, events: Sequence[Item]) -> None:
        """Take all of them, or raise and take none. builder.as_event makes structs of those that are none."""

    def sync(self) -> dict[str, Any]:
        """Everything written survives a power cut when this returns; the mark is kept for `restore`."""

    def kept(self, mark: dict[str, Any]) -> None:
        """The mark of the last `sync` is on disk: nothing before it will be sent again. Said about once a second."""

    def running(self, events: Sequence[Statement]) -> None:
        """The statements that run now, and only those: a view for people, not part of the trail. May do nothing."""

    def close(self) -> None:
        """Free what it holds; no more writes."""


def make_sinks(config: Config, state_dir: str | Path) -> list[Sink]:
    """The sinks of the configuration, in its order. Raises OSError or GatewayError when one cannot be opened.

    What is elsewhere is not asked: it may be away when the gateway starts.
    """
    root = Path(state_dir)
    keys = KeyRing(root / DIRECTORY)
    second = root / config.audit.checkpoints if config.audit.checkpoints else None
    return [_make(name, sink, root, keys, second) for name, sink in named(config.audit.sinks)]


def _make(name: str, sink: SinkConfig, root: Path, keys: KeyRing, second: Path | None) -> Sink:
    # Imported late: each brings a library of its own.
    if sink.kind == "sqlite":
        from hoopfast.audit.sinks.sqlite import SqliteSink  # noqa: PLC0415

        return SqliteSink(root / (sink.path or "audit.db"), name=name, keys=keys, checkpoints=second)
    if sink.kind == "jsonl":
        from hoopfast.audit.sinks.jsonl import JsonlSink  # noqa: PLC0415

        return JsonlSink(root / (sink.path or "audit"), name=name, keys=keys, checkpoints=second)
    letters = DeadLetters(letters_dir(root, name), name)
    return Outlet(_elsewhere(name, sink, keys, letters, second), required=sink.is_required, letters=letters)


def _elsewhere(name: str, sink: SinkConfig, keys: KeyRing, letters: DeadLetters, second: Path | None) -> Patient:
    if sink.kind in {"splunk", "elastic", "otlp"}:
        from hoopfast.audit.sinks.http import HttpSink  # noqa: PLC0415

        return HttpSink(name, _dialect(sink), letters, ca=sink.ca)
    if sink.kind == "s3":
        from hoopfast.audit.sinks.s3 import S3Sink  # noqa: PLC0415

        return S3Sink(name, sink, keys, access_key=secrets.resolve(sink.access_key),
                      secret_key=secrets.resolve(sink.secret_key))
    if sink.kind == "kafka":
        from hoopfast.audit.sinks.kafka import KafkaSink  # noqa: PLC0415

        return KafkaSink(name, sink, letters, password=secrets.resolve(sink.password))
    from hoopfast.audit.sinks.postgres import PostgresSink  # noqa: PLC0415

    return PostgresSink(secrets.resolve(sink.dsn), name=name, keys=keys, checkpoints=second, letters=letters,
                        keep_days=keep_days(sink.keep), unit=sink.partition)


def _dialect(sink: SinkConfig) -> Dialect:
    from hoopfast.audit.sinks import http_dialects as dialects  # noqa: PLC0415

    gateway, token = socket.gethostname(), secrets.resolve(sink.token)
    if sink.kind == "splunk":
        return dialects.Splunk(sink.url, token, index=sink.index, gateway=gateway)
    if sink.kind == "otlp":
        return dialects.Otlp(sink.url, gateway=gateway, token=token)
    auth = (sink.username, secrets.resolve(sink.password)) if sink.username else None
    return dialects.Elastic(sink.url, sink.index, gateway=gateway, api_key=token, auth=auth)


def letters_dir(state_dir: Path, sink: str) -> Path:
    """Where the dead letters of a sink are."""
    return state_dir / "ship" / sink
