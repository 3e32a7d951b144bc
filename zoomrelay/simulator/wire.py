"""Bytes as a server puts them on the wire: RFC 6455 frames and Zoom's envelopes. Pure.

The simulator encodes frames itself, because a WebSocket library would refuse to send broken ones, and
because frames that are encoded beforehand can be sent many at a time.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping
from enum import IntEnum

import msgspec


class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PONG = 10


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One event (or one piece of rubbish) with its wire form."""

    content: bytes
    """The event's own JSON, or the payload of a frame that holds no event."""
    wire: bytes
    kind: str = "event"
    """`event`, or the name of an unreadable kind (`rubbish.Rubbish`)."""


def encode_frame(opcode: Opcode, payload: bytes, *, final: bool = True) -> bytes:
    """One unmasked frame."""
    first = (0x80 if final else 0) | opcode
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def close_frame(code: int, reason: str) -> bytes:
    """A closing frame with any code, allowed on the wire or not."""
    return encode_frame(Opcode.CLOSE, struct.pack("!H", code) + reason.encode()[:123])


def fragmented(payload: bytes, pieces: int) -> bytes:
    """One text message in about `pieces` frames, cut without regard to characters."""
    size = max(1, -(-len(payload) // pieces))
    parts = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    return b"".join(
        encode_frame(Opcode.CONTINUATION if index else Opcode.TEXT, part, final=index == len(parts) - 1)
        for index, part in enumerate(parts)
    )


def reply(module: str, content: str, *, success: bool = True) -> bytes:
    """The frame with which Zoom answers to a connection (`build_connection`) or a heartbeat."""
    envelope = {"module": module, "success": success, "content": content, "header": {}}
    return encode_frame(Opcode.TEXT, msgspec.json.encode(envelope))


def envelope(content: bytes, header: Mapping[str, str] | None = None) -> bytes:
    """Zoom's message around one event, which is encoded a second time, as a JSON string.

    `content` must be UTF-8. The bytes of each header value go in as they are: Zoom leaves JSON escapes
    in them (see `signed_header`).
    """
    head = msgspec.json.encode(header or {})
    text = msgspec.json.encode(content.decode())
    return b'{"module":"message","content":' + text + b',"header":' + head + b"}"


def signed_header(content: bytes, secret_token: str, timestamp: int) -> dict[str, str]:
    """The header of a signed event: `v0:{timestamp}:{content}` under the app's Secret Token.

    The `=` of the signature stays escaped (`v0\\u003d…`) after the outer JSON has been read, as it has
    been seen from Zoom. `timestamp` is in seconds since the epoch.
    """
    message = b"v0:%d:%b" % (timestamp, content)
    digest = hmac.new(secret_token.encode(), message, hashlib.sha256).hexdigest()
    return {"x-zm-request-timestamp": str(timestamp), "x-zm-signature": f"v0\\u003d{digest}"}


def event_frame(content: bytes, header: Mapping[str, str] | None = None) -> Frame:
    """The event in Zoom's envelope in one text frame."""
    return Frame(content, encode_frame(Opcode.TEXT, envelope(content, header)))
