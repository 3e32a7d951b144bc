"""`cloudevents`: CloudEvents 1.0 over HTTP, structured, batched or binary.

    id      the event's id
    source  /zoomrelay/ and the name of the source in the configuration
    type    us.zoom. and Zoom's name of the event
    time    when it happened (`event_ts`), or was received where Zoom does not say
    data    the event's JSON, untouched

https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents. The official SDK takes data as objects and would
write the JSON anew, at many times the cost; tests hold these bytes to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache

from multidict import istr

from zoomrelay.event import Event
from zoomrelay.sinks import encode
from zoomrelay.sinks.formats.base import CONTENT_TYPE, Request

_VERSION, _ID, _SOURCE = istr("ce-specversion"), istr("ce-id"), istr("ce-source")
_TYPE, _TIME = istr("ce-type"), istr("ce-time")
_STRUCTURED = {CONTENT_TYPE: "application/cloudevents+json; charset=utf-8"}
_BATCH = {CONTENT_TYPE: "application/cloudevents-batch+json; charset=utf-8"}
_TO_ENCODE = re.compile(r"[^!#$&-~]")
"""HTTP binding, 3.1.3.2: everything that is not printable ASCII, space, double quote and percent."""


class Structured:
    def request(self, events: Sequence[Event], wall: float) -> Request:  # noqa: ARG002
        (event,) = events
        return Request(_written(event), _STRUCTURED)


class Batch:
    """A JSON array of events in structured form."""

    def request(self, events: Sequence[Event], wall: float) -> Request:  # noqa: ARG002
        return Request(b"[%b]" % b",".join([_written(event) for event in events]), _BATCH)


class Binary:
    """Attributes in headers, and the event's own bytes as the body."""

    def request(self, events: Sequence[Event], wall: float) -> Request:  # noqa: ARG002
        (event,) = events
        headers = {
            _VERSION: "1.0",
            _ID: event.id,
            _SOURCE: _source(event.source),
            _TYPE: _percent_encoded(_type(event.name)),
            _TIME: encode.occurred_at(event),
            CONTENT_TYPE: "application/json",
        }
        return Request(event.content, headers)


def _written(event: Event) -> bytes:
    head = _head(event.source, event.name) % (event.id, encode.occurred_at(event))
    return b'%b"data":%b}' % (head.encode(), encode.embeddable(event.content))


@lru_cache(maxsize=1024)
def _head(source: str, name: str) -> str:
    """A template for what stands before the data; two places are left open."""
    fixed = {"source": _source(source), "type": _type(name), "datacontenttype": "application/json"}
    written = json.dumps(fixed, separators=(",", ":"))[1:-1].replace("%", "%%")
    return f'{{"specversion":"1.0","id":"%s","time":"%s",{written},'


def _source(name: str) -> str:
    return f"/zoomrelay/{name}"


def _type(name: str) -> str:
    return f"us.zoom.{name}"


@lru_cache(maxsize=1024)
def _percent_encoded(text: str) -> str:
    def encoded(found: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "replace"))

    return _TO_ENCODE.sub(encoded, text)
