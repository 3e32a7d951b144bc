"""The metrics that are read off a status whenever somebody scrapes: durable counters, and the spool."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from zoomrelay.admin.health import SinkStatus, SourceStatus, SpoolStatus, Status

SOURCE_OUTCOMES = ("appended", "merged", "quarantined", "unheld")
SINK_OUTCOMES = ("appended", "delivered", "dead", "filtered", "shed", "expired", "abandoned")


class StatusCollector(Collector):
    """Register it in a registry; it keeps nothing."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield _gauge("ready", "1 while `/readyz` answers 200.", float(status.ready))
        yield from _of_sources(status.sources)
        yield from _of_sinks(status.sinks)
        yield from _of_spool(status.spool)


def _of_sources(sources: list[SourceStatus]) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "zoomrelay_source_events",
        "What became of the events of a source, since the spool was made.",
        labels=("source", "outcome"),
    )
    for source in sources:
        for outcome in SOURCE_OUTCOMES:
            events.add_metric((source.name, outcome), getattr(source.counts, outcome))
    yield events
    yield from _of_merging(sources)
    for kind, name, attribute, text in _OF_PATHS:
        family = kind("zoomrelay_path_" + name, text, labels=("source", "subscription"))
        for source in sources:
            for path in source.paths:
                family.add_metric((source.name, path.subscription), float(getattr(path, attribute)))
        yield family


_OF_PATHS: tuple[tuple[type[CounterMetricFamily] | type[GaugeMetricFamily], str, str, str], ...] = (
    (
        CounterMetricFamily,
        "first_events",
        "first",
        "Events that a subscription brought first, since the spool was made.",
    ),
    (
        CounterMetricFamily,
        "merged_events",
        "merged",
        "Copies that a subscription brought of events which came before.",
    ),
    (
        CounterMetricFamily,
        "missed_events",
        "missed",
        "Events that another subscription brought and this one did not, since the start.",
    ),
    (GaugeMetricFamily, "deaf", "deaf", "1 while a subscription is accepted and misses what others bring."),
    (
        GaugeMetricFamily,
        "quiet",
        "quiet",
        "1 while a subscription is accepted and brought nothing for quiet_after_seconds.",
    ),
)
"""Kind, name, attribute of `PathStatus`, help: by subscription."""


def _of_merging(sources: Iterable[SourceStatus]) -> Iterator[Metric]:
    errors = GaugeMetricFamily(
        "zoomrelay_source_conservation_error",
        "Frames of a source that are not accounted for; must be 0.",
        labels=("source",),
    )
    ratios = GaugeMetricFamily(
        "zoomrelay_source_merge_ratio",
        "Share of the latest events that every listening subscription brought.",
        labels=("source",),
    )
    inversions = CounterMetricFamily(
        "zoomrelay_source_inversions",
        "Events that came after one of a later event_ts, where subscriptions are merged.",
        labels=("source",),
    )
    for source in sources:
        errors.add_metric((source.name,), source.conservation_error)
        inversions.add_metric((source.name,), source.inversions)
        if source.merge_ratio is not None:
            ratios.add_metric((source.name,), source.merge_ratio)
    yield from (errors, ratios, inversions)


def _of_sinks(sinks: list[SinkStatus]) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "zoomrelay_sink_events",
        "What became of the events of a sink, since its start.",
        labels=("sink", "outcome"),
    )
    redelivered = CounterMetricFamily(
        "zoomrelay_sink_redelivered", "Dead letters that were redriven and delivered.", labels=("sink",)
    )
    for sink in sinks:
        for outcome in SINK_OUTCOMES:
            events.add_metric((sink.name, outcome), getattr(sink.counts, outcome))
        redelivered.add_metric((sink.name,), sink.counts.redelivered)
    replayed = CounterMetricFamily(
        "zoomrelay_sink_replayed", "Events that were replayed and taken.", labels=("sink",)
    )
    for sink in sinks:
        replayed.add_metric((sink.name,), sink.counts.replayed)
    yield events
    yield redelivered
    yield replayed
    yield _per_sink("sink_pending_events", "Events that wait for a sink.", sinks, _counts("pending"))
    yield _per_sink(
        "sink_parked_events", "Pending events that are set aside until later.", sinks, _counts("parked")
    )
    yield _oldest_pending(sinks)
    yield _per_sink(
        "sink_backlog_seconds",
        "Until a sink has caught up, at the rate of the latest seconds; +Inf while it does not.",
        sinks,
        lambda sink: math.inf if sink.backlog_seconds is None else sink.backlog_seconds,
    )
    yield _per_sink("sink_dead_letters", "Dead letters kept now.", sinks, _counts("dead_letters"))
    yield _per_sink(
        "sink_dead_letters_redriving", "Dead letters on their way again.", sinks, _counts("redriving")
    )
    yield _per_sink(
        "conservation_error",
        "Events of a sink that are not accounted for; must be 0.",
        sinks,
        lambda sink: sink.conservation_error,
    )


def _oldest_pending(sinks: Iterable[SinkStatus]) -> Metric:
    family = GaugeMetricFamily(
        "zoomrelay_sink_oldest_pending_timestamp_seconds",
        "When the oldest event that waits for a sink was received; absent where none waits.",
        labels=("sink",),
    )
    for sink in sinks:
        if sink.counts.oldest_pending_ms is not None:
            family.add_metric((sink.name,), sink.counts.oldest_pending_ms / 1000)
    return family


def _of_spool(spool: SpoolStatus) -> Iterator[Metric]:
    full = spool.seconds_until_full
    yield _gauge("spool_events", "Events held.", spool.events)
    yield _gauge("spool_bytes", "Bytes of the events held.", spool.bytes)
    yield _gauge("spool_retained_events", "Of these, kept for replay only.", spool.retained_events)
    yield _gauge("spool_retained_bytes", "Their bytes.", spool.retained_bytes)
    yield _gauge("spool_max_bytes", "The setting spool.max_bytes.", spool.max_bytes)
    yield _gauge("spool_wal_bytes", "Size of the write-ahead log.", spool.wal_bytes)
    yield _gauge("spool_writable", "0 while the spool cannot be written.", float(spool.writable))
    yield _gauge(
        "spool_seconds_until_full",
        "At the growth of the last minutes; +Inf while it does not grow.",
        math.inf if full is None else full,
    )


def _counts(name: str) -> Callable[[SinkStatus], int]:
    def read(sink: SinkStatus) -> int:
        value: int = getattr(sink.counts, name)
        return value

    return read


def _per_sink(
    name: str, text: str, sinks: Iterable[SinkStatus], value: Callable[[SinkStatus], float]
) -> Metric:
    family = GaugeMetricFamily("zoomrelay_" + name, text, labels=("sink",))
    for sink in sinks:
        family.add_metric((sink.name,), value(sink))
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily("zoomrelay_" + name, text, value=value)
