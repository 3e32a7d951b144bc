"""`raw` and `envelope`: the JSON of an event, alone or inside its envelope; batches are lines of it.

What stands in them is told in `zoomrelay.sinks.encode`.
"""

from __future__ import annotations

from collections.abc import Sequence

from zoomrelay.config.models import EventFormat
from zoomrelay.event import Event
from zoomrelay.sinks import encode
from zoomrelay.sinks.formats.base import CONTENT_TYPE, Request

_JSON = {CONTENT_TYPE: "application/json"}
_LINES = {CONTENT_TYPE: "application/x-ndjson"}


class Plain:
    """One event as it is, newlines inside included."""

    def __init__(self, format: EventFormat) -> None:
        self._envelope = format == "envelope"

    def request(self, events: Sequence[Event], wall: float) -> Request:  # noqa: ARG002
        (event,) = events
        return Request(encode.envelope(event) if self._envelope else event.content, _JSON)


class Lines:
    """NDJSON: one line per event."""

    def __init__(self, format: EventFormat) -> None:
        self._format = format

    def request(self, events: Sequence[Event], wall: float) -> Request:  # noqa: ARG002
        return Request(encode.lines(events, self._format), _LINES)
