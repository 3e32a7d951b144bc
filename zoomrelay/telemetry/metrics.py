"""Every metric that zoomrelay exports. docs/metrics.md lists the same names; a test holds the two together.

The registry is passed in; nothing is registered at import. Labels are bounded by the configuration
(sources, subscriptions, sinks) or by a closed set of words. Nothing here is touched per event: callers
count in plain integers and add them up per batch or per second.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from zoomrelay import __version__
from zoomrelay.clock import Clock, SystemClock
from zoomrelay.telemetry.histogram import BatchHistogram
from zoomrelay.telemetry.lags import Commits

_LAG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_WAIT = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600, 6 * 3600, 24 * 3600)
_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


class Metrics:
    """One instance per process; attributes are the metrics."""

    def __init__(self, registry: CollectorRegistry, clock: Clock | None = None) -> None:
        self.registry = registry
        self.commits = Commits(clock or SystemClock())
        """When events became durable, for whoever delivers them."""
        # Otherwise every series has a second one that says when it began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter("zoomrelay_" + name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge("zoomrelay_" + name, text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram("zoomrelay_" + name, text, labels, registry=registry, buckets=_LATENCY)

        def of_batches(name: str, text: str, label: str, bounds: Sequence[float]) -> BatchHistogram:
            histogram = BatchHistogram("zoomrelay_" + name, text, label, bounds)
            registry.register(histogram)
            return histogram

        path = ("source", "subscription")
        self.build_info = gauge("build_info", "Always 1; the labels say what runs.", "version", "python")
        self.build_info.labels(__version__, platform.python_version()).set(1)

        # auth
        self.token_requests = counter(
            "token_requests", "Token requests by result (issued, refused, unavailable).", "source", "result"
        )
        self.token_expires = gauge(
            "token_expires_timestamp_seconds", "When the current token ends.", "source"
        )
        self.token_usable = gauge("token_usable", "1 while a token with life left is at hand.", "source")
        self.token_refused = gauge(
            "token_refused", "1 while Zoom refuses the credentials for this reason.", "source", "reason"
        )
        self.refresh_token_expires = gauge(
            "refresh_token_expires_timestamp_seconds", "When the refresh token ends.", "source"
        )

        # session
        self.session_accepted = gauge(
            "session_accepted", "1 while Zoom has accepted the socket of this subscription.", *path
        )
        self.session_attempts = counter("session_attempts", "Attempts to connect by result.", *path, "result")
        self.session_closes = counter("session_closes", "Ends of sockets by cause.", *path, "cause")
        self.path_displaced = counter(
            "path_displaced", "Times that another consumer took the subscription from us.", *path
        )
        self.path_contested = gauge(
            "path_contested", "1 while another consumer seems to use the subscription.", *path
        )
        self.frames = counter("frames", "Frames received by kind.", *path, "kind")
        self.heartbeat_round_trip = gauge(
            "heartbeat_round_trip_seconds", "Time from the last heartbeat to its reply.", *path
        )
        self.last_frame = gauge(
            "last_frame_timestamp_seconds", "When the last frame of any kind came.", *path
        )
        self.last_event = gauge("last_event_timestamp_seconds", "When the last event came.", *path)
        self.signatures = counter(
            "signatures", "Checked signatures by result (valid, invalid, missing).", "source", "result"
        )

        # webhook
        self.webhook_requests = counter(
            "webhook_requests", "Requests to a webhook by what became of them.", "source", "result"
        )
        # the event loop
        self.loop_stalls = counter("loop_stalls", "Times that the event loop stood still for over a second.")
        self.loop_stall_seconds = counter("loop_stall_seconds", "For how long it did, together.")

        # intake
        self.event_lag = of_batches(
            "event_lag_seconds", "From an event's event_ts to its receipt.", "source", _LAG
        )
        self.event_ts_odd = counter(
            "event_ts_odd", "Events whose event_ts is missing, ahead or implausible.", "source", "reason"
        )
        self.intake_events = gauge("intake_events", "Events received and not yet durable.")
        self.intake_bytes = gauge("intake_bytes", "Bytes of events received and not yet durable.")
        self.intake_paused = counter("intake_paused_seconds", "Time for which reading was paused.")
        self.takeovers = counter(
            "takeovers", "Takeovers: done by this process, or begun by another and cancelled.", "result"
        )
        self.merge_identities = gauge(
            "merge_identities", "Identities remembered, of events of sources with several subscriptions."
        )
        self.merge_window = gauge(
            "merge_window_seconds",
            "How far back the identities reach: copies that come later are not merged.",
        )
        self.received_to_durable = histogram(
            "received_to_durable_seconds", "From receipt of the oldest event of a commit to its durability."
        )
        self.gaps = counter("gaps", "Entries of the ledger that have ended, by cause.", "source", "cause")
        self.gap_seconds = counter("gap_seconds", "Their length, by cause.", "source", "cause")
        self.gap_loss_seconds = counter(
            "gap_loss_seconds", "The same, but for those without loss.", "source", "cause"
        )

        self.gap_healed_events = counter(
            "gap_healed_events", "Events of gaps of a subscription that came by webhook.", *path
        )
        # admin
        self.pings = counter("pings", "Calls of admin.ping_url by result (sent, failed).", "result")

        # delivery
        self.sink_attempts = counter("sink_attempts", "Calls of a sink by result.", "sink", "result")
        self.sink_healthy = gauge("sink_healthy", "0 while a sink fails.", "sink")
        self.durable_to_delivered = of_batches(
            "durable_to_delivered_seconds", "From an event's commit to a sink's taking it.", "sink", _WAIT
        )
        self.sink_send_seconds = histogram("sink_send_seconds", "Time that one call of a sink took.", "sink")

    def forget_sink(self, sink: str) -> None:
        """Export nothing more about a sink that is gone from the configuration."""
        for result in ("sent", "failed", "rejected"):
            self.sink_attempts.remove(sink, result)
        self.sink_healthy.remove(sink)
        self.sink_send_seconds.remove(sink)
        self.durable_to_delivered.remove(sink)

    def forget_path(self, source: str, subscription: str) -> None:
        """Export nothing more about a subscription that is gone from the configuration."""
        path = {"source": source, "subscription": subscription}
        for metric in (self.session_accepted, self.session_attempts, self.session_closes, self.frames):
            metric.remove_by_labels(path)
        for metric in (self.path_displaced, self.path_contested, self.heartbeat_round_trip):
            metric.remove_by_labels(path)
        for metric in (self.last_frame, self.last_event):
            metric.remove_by_labels(path)

    def forget_tokens(self, source: str) -> None:
        """Export nothing more about the tokens of a source that is another app now, or gone."""
        for metric in (self.token_requests, self.token_expires, self.token_usable, self.token_refused):
            metric.remove_by_labels({"source": source})
        self.refresh_token_expires.remove_by_labels({"source": source})

    def forget_source(self, source: str) -> None:
        """Export nothing more about a source that is gone, but for what its gaps were."""
        self.forget_tokens(source)
        for metric in (self.signatures, self.event_ts_odd, self.webhook_requests):
            metric.remove_by_labels({"source": source})
        self.event_lag.remove(source)
