"""The part of the configuration that says where events of the audit trail go, and what is wrong with it.

Used by hoopfast.config, and by whoever makes sinks of it (audit.sinks.base).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from hoopfast import checks, document, units

# kind -> keys that it needs, keys that it may have; besides `kind`, `name` and `required`
_KEYS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "sqlite": ((), ("path",)),
    "jsonl": ((), ("path",)),
    "postgres": (("dsn",), ("keep", "partition")),
    "splunk": (("url", "token"), ("index", "ca")),
    "elastic": (("url", "index"), ("token", "username", "password", "ca")),
    "otlp": (("url",), ("token", "ca")),
    "s3": (("bucket",), ("url", "region", "prefix", "access_key", "secret_key", "lock", "keep", "ca")),
    "kafka": (("brokers", "topic"), ("tls", "ca", "username", "password")),
}
REFERENCES: Final = ("dsn", "token", "password", "access_key", "secret_key")
STORES: Final = ("sqlite", "postgres")          # that can be asked questions
# A sink outside of the gateway's reach may be late; what holds the trail may not.
REQUIRED: Final = ("sqlite", "jsonl", "postgres")
# kind -> (module, extra) of what is not in the base installation
EXTRAS: Final = {"s3": ("minio", "s3"), "kafka": ("confluent_kafka", "kafka")}
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


class Sink(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    kind: Literal["sqlite", "jsonl", "postgres", "splunk", "elastic", "otlp", "s3", "kafka"]
    name: str = ""                      # in metrics, and of its checkpoint; default: the kind, with a number if needed
    required: bool | None = None        # whether the gateway waits for it; default by kind
    path: str = ""                      # sqlite, jsonl: relative to state_dir; default by kind
    dsn: str = ""                       # postgres: reference to a connection string
    keep: str = ""                      # postgres, s3: how long events stay, like 90d; default for ever
    partition: Literal["day", "month"] = "day"
    url: str = ""                       # splunk, elastic, otlp: where to; s3: another service than Amazon's
    token: str = ""                     # reference
    index: str = ""                     # splunk, elastic
    username: str = ""
    password: str = ""                  # reference
    ca: str = ""                        # PEM; default: those of the system
    bucket: str = ""
    prefix: str = ""
    region: str = ""
    access_key: str = ""                # reference
    secret_key: str = ""                # reference
    lock: Literal["", "governance", "compliance"] = ""      # s3: no object can be removed before `keep` is over
    brokers: tuple[str, ...] = ()       # kafka: host:port
    topic: str = ""
    tls: bool = True                    # kafka

    @property
    def is_required(self) -> bool:
        return self.required if self.required is not None else self.kind in REQUIRED


def named(sinks: tuple[Sink, ...]) -> list[tuple[str, Sink]]:
    """(name, sink) in order; who has no name is called after its kind."""
    found: list[tuple[str, Sink]] = []
    for sink in sinks:
        same = sum(1 for _, made in found if made.kind == sink.kind)
        found.append((sink.name or (f"{sink.kind}-{same + 1}" if same else sink.kind), sink))
    return found


def keep_days(text: str) -> int:
    """"90d" -> 90, "" -> 0: for ever. Raises ValueError."""
    if not text:
        return 0
    days = units.duration_s(text) / 86_400
    if days < 1 or days != int(days):
        raise ValueError(f"{text!r} must be whole days, like 90d")
    return int(days)


def references(sinks: tuple[Sink, ...], path: str) -> Iterator[tuple[str, str]]:
    """(path, reference) of every secret."""
    for i, sink in enumerate(sinks):
        for key in REFERENCES:
            if text := getattr(sink, key):
                yield f"{path}[{i}].{key}", text


def check(sink: Sink, path: str, report: document.Report) -> None:
    """One sink by itself."""
    if sink.kind not in _KEYS:
        return
    needed, allowed = _KEYS[sink.kind]
    usual = Sink(kind=sink.kind)
    for key in Sink.__struct_fields__[3:]:
        given = getattr(sink, key) != getattr(usual, key)
        if given and key not in needed + allowed:
            report.add(f"{path}.{key}", f"is not used by a sink of kind {sink.kind}")
        elif not given and key in needed and not report.touches(f"{path}.{key}"):
            report.add(f"{path}.{key}", f"is required by a sink of kind {sink.kind}", parent=path)
    if not set(sink.name) <= _NAME:
        report.add(f"{path}.name", "may have small letters, digits, - and _")
    for key in REFERENCES:
        if text := getattr(sink, key):
            checks.check_reference(text, f"{path}.{key}", report)
    if sink.url:
        checks.check_url(sink.url, f"{path}.url", report)
    _check_rules(sink, path, report)


def _check_rules(sink: Sink, path: str, report: document.Report) -> None:
    try:
        keep_days(sink.keep)
    except ValueError as failure:
        report.add(f"{path}.keep", str(failure))
    if bool(sink.username) != bool(sink.password):
        report.add(path, "`username` and `password` are only useful together")
    if bool(sink.access_key) != bool(sink.secret_key):
        report.add(path, "`access_key` and `secret_key` are only useful together")
    if sink.kind == "elastic" and sink.token and sink.username:
        report.add(f"{path}.token", "is an API key; use either it or `username` and `password`")
    if sink.lock and not sink.keep:
        report.add(f"{path}.lock", "needs `keep` beside it: until when objects are locked")
    for broker in sink.brokers:
        host, colon, port = broker.rpartition(":")
        if not host or not colon or not port.isdigit():
            report.add(f"{path}.brokers", f"{broker!r} must be host:port")
        elif not sink.tls and not units.is_loopback(host):
            report.add(f"{path}.tls", "events would cross the network in the clear")
    module, extra = EXTRAS.get(sink.kind, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        report.add(f"{path}.kind", f"{sink.kind} needs a library that is missing: pip install 'hoopfast[{extra}]'")


def check_all(sinks: tuple[Sink, ...], path: str, report: document.Report) -> None:
    """All of them together."""
    if not sinks:
        if not report.touches(path):
            report.add(path, "is empty: what happens would be kept nowhere")
        return
    if not any(sink.is_required for sink in sinks):
        report.add(path, "none of them is `required`: what none of them can take would be lost")
    places = [(s.kind, s.path, s.dsn, s.url, s.index, s.bucket, s.prefix, s.brokers, s.topic) for s in sinks]
    if len(set(places)) < len(places):
        report.add(path, "two sinks of one kind write to the same path")
    names = [name for name, _ in named(sinks)]
    if len(set(names)) < len(names):
        report.add(path, "two sinks have the same name")


def resolved(sink: Sink, base: str) -> Sink:
    """The same with absolute paths of files that are named; `path` counts from the state directory."""
    changed = {
        key: f"file:{base}/{text.removeprefix('file:').strip()}" for key in REFERENCES
        if (text := getattr(sink, key)).startswith("file:") and not text.removeprefix("file:").strip().startswith("/")}
    if sink.ca and not sink.ca.startswith("/"):
        changed["ca"] = f"{base}/{sink.ca}"
    return msgspec.structs.replace(sink, **changed)
