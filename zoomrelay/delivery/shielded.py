"""Feeds a sink with privacy: no event reaches its worker with the bytes that Zoom sent."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from zoomrelay.event import GAP_EVENTS, Event
from zoomrelay.privacy.shield import Shield
from zoomrelay.spool.base import Item, Reading, Settlement


class ShieldedSpool:
    """A spool's `Reading` for one sink, with personal data hidden.

    What the worker gives back, to be parked or as dead letters, is hidden too, so the spool keeps only that
    of it. It is hidden once more when it is read again, which changes nothing.
    """

    def __init__(self, spool: Reading, shield: Shield) -> None:
        self._spool = spool
        self._shield = shield

    async def read(self, sink: str, max_events: int, max_bytes: int) -> Sequence[Item]:
        items = await self._spool.read(sink, max_events, max_bytes)
        return [replace(item, event=self._hidden(item.event)) for item in items]

    async def read_urgent(self, sink: str, max_events: int) -> Sequence[Item]:
        items = await self._spool.read_urgent(sink, max_events)
        return [replace(item, event=self._hidden(item.event)) for item in items]

    def settle(self, sink: str, settlement: Settlement) -> None:
        self._spool.settle(sink, settlement)

    def release(self, sink: str) -> None:
        self._spool.release(sink)

    def _hidden(self, event: Event) -> Event:
        if event.name in GAP_EVENTS and not event.subscription:  # it came from no socket, so it is ours
            return event
        content = self._shield.content(event.content, event.name, event.event_ts)
        return replace(event, content=content)
