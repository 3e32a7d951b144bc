"""`zoom-webhook`: what Zoom itself would have posted, so that a receiver made for it needs no change.

https://developers.zoom.us/docs/api/webhooks/ has the signature, the challenge and the headers. The ids in
`x-zm-request-id` and `x-zm-trackingid` are the event's own: the same at every attempt. The body is the
content, byte for byte where it is spelled as Zoom spells it (see `spelling`).
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence

from multidict import istr

from zoomrelay.event import Event
from zoomrelay.sinks.formats.base import CONTENT_TYPE, USER_AGENT, Request
from zoomrelay.sinks.formats.spelling import as_javascript

TIMESTAMP, SIGNATURE = istr("x-zm-request-timestamp"), istr("x-zm-signature")
REQUEST_ID, TRACKING_ID = istr("x-zm-request-id"), istr("x-zm-trackingid")


class ZoomWebhook:
    def __init__(self, secret_token: str) -> None:
        self._key = secret_token.encode()

    def request(self, events: Sequence[Event], wall: float) -> Request:
        (event,) = events
        return self._signed(as_javascript(event.content), event.digest.hex(), int(wall))

    def challenge(self, plain_token: str, wall: float) -> Request:
        """The request that asks whether the receiver knows the secret token; `plain_token` is made up for
        it, in hexadecimal digits."""
        body = {
            "event": "endpoint.url_validation",
            "payload": {"plainToken": plain_token},
            "event_ts": int(wall * 1000),
        }
        return self._signed(json.dumps(body, separators=(",", ":")).encode(), plain_token, int(wall))

    def flaw(self, plain_token: str, answer: bytes) -> str:
        """What is wrong with the body of a 2xx answer to the challenge; empty if it is right."""
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError):
            return "the answer is not JSON; it must be {plainToken, encryptedToken}"
        if not isinstance(found, dict) or not isinstance(found.get("encryptedToken"), str):
            return "the answer has no encryptedToken"
        if found.get("plainToken") != plain_token:
            return "the answer does not repeat plainToken"
        if found["encryptedToken"] != self._hex(plain_token.encode()):
            return "encryptedToken is wrong: the receiver has another secret token than secret_token here"
        return ""

    def _signed(self, body: bytes, id: str, seconds: int) -> Request:
        request_id = f"{id[:8]}_{id[8:12]}_{id[12:16]}_{id[16:20]}_{id[20:]}"
        headers = {
            CONTENT_TYPE: "application/json; charset=utf-8",
            USER_AGENT: "Zoom Marketplace/1.0a",
            TIMESTAMP: str(seconds),
            SIGNATURE: "v0=" + self._hex(b"v0:%d:%b" % (seconds, body)),
            REQUEST_ID: request_id,
            TRACKING_ID: f"v=2.0;clid=zoomrelay;rid={id}",
        }
        return Request(body, headers)

    def _hex(self, message: bytes) -> str:
        return hmac.digest(self._key, message, "sha256").hex()
