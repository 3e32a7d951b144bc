"""The relay's own events: a gap has opened, a gap has closed. Pure.

    {"event": "zoomrelay.gap_opened", "event_ts": from, "payload": {"object": {"id": …, …}}}
    {"event": "zoomrelay.gap_closed", "event_ts": to,   "payload": {"object": {"id": …, …}}}

`object` is the ledger's entry (see `gaps`); while a gap is open, what grows with it is left out, so that the
same opening announced twice is one event by identity. `id` names what the gap concerns
(`source/subscription`), the same in both; it is the ordering key too.
"""

from __future__ import annotations

import msgspec

from zoomrelay.event import GAP_CLOSED, GAP_OPENED
from zoomrelay.intake.gaps import Gap

_KNOWN_AT_ONCE = ("from", "cause", "detail", "source", "subscription", "sink", "paths")


def opened(gap: Gap) -> bytes:
    """The content of the event."""
    entry = gap.as_json()
    return _content(GAP_OPENED, gap.from_ms, gap, {key: entry[key] for key in _KNOWN_AT_ONCE if key in entry})


def closed(gap: Gap) -> bytes:
    """The content of the event; the gap has ended."""
    return _content(GAP_CLOSED, gap.to_ms or gap.from_ms, gap, gap.as_json())


def _content(name: str, event_ts: int, gap: Gap, entry: dict[str, object]) -> bytes:
    document = {"event": name, "event_ts": event_ts, "payload": {"object": {"id": gap.name, **entry}}}
    return msgspec.json.encode(document)
