"""Events as messages of a Kafka topic: the session is the key, so what a session did stays in order.

At least once: a producer that is idempotent does not repeat by itself, but what was not marked before a crash comes
again. Whoever reads recognises it by the header `hoopfast-id`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any

import confluent_kafka

from hoopfast.audit.builder import Item, as_batch, as_event
from hoopfast.audit.events import Statement
from hoopfast.audit.outlet import DeadLetters
from hoopfast.config_sinks import Sink
from hoopfast.errors import AuditUnavailable

DELIVERY_S = 30
_REFUSED = {
    confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE, confluent_kafka.KafkaError.INVALID_MSG,
    confluent_kafka.KafkaError.INVALID_RECORD,
}


class KafkaSink:
    """See outlet.Patient. `extra`: settings of librdkafka, for tests."""

    def __init__(
        self, name: str, sink: Sink, letters: DeadLetters, *, password: str = "", extra: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._topic = sink.topic
        self._letters = letters
        self._gateway = socket.gethostname()
        self._settings: dict[str, Any] = {
            "bootstrap.servers": ",".join(sink.brokers), "client.id": "hoopfast", "enable.idempotence": True,
            "acks": "all", "compression.type": "zstd", "linger.ms": 20, "delivery.timeout.ms": DELIVERY_S * 1000,
            "message.max.bytes": 16 << 20, "queue.buffering.max.kbytes": 256 << 10, "log_level": 0,
            "security.protocol": ("sasl_" if sink.username else "") + ("ssl" if sink.tls else "plaintext"),
        }
        if sink.username:
            self._settings |= {
                "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": sink.username, "sasl.password": password}
        if sink.ca:
            self._settings["ssl.ca.location"] = sink.ca
        self._settings |= extra or {}
        self._producer: confluent_kafka.Producer | None = None
        self._batch: Sequence[Item] | None = None
        self._left: list[tuple[bytes, bytes, bytes]] = []       # key, id, event
        self._why = ""

    def restore(self, mark: dict[str, Any]) -> None:
        """What was not marked comes again."""

    def write(self, events: Sequence[Item]) -> None:
        if events is not self._batch:
            batch = as_batch(events)
            lines = b"".join(batch.lines()).split(b"\n")
            self._left = [
                (event.session.encode(), f"{self._gateway}/{event.session}/{event.seq}".encode(), line)
                for event, line in zip(map(as_event, batch), lines[:-1], strict=True)]
            self._batch = events
        sent, self._left, self._why = self._left, [], ""
        failed: dict[int, str] = {}
        for i, (key, name, line) in enumerate(sent):
            self._produce(i, key, name, line, failed)
        deadline = time.monotonic() + DELIVERY_S + 5
        while self._open().flush(1.0) and time.monotonic() < deadline:
            pass
        # Left over: failed for now, or without any answer.
        self._left = [sent[i] for i in sorted(failed)]
        if left := len(self._open()):
            self._producer = None                   # its queue would be sent beside the repetition
            self._left = sent
            raise AuditUnavailable(f"Kafka has not taken {left} events within {DELIVERY_S} s")
        if self._left:
            raise AuditUnavailable(f"Kafka: {self._why or next(iter(failed.values()))}")
        self._batch = None

    def _open(self) -> confluent_kafka.Producer:
        if self._producer is None:
            self._producer = confluent_kafka.Producer(self._settings)
        return self._producer

    def _produce(self, i: int, key: bytes, name: bytes, line: bytes, failed: dict[int, str]) -> None:
        def told(error: Any, _: Any) -> None:
            if error is None:
                failed.pop(i, None)
            elif error.code() in _REFUSED:
                failed.pop(i, None)
                self._letters.add([line], error.str())
            else:
                failed[i] = self._why = error.str()

        producer = self._open()
        failed[i] = "no answer"
        while True:
            try:
                producer.produce(
                    self._topic, value=line, key=key, headers=[("hoopfast-id", name)], on_delivery=told)
            except BufferError:
                producer.poll(0.1)
                continue
            except confluent_kafka.KafkaException as failure:
                told(failure.args[0], None)
            return

    def sync(self) -> dict[str, Any]:
        return {}

    def kept(self, mark: dict[str, Any]) -> None:
        """`write` has waited for every answer."""

    def running(self, events: Sequence[Statement]) -> None:
        """Messages cannot be taken back, so statements are sent when they have ended."""

    def close(self) -> None:
        if self._producer is not None:
            self._producer.flush(1.0)
