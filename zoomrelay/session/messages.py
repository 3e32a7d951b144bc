"""From the bytes of a frame to what it means. Pure, and on the hot path.

Zoom's frames are `{"module":…,"success":…,"content":…,"header":{…}}`; an event is a JSON document inside
the string `content` (double encoded). The normal form takes one strict decoding; whatever does not fit it
goes through a tolerant reading, so that nothing which Python can read at all is lost.
"""

from __future__ import annotations

import json
import re

import msgspec

Header = msgspec.Raw
"""The envelope's `header`, undecoded; `read_header` opens it. Holds on to the whole frame's memory."""

NO_HEADER = msgspec.Raw(b"{}")


class EventFrame(msgspec.Struct, gc=False):
    """An event."""

    content: bytes
    """The event's own JSON in UTF-8."""
    header: Header
    verbatim: bool
    """`content` is what Zoom sent. False where it came as an object (written anew without white space)
    or held what has no UTF-8 (lone surrogates are escaped again)."""


class Accepted(msgspec.Struct, gc=False):
    """`build_connection` succeeded: the socket is ours."""


class HeartbeatReply(msgspec.Struct, gc=False):
    """A heartbeat was answered. Never answer it in turn."""


class Refusal(msgspec.Struct, gc=False):
    """`success: false`, on whatever module."""

    module: str
    text: str


class Unknown(msgspec.Struct, gc=False):
    """A well-formed frame without an event, of a module that we do not know."""

    module: str


class Unreadable(msgspec.Struct, gc=False):
    """Not even the tolerant reading found an event or a control message in it."""

    raw: bytes
    reason: str


Message = EventFrame | Accepted | HeartbeatReply | Refusal | Unknown | Unreadable


class _Frame(msgspec.Struct, gc=False):
    module: str = ""
    content: str | None = None
    header: msgspec.Raw = NO_HEADER
    success: bool | None = None


_decode = msgspec.json.Decoder(_Frame).decode


def parse(frame: bytes) -> Message:
    """What the frame means. Never raises."""
    try:
        fast = _decode(frame)
        if fast.module == "message" and fast.content and fast.success is not False:
            return EventFrame(fast.content.encode(), fast.header, True)
        if fast.success and fast.module in _CONTROL:
            return _CONTROL[fast.module]()
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass  # not the normal form
    return _parse_tolerantly(frame)


_CONTROL: dict[str, type[Accepted] | type[HeartbeatReply]] = {
    "build_connection": Accepted,
    "heartbeat": HeartbeatReply,
}


def read_header(header: Header) -> dict[str, str]:
    """The header's entries with keys in lower case; those that are no strings are left out."""
    try:
        entries = json.loads(bytes(header))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {key.lower(): value for key, value in entries.items() if isinstance(value, str)}


# --- the tolerant reading ---------------------------------------------------------------------------


def _parse_tolerantly(frame: bytes) -> Message:
    try:
        text, lone = _text(frame)
        fields = json.loads(text, strict=False)
        if not isinstance(fields, dict):
            return Unreadable(frame, "not an object")
        if "module" not in fields and "event" in fields:
            # An event without its envelope: the frame itself is what Zoom sent.
            return _event_frame(text, NO_HEADER, lone)
        return _by_module(frame, fields, lone)
    except (ValueError, RecursionError) as error:
        return Unreadable(frame, _reason(error))


def _text(frame: bytes) -> tuple[str, re.Pattern[str]]:
    """The frame as text, and what in it is a lone surrogate rather than an odd byte."""
    encoding = json.detect_encoding(frame)
    try:
        return frame.decode(encoding), _SURROGATE
    except UnicodeDecodeError:
        # Bytes that are no UTF-8 are kept as U+DC80 to U+DCFF; `_to_bytes` puts them back.
        return frame.decode(encoding, "surrogateescape"), _SURROGATE_BUT_BYTES


def _by_module(frame: bytes, fields: dict[str, object], lone: re.Pattern[str]) -> Message:
    module = str(fields.get("module", ""))
    content = fields.get("content")
    refused = fields.get("success") in (False, "false", "False")
    if (module == "message" and not refused) or _holds_event(content):
        return _event_of(frame, fields, lone)
    if refused:
        return Refusal(_printable(module), content if isinstance(content, str) else _dump(content))
    control = _CONTROL.get(module)
    return control() if control is not None else Unknown(_printable(module))


def _event_of(frame: bytes, fields: dict[str, object], lone: re.Pattern[str]) -> Message:
    content = fields.get("content")
    header = msgspec.Raw(_dump(fields.get("header", {})).encode("ascii"))
    if isinstance(content, str) and content:
        return _event_frame(content, header, lone)
    if isinstance(content, dict) and content:
        compact = _compact(frame) or _to_bytes(_dump(content, ascii_only=False), lone)
        return EventFrame(compact, header, False)
    return Unreadable(frame, "message without content")


def _holds_event(content: object) -> bool:
    """Whether this is an event, in a frame whose module does not say so."""
    if isinstance(content, str) and content.lstrip().startswith("{"):
        try:
            content = json.loads(content, strict=False)
        except (ValueError, RecursionError):
            return False
    return isinstance(content, dict) and "event" in content


def _event_frame(content: str, header: Header, lone: re.Pattern[str]) -> EventFrame:
    try:
        return EventFrame(content.encode(), header, True)
    except UnicodeEncodeError:
        return EventFrame(_to_bytes(content, lone), header, lone is _SURROGATE_BUT_BYTES)


_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_BUT_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def _to_bytes(text: str, lone: re.Pattern[str]) -> bytes:
    """Lone surrogates become JSON escapes again, which mean the same; odd bytes become what they were."""
    escaped = lone.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return escaped.encode("utf-8", "surrogateescape")


class _ObjectContent(msgspec.Struct, gc=False):
    content: msgspec.Raw = msgspec.Raw(b"")


_decode_object = msgspec.json.Decoder(_ObjectContent).decode


def _compact(frame: bytes) -> bytes:
    """The object in `content` without white space and otherwise as it is: numbers keep their digits.
    Empty where msgspec cannot read it."""
    try:
        raw = bytes(_decode_object(frame).content)
        return msgspec.json.format(raw, indent=-1)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return b""


def _dump(value: object, *, ascii_only: bool = True) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))


def _printable(module: str) -> str:
    return "".join(letter for letter in module if letter.isprintable())[:64]


def _reason(error: Exception) -> str:
    """In words that repeat nothing of the frame."""
    if isinstance(error, UnicodeDecodeError):
        return f"no {error.encoding}"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at {error.pos}"
    return "nested too deeply" if isinstance(error, RecursionError) else "a number too long"
