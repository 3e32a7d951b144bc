"""Frames in which no event can be read, and whole ones in unusual clothes. Pure."""

from __future__ import annotations

from enum import StrEnum

from zoomrelay.simulator.wire import Frame, Opcode, encode_frame, envelope, fragmented


class Rubbish(StrEnum):
    """What can be wrong with a frame."""

    NOT_JSON = "not-json"
    TRUNCATED = "truncated"
    BINARY = "binary"
    EMPTY = "empty"
    NO_EVENT = "no-event"
    """A `message` whose content is not an event."""
    INVALID_UTF8 = "invalid-utf8"
    """A text frame that is not UTF-8: a conforming client ends the connection with 1007."""
    OVERSIZE = "oversize"
    """Larger than a client accepts: it ends the connection with 1009."""
    HARMLESS = "harmless"
    """In turn, by their number, those that a client can step over without losing its connection."""


_HARMLESS = (Rubbish.NOT_JSON, Rubbish.TRUNCATED, Rubbish.BINARY, Rubbish.NO_EVENT, Rubbish.EMPTY)


def rubbish(kind: Rubbish, number: int, *, oversize_bytes: int = 17 * 1024**2) -> Frame:
    """A frame of this kind. `number` is written into it where it can be, so that frames differ."""
    if kind is Rubbish.HARMLESS:
        kind = _HARMLESS[number % len(_HARMLESS)]
    event = b'{"event":"meeting.started","payload":{"rubbish":%d},"event_ts":1700000000000}' % number
    payload = _payload(kind, number, envelope(event), oversize_bytes)
    opcode = Opcode.BINARY if kind is Rubbish.BINARY else Opcode.TEXT
    return Frame(payload, encode_frame(opcode, payload), kind)


def _payload(kind: Rubbish, number: int, whole: bytes, oversize_bytes: int) -> bytes:
    match kind:
        case Rubbish.NOT_JSON:
            return b"<html>rubbish %d</html>" % number
        case Rubbish.TRUNCATED:
            return whole[: len(whole) // 2]
        case Rubbish.BINARY:
            return b"\x00\xff\xfe rubbish %d" % number
        case Rubbish.EMPTY:
            return b""
        case Rubbish.NO_EVENT:
            return envelope(b"rubbish %d" % number)
        case Rubbish.INVALID_UTF8:
            return whole[:-1] + b"\xff"
        case Rubbish.OVERSIZE:
            return whole[:-1] + b" " * (oversize_bytes - len(whole)) + b"}"
        case Rubbish.HARMLESS:
            raise ValueError("harmless is a choice of kinds, not a kind")


def in_pieces(frame: Frame, pieces: int) -> Frame:
    """The same event, its message fragmented over several frames."""
    return Frame(frame.content, fragmented(envelope(frame.content), pieces))
