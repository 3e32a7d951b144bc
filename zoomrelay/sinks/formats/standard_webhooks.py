"""`standard-webhooks`: the signatures and the payload of https://www.standardwebhooks.com.

The body is `{"type":"meeting.started","timestamp":"…","data":{…}}` with the event's JSON, untouched, as data.
With several secrets it is signed with each, so that receivers can change theirs one by one. The official
library signs text only, and events may hold bytes that are no text; tests hold this to it.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Sequence
from functools import lru_cache

from multidict import istr

from zoomrelay.event import Event
from zoomrelay.sinks import encode
from zoomrelay.sinks.formats.base import CONTENT_TYPE, Request

TIMESTAMP, SIGNATURE = istr("webhook-timestamp"), istr("webhook-signature")


class StandardWebhooks:
    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def request(self, events: Sequence[Event], wall: float) -> Request:
        """The id that is signed is that of the header `webhook-id`, which every request has."""
        (event,) = events
        body = _payload(event)
        message = b"%b.%d.%b" % (event.id.encode(), wall, body)
        headers = {
            CONTENT_TYPE: "application/json",
            TIMESTAMP: str(int(wall)),
            SIGNATURE: " ".join([_signature(key, message) for key in self._keys]),
        }
        return Request(body, headers)


def _payload(event: Event) -> bytes:
    head = f'{{"type":{_quoted(event.name)},"timestamp":"{encode.occurred_at(event)}","data":'
    return b"%b%b}" % (head.encode(), encode.embeddable(event.content))


def _signature(key: bytes, message: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, message, "sha256")).decode()


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    return json.dumps(text)
