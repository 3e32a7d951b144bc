"""The metrics of one path (source and subscription), with their labels looked up once."""

from __future__ import annotations

from collections import Counter

from zoomrelay.telemetry.metrics import Metrics


class PathFigures:
    """Counts in plain integers; `publish` adds them up about once a second. A path whose socket is being made
    anew has two of these for a moment."""

    def __init__(self, metrics: Metrics, source: str, subscription: str) -> None:
        self._metrics = metrics
        self._path = (source, subscription)
        self._accepted = metrics.session_accepted.labels(*self._path)
        self._last_frame = metrics.last_frame.labels(*self._path)
        self._last_event = metrics.last_event.labels(*self._path)
        self._round_trip = metrics.heartbeat_round_trip.labels(*self._path)
        self._displaced = metrics.path_displaced.labels(*self._path)
        self._contested = metrics.path_contested.labels(*self._path)
        self._frames = metrics.frames.labels(*self._path, "event")
        self.events = 0
        """Events since the last `publish`."""
        self.others: Counter[str] = Counter()
        """Other frames since then, by kind."""

    def publish(self, *, last_frame_wall: float, round_trip_seconds: float | None) -> None:
        self._last_frame.set(last_frame_wall)
        if round_trip_seconds is not None:
            self._round_trip.set(round_trip_seconds)
        if self.events:
            self._frames.inc(self.events)
            self._last_event.set(last_frame_wall)
            self.events = 0
        for kind, count in self.others.items():
            self._metrics.frames.labels(*self._path, kind).inc(count)
        self.others.clear()

    def attempted(self, result: str) -> None:
        self._metrics.session_attempts.labels(*self._path, result).inc()

    def accepted(self) -> None:
        self._accepted.inc()

    def closed(self, cause: str) -> None:
        self._accepted.dec()
        self._metrics.session_closes.labels(*self._path, cause).inc()

    def displaced(self) -> None:
        self._displaced.inc()

    def contested(self, contested: bool) -> None:
        self._contested.set(contested)
