"""What a configuration asks for, built."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from zoomrelay.clock import Clock
from zoomrelay.config.models import Config, HttpSinkConfig, PrivacyConfig, SinkConfig
from zoomrelay.delivery.batching import Batching
from zoomrelay.delivery.deadlines import Deadlines
from zoomrelay.delivery.lane_worker import LaneWorker
from zoomrelay.delivery.router import Route
from zoomrelay.delivery.shielded import ShieldedSpool
from zoomrelay.delivery.stream_worker import StreamWorker
from zoomrelay.delivery.worker import Worker
from zoomrelay.privacy.shield import Shield, Treatment
from zoomrelay.sinks import registry
from zoomrelay.spool.base import Reading, SinkStart, Spool, Urgency
from zoomrelay.spool.eviction import OnShed
from zoomrelay.spool.memory import MemorySpool
from zoomrelay.spool.sqlite import SqliteSpool
from zoomrelay.spool.sqlite_store import OnSetAside
from zoomrelay.telemetry.metrics import Metrics


def build_spool(
    config: Config,
    clock: Clock,
    on_shed: OnShed = lambda _sink, _count: None,
    on_set_aside: OnSetAside = lambda _count: None,
    reclaim: Callable[[], None] = lambda: None,
) -> Spool:
    """The spool of this configuration, not opened; the caller holds the state directory's lock, and
    `reclaim` takes it anew where the directory has vanished."""
    limit = config.spool.max_bytes
    if config.spool.type == "memory":
        return MemorySpool(max_bytes=limit, clock=clock, on_shed=on_shed)
    return SqliteSpool(
        config.state_dir,
        max_bytes=limit,
        clock=clock,
        on_shed=on_shed,
        on_set_aside=on_set_aside,
        reclaim=reclaim,
        retain_seconds=config.spool.retain_seconds,
    )


def sink_starts(config: Config) -> list[SinkStart]:
    """The sinks of this configuration, as the spool must know them."""
    return [
        SinkStart(sink.name, sink.start, route(sink).wants, _urgency(sink)) for sink in config.sinks.values()
    ]


def _urgency(sink: SinkConfig) -> Urgency | None:
    """Which events overtake a backlog; in strict order none do."""
    if not isinstance(sink, HttpSinkConfig) or sink.ordering == "strict":
        return None
    deadlines = Deadlines(sink.deadline_seconds)
    return Urgency(deadlines.seconds, deadlines.longest_seconds) if deadlines else None


def route(sink: SinkConfig) -> Route:
    """Which events this sink is to get."""
    return Route(sink.events, sink.sources, gap_events=sink.gap_events)


def build_worker(
    config: SinkConfig, privacy: PrivacyConfig, spool: Spool, clock: Clock, random: Random, metrics: Metrics
) -> Worker:
    """A sink, not opened, and its worker."""
    sink, reading = registry.build(config, clock), _reading(config, privacy, spool)
    if isinstance(config, HttpSinkConfig):
        return LaneWorker(
            sink,
            route(config),
            reading,
            random,
            metrics,
            ordering=config.ordering,
            give_up_after_seconds=config.give_up_after_seconds,
            batching=Batching(config.batch_events, config.batch_bytes, config.batch_seconds),
            max_rate=config.max_rate,
            deadlines=Deadlines(config.deadline_seconds),
            clock=clock,
        )
    return StreamWorker(sink, route(config), reading, random, metrics)


def _reading(sink: SinkConfig, privacy: PrivacyConfig, spool: Spool) -> Reading:
    if sink.privacy == "off":
        return spool
    key = privacy.key.get_secret_value().encode() if privacy.key else b""
    return ShieldedSpool(spool, Shield(Treatment(sink.privacy), key, privacy.kinds()))
