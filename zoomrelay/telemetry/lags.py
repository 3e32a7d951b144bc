"""How long events took: from Zoom's clock to us, and from the disk to a receiver.

These are wall times, of which events carry milliseconds: setting the clock shows here, and breaks nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from prometheus_client import Counter as Metric

from zoomrelay.clock import Clock
from zoomrelay.event import Event
from zoomrelay.telemetry.histogram import Tally

IMPLAUSIBLE_MS = 30 * 86_400_000
"""Zoom keeps nothing for so long: an `event_ts` that is further away than this tells no time."""
_COMMITS = 1024
"""How many commits are remembered. What an older one held waits for a minute, against which it does not count
that it became durable some milliseconds after its receipt."""


class EventLag:
    """Of one source: from `event_ts` to receipt. Zoom's clock may differ from ours."""

    def __init__(self, tally: Tally, odd: Metric, source: str) -> None:
        self._tally = tally
        self._odd = {reason: odd.labels(source, reason) for reason in ("missing", "ahead", "implausible")}

    def note(self, events: Sequence[Event]) -> None:
        """These have come, together."""
        stamps = [event.event_ts for event in events if event.event_ts is not None]
        if len(stamps) < len(events):
            self._odd["missing"].inc(len(events) - len(stamps))
        if not stamps:
            return
        now_ms = events[0].received_ms
        lags_ms = [now_ms - stamp for stamp in stamps]
        if min(lags_ms) < 0 or max(lags_ms) > IMPLAUSIBLE_MS:
            lags_ms = self._plausible(lags_ms)
        self._tally.add_all(lags_ms)

    def _plausible(self, lags_ms: Sequence[int]) -> list[int]:
        """Without those that tell no time; what comes from the future took none."""
        kept = [lag for lag in lags_ms if abs(lag) <= IMPLAUSIBLE_MS]
        ahead = sum([lag < 0 for lag in kept])
        self._odd["implausible"].inc(len(lags_ms) - len(kept))
        self._odd["ahead"].inc(ahead)
        return [max(0, lag) for lag in kept] if ahead else kept


class Commits:
    """When events became durable: the last commits, by what each held."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_ms = 0
        """Of the oldest event of the first commit below."""
        self._received_ms: list[int] = []
        """Of the newest event of each commit; never falls."""
        self._durable_ms: list[int] = []

    def note(self, events: Sequence[Event]) -> None:
        """These became durable just now. They were received after those of the commit before."""
        if not events:
            return
        newest_ms = events[-1].received_ms
        if self._received_ms and newest_ms < self._received_ms[-1]:
            self._forget(len(self._received_ms))  # the wall clock was set back
        if not self._received_ms:
            self._since_ms = events[0].received_ms
        self._received_ms.append(newest_ms)
        self._durable_ms.append(self._now_ms())
        if len(self._received_ms) > 2 * _COMMITS:
            self._forget(_COMMITS)

    def _forget(self, count: int) -> None:
        self._since_ms = self._received_ms[count - 1] + 1
        del self._received_ms[:count], self._durable_ms[:count]

    def tell(self, tally: Tally, events: Sequence[Event]) -> None:
        """These were delivered just now: count for how long they had been durable."""
        now_ms = self._now_ms()
        if len(events) == 1:
            tally.add(max(0, now_ms - self._durable(events[0].received_ms)))
            return
        # Many come in one millisecond.
        for received_ms, times in Counter([event.received_ms for event in events]).items():
            tally.add(max(0, now_ms - self._durable(received_ms)), times)

    def _durable(self, received_ms: int) -> int:
        at = bisect_left(self._received_ms, received_ms)
        known = received_ms >= self._since_ms and at < len(self._received_ms)
        return self._durable_ms[at] if known else received_ms

    def _now_ms(self) -> int:
        return int(self._clock.wall() * 1000)
