"""The one value that crosses the walls between rooms."""

from __future__ import annotations

import msgspec

ID_PREFIX = "z1_"
"""Version of the identity scheme (see `zoomrelay.intake.identity`); part of every id."""


GAP_OPENED = "zoomrelay.gap_opened"
GAP_CLOSED = "zoomrelay.gap_closed"
GAP_EVENTS = frozenset({GAP_OPENED, GAP_CLOSED})
"""Names of the events that the relay makes itself, for sinks with `gap_events`."""
RELAY_SOURCE = "zoomrelay"
"""Source of those that concern no source in particular."""
WEBHOOK = "webhook"
"""Stands in place of a subscription's id for what comes by HTTP: Zoom's webhook."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One Zoom event, with its bytes exactly as they came.

    Only `name`, `event_ts` and `key` are read out of `content`; everything else in it is carried
    untouched. Instances are immutable and may be shared between sinks.
    """

    digest: bytes
    """16 bytes; `id` is its printable form."""
    source: str
    """Name of the configured source that received it."""
    subscription: str
    """Id of the Zoom subscription whose socket brought it first, or `WEBHOOK`."""
    name: str
    """Zoom's event name, for instance `meeting.started`; not always dotted."""
    event_ts: int | None
    """Zoom's `event_ts` in milliseconds since the epoch, where it was an integer."""
    key: str
    """Ordering key: events with the same non-empty key are delivered in order of arrival."""
    received_ms: int
    """Wall clock at receipt, milliseconds since the epoch."""
    content: bytes
    """The event's own JSON, byte for byte as Zoom sent it."""
    replayed: bool = False
    """Sent once more because somebody asked for it. Says nothing of the event itself."""

    @property
    def id(self) -> str:
        """The stable id, for instance `z1_0f…` (32 hex digits)."""
        return ID_PREFIX + self.digest.hex()
