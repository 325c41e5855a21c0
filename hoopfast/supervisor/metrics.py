"""Numbers for Prometheus: the workers' shared counter pages and the supervisor's own counts, read at scrape time.

Nothing is kept here: the pages are the truth, and counts of processes that are gone live on in the pool. The names are
part of the product; docs/operations.md lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from hoopfast import model
from hoopfast.supervisor.processes import Pool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_AT = {name: index for index, name in enumerate(model.COUNTERS)}

# name, help, {label value: counter} or one counter; all of them only rise
_COUNTERS: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("hoopfast_sessions_opened", "Sessions since start.", "", {"": "sessions_total"}),
    ("hoopfast_statements", "Statements by verdict.", "verdict",
     {"allow": "statements_allow", "deny": "statements_deny", "ask": "statements_ask"}),
    ("hoopfast_statement_errors", "Statements that PostgreSQL refused.", "", {"": "statements_error"}),
    ("hoopfast_transactions", "Transactions ended.", "", {"": "transactions"}),
    ("hoopfast_client_bytes", "Bytes exchanged with clients.", "direction",
     {"in": "client_bytes_in", "out": "client_bytes_out"}),
    ("hoopfast_upstream_bytes", "Bytes exchanged with databases.", "direction",
     {"in": "upstream_bytes_in", "out": "upstream_bytes_out"}),
    ("hoopfast_rows", "Rows sent to clients.", "", {"": "rows"}),
    ("hoopfast_masked_rows", "Rows with at least one masked value.", "", {"": "masked_rows"}),
    ("hoopfast_masked_cells", "Values replaced by their masks.", "", {"": "masked_cells"}),
    ("hoopfast_scrubbed", "Errors and notices replaced because they could hold masked values.", "", {"": "scrubbed"}),
    ("hoopfast_contradictions", "Sessions ended: a result contradicted its verdict.", "", {"": "contradictions"}),
    ("hoopfast_verdict_cache", "Look-ups of cached verdicts; template: a hit by a text with other constants.",
     "result", {"hit": "cache_hits", "template": "template_hits", "miss": "cache_misses"}),
    ("hoopfast_cancels", "Cancel requests.", "", {"": "cancels"}),
    ("hoopfast_journal_records", "Records written to the journal.", "", {"": "journal_records"}),
    ("hoopfast_journal_bytes", "Bytes written to the journal.", "", {"": "journal_bytes"}),
    ("hoopfast_journal_stalls", "Times a session waited for room in the journal.", "", {"": "journal_stalls"}),
)

Numbers = Callable[[], Mapping[str, Any]]


class GatewayCollector(Collector):
    """`numbers()` gives the supervisor's part at scrape time, see supervisor/main.py:

    sessions_by_connection, auth_failures, approvals_waiting, worker_restarts, policy_version, reload_failures,
    webhook_failures, journal_backlog_bytes, shipping_lag_seconds, sinks (audit.lanes.SinkLag by name),
    key_age_seconds (by issuer).
    """

    def __init__(self, pool: Pool, numbers: Numbers) -> None:
        self._pool = pool
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        pages = [worker.counters.read() for worker in self._pool.workers.values()]
        total = list(self._pool.retired)
        for page in pages:
            total = [a + b for a, b in zip(total, page, strict=True)]
        for name, help_text, label, counters in _COUNTERS:
            family = CounterMetricFamily(name, help_text, labels=[label] if label else [])
            for value, counter in counters.items():
                family.add_metric([value] if label else [], total[_AT[counter]])
            yield family
        yield _histogram(total)
        parked = sum(page[_AT["parked"]] for page in pages)
        yield GaugeMetricFamily("hoopfast_sessions_parked", "Sessions that wait for a verdict.", value=parked)
        yield from _held(pages)
        yield from self._own()

    def _own(self) -> Iterator[Metric]:
        n = self._numbers()
        sessions = GaugeMetricFamily("hoopfast_sessions", "Open sessions.", labels=["connection"])
        for connection, count in n["sessions_by_connection"].items():
            sessions.add_metric([connection], count)
        yield sessions
        failures = CounterMetricFamily("hoopfast_auth_failures", "Refused logins by true reason.", labels=["reason"])
        for reason, count in n["auth_failures"].items():
            failures.add_metric([reason], count)
        yield failures
        yield CounterMetricFamily("hoopfast_worker_restarts", "Workers that died.", value=n["worker_restarts"])
        yield CounterMetricFamily("hoopfast_reload_failures", "Reloads refused.", value=n["reload_failures"])
        yield CounterMetricFamily("hoopfast_webhook_failures", "Announcements lost.", value=n["webhook_failures"])
        workers = len([worker for worker in self._pool.workers.values() if worker.ready])
        for name, help_text, value in (
            ("hoopfast_workers", "Workers that take clients.", workers),
            ("hoopfast_approvals_waiting", "Statements that wait for an approver.", n["approvals_waiting"]),
            ("hoopfast_policy_version", "Version of the policy in force.", n["policy_version"]),
            ("hoopfast_journal_depth_bytes", "Journal that is not shipped yet.", n["journal_backlog_bytes"]),
            ("hoopfast_shipping_lag_seconds", "Age of the oldest record not shipped yet.", n["shipping_lag_seconds"]),
        ):
            yield GaugeMetricFamily(name, help_text, value=value)
        yield from _sinks(n["sinks"])
        ages = GaugeMetricFamily("hoopfast_key_age_seconds", "Age of an issuer's signing keys.", labels=["issuer"])
        for issuer, age in n["key_age_seconds"].items():
            ages.add_metric([issuer], age)
        yield ages


# name, help, attribute of audit.lanes.SinkLag
_SINKS = (
    (GaugeMetricFamily, "hoopfast_sink_lag_seconds", "Since a sink last had everything.", "seconds"),
    (GaugeMetricFamily, "hoopfast_sink_lag_bytes", "Journal that a sink has not read yet, at most.", "bytes"),
    (GaugeMetricFamily, "hoopfast_sink_dead_letters", "Events that a sink's destination refused, and that are kept.",
     "dead"),
    (CounterMetricFamily, "hoopfast_sink_events", "Events delivered.", "events"),
    (CounterMetricFamily, "hoopfast_sink_failures", "Deliveries that failed, and were tried again.", "errors"),
    (CounterMetricFamily, "hoopfast_sink_skips", "Times that a sink was moved on, and misses events.", "skipped"),
)


def _sinks(sinks: Mapping[str, Any]) -> Iterator[Metric]:
    for kind, name, help_text, attribute in _SINKS:
        family = kind(name, help_text, labels=["sink"])
        for sink, lag in sinks.items():
            family.add_metric([sink], getattr(lag, attribute))
        yield family


def render(registry: CollectorRegistry) -> bytes:
    """The text exposition format."""
    return generate_latest(registry)


def registry_of(pool: Pool, numbers: Numbers) -> CollectorRegistry:
    """A registry of its own: the process-wide one belongs to whoever imports us."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(GatewayCollector(pool, numbers))
    return registry


