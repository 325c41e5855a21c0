"""Messages in Kafka: with the brokers that librdkafka has for tests, or real ones (HOOPFAST_TEST_KAFKA=host:port)."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest

from hoopfast.audit.builder import as_batch
from hoopfast.audit.events import encode
from hoopfast.audit.outlet import DeadLetters, letter_files, read_letters
from hoopfast.audit.sinks import kafka
from hoopfast.audit.sinks.kafka import KafkaSink
from hoopfast.config_sinks import Sink
from hoopfast.errors import AuditUnavailable
from tests.audit.test_search import EVENTS, A, B, statement

pytestmark = pytest.mark.server


class Cluster:
    """Brokers, and what is in a topic of theirs."""

    def __init__(self) -> None:
        self.brokers = os.environ.get("HOOPFAST_TEST_KAFKA", "")
        self._holder: confluent_kafka.Producer | None = None
        if not self.brokers:
            # The cluster lives within this client, and listens on loopback like any other.
            self._holder = confluent_kafka.Producer({"test.mock.num.brokers": 2, "log_level": 0})
            found = self._holder.list_topics(timeout=10).brokers.values()
            self.brokers = ",".join(f"{broker.host}:{broker.port}" for broker in found)

    def messages(self, topic: str, count: int) -> list[tuple[bytes, bytes, bytes]]:
        """(key, id, event) of as many, in order of partitions."""
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.brokers, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest",
            "log_level": 0})
        parts = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([confluent_kafka.TopicPartition(topic, part, 0) for part in parts])
        found = []
        for _ in range(200):
            message = consumer.poll(0.1)
            if message is not None and not message.error():
                found.append((message.key(), dict(message.headers())["hoopfast-id"], message.value()))
            elif len(found) >= count:
                break
        consumer.close()
        return found


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def topic() -> str:
    return f"audit-{uuid.uuid4().hex[:8]}"


def sink_of(cluster: Cluster, topic: str, root: Path, **extra: Any) -> KafkaSink:
    configured = Sink(kind="kafka", brokers=tuple(cluster.brokers.split(",")), topic=topic, tls=False)
    return KafkaSink("kafka", configured, DeadLetters(root, "kafka"), extra=extra)


def test_events_arrive_in_the_order_of_their_sessions(cluster: Cluster, topic: str, tmp_path: Path) -> None:
    sink = sink_of(cluster, topic, tmp_path)
    more = [statement(session, 100 + n, f"SELECT {n}") for n in range(50) for session in (A, B)]
    sink.write(as_batch(EVENTS))
    sink.write(as_batch(more))
    sink.close()
    found = cluster.messages(topic, len(EVENTS) + len(more))
    assert sorted(line for _, _, line in found) == sorted(encode(event) for event in (*EVENTS, *more))
    for session in (A, B):
        own = [orjson.loads(line)["seq"] for key, _, line in found if key == session.encode()]
        assert own == sorted(own)
    assert all(name.decode().endswith(f"/{orjson.loads(line)['seq']}") for _, name, line in found)
    assert letter_files(tmp_path) == []


def test_an_event_that_is_too_large_is_a_dead_letter(cluster: Cluster, topic: str, tmp_path: Path) -> None:
    sink = sink_of(cluster, topic, tmp_path, **{"message.max.bytes": 20_000, "compression.type": "none"})
    large = statement(A, 9, "x" * 50_000)
    sink.write(as_batch([*EVENTS, large]))
    sink.close()
    assert len(cluster.messages(topic, len(EVENTS))) == len(EVENTS)
    letters = [bytes(letter.event) for path in letter_files(tmp_path) for letter in read_letters(path)]
    assert letters == [encode(large)]


def test_brokers_that_are_away_are_waited_for(
    cluster: Cluster, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka, "DELIVERY_S", 1)
    sink = sink_of(cluster, topic, tmp_path, **{"bootstrap.servers": "127.0.0.1:9"})
    batch = as_batch(EVENTS)
    with pytest.raises(AuditUnavailable, match="Kafka"):
        sink.write(batch)
    sink._producer = None
    sink._settings["bootstrap.servers"] = cluster.brokers
    monkeypatch.setattr(kafka, "DELIVERY_S", 30)
    sink._settings["delivery.timeout.ms"] = 30_000
    sink.write(batch)
    sink.close()
    assert len(cluster.messages(topic, len(EVENTS))) == len(EVENTS)
