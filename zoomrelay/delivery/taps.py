"""Looks at the stream as it passes. Who looks slows nobody: what a tap has no room for, it misses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from zoomrelay.delivery.router import Route
from zoomrelay.event import Event

MOST_TAPS = 8
MOST_EVENTS = 1000
MOST_BYTES = 4 * 1024 * 1024
"""What one tap holds for a reader that is behind."""


class Tap:
    """The events that its route wants, from the moment when it was made."""

    def __init__(self, route: Route, *, most_events: int = MOST_EVENTS, most_bytes: int = MOST_BYTES) -> None:
        self._route = route
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._events: list[Event] = []
        self._bytes = 0
        self._missed = 0
        self._ended = False
        self._something = asyncio.Event()

    def offer(self, events: Sequence[Event]) -> None:
        """Take what there is room for, and count the others. Never waits."""
        wants = self._route.wants
        for event in events:
            if wants(event.name, event.source):
                self._take(event)

    async def read(self) -> tuple[Sequence[Event], int]:
        """Wait for events; and how many were missed behind them. Nothing at all: it has ended."""
        await self._something.wait()
        events, missed = self._events, self._missed
        self._events, self._bytes, self._missed = [], 0, 0
        if not self._ended:
            self._something.clear()
        return events, missed

    def end(self) -> None:
        """The next `read` gives what is left, the one after that nothing."""
        self._ended = True
        self._something.set()

    def _take(self, event: Event) -> None:
        size = len(event.content)
        # Once one is missed, so are all up to the next `read`: what is missed is one stretch.
        full = len(self._events) >= self._most_events or (
            self._events and self._bytes + size > self._most_bytes
        )
        if self._missed or full:
            self._missed += 1
        else:
            self._events.append(event)
            self._bytes += size
        self._something.set()


class Taps:
    """All that are open."""

    def __init__(self) -> None:
        self._taps: list[Tap] = []

    def offer(self, events: Sequence[Event]) -> None:
        """Of events that are held. Costs nothing where nobody looks."""
        if self._taps:
            for tap in self._taps:
                tap.offer(events)

    def open(self, route: Route) -> Tap | None:
        """None where there are as many as may be."""
        if len(self._taps) >= MOST_TAPS:
            return None
        tap = Tap(route)
        self._taps.append(tap)
        return tap

    def close(self, tap: Tap) -> None:
        """May be called twice."""
        if tap in self._taps:
            self._taps.remove(tap)

    def end(self) -> None:
        """Let every reader know that no more will come."""
        for tap in self._taps:
            tap.end()