def _held(pages: list[list[int]]) -> Iterator[Metric]:
    """What the relays hold at this moment: memory that follows the sessions, and the verdict cache."""

    def held(counter: str) -> int:
        return sum(page[_AT[counter]] for page in pages)

    memory = GaugeMetricFamily("hoopfast_relay_bytes", "Memory of the relays that follows traffic.", labels=["of"])
    memory.add_metric(["buffers"], held("buffer_bytes"))
    memory.add_metric(["arenas"], held("arena_bytes"))
    yield memory
    objects = GaugeMetricFamily("hoopfast_relay_objects", "What the relays remember of sessions.", labels=["kind"])
    # A gauge of one worker may be a moment older than the other: never below zero.
    objects.add_metric(["statements"], max(0, held("held_statements") - held("cached_statements")))
    objects.add_metric(["names"], held("held_names"))
    objects.add_metric(["row_plans"], held("held_plans"))
    yield objects
    cached = held("cached_statements")
    yield GaugeMetricFamily("hoopfast_cached_verdicts", "Statements with their verdicts.", value=cached)


def _histogram(total: list[int]) -> Metric:
    """Bucket k of the page counts statements under 2**k microseconds (each once); Prometheus wants them cumulative."""
    buckets = []
    seen = 0
    for k in range(model.HISTOGRAM_BUCKETS):
        seen += total[model.HISTOGRAM_OFFSET + k]
        bound = "+Inf" if k == model.HISTOGRAM_BUCKETS - 1 else repr(2**k / 1e6)
        buckets.append((bound, seen))
    family = HistogramMetricFamily("hoopfast_statement_duration_seconds", "From arrival to the end of the answer.")
    family.add_metric([], buckets, total[model.HISTOGRAM_SUM] / 1e6)
    return family
