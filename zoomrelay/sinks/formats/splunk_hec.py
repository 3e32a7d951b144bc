"""`splunk-hec`: Splunk's HTTP Event Collector, which LogScale and others accept too.

Each event is `{"time":…,"source":…,"sourcetype":"zoom:webhook","fields":{"id":…},"event":{…}}` with the
event's JSON, untouched; `time` is when it happened, in seconds. Requests hold one or several, one per line.
https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

from zoomrelay.event import Event
from zoomrelay.sinks import encode
from zoomrelay.sinks.formats.base import AUTHORIZATION, CONTENT_TYPE, Request

SOURCETYPE = "zoom:webhook"


class SplunkHec:
    def __init__(self, token: str) -> None:
        self._headers = {CONTENT_TYPE: "application/json", AUTHORIZATION: f"Splunk {token}"}

    def request(self, events: Sequence[Event], wall: float) -> Request:  # noqa: ARG002
        return Request(b"\n".join([_written(event) for event in events]), self._headers)


def _written(event: Event) -> bytes:
    seconds, rest = divmod(encode.occurred_ms(event), 1000)
    head = f'{{"time":{seconds}.{rest:03d},{_origin(event.source)}"fields":{{"id":"{event.id}"}},"event":'
    return b"%b%b}" % (head.encode(), encode.one_line(encode.embeddable(event.content)))


@lru_cache(maxsize=256)
def _origin(source: str) -> str:
    return f'"source":{json.dumps(f"zoomrelay:{source}")},"sourcetype":"{SOURCETYPE}",'
