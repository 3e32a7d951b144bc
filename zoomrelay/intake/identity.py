"""What is read out of an event: its name, its time, its ordering key and its identity. Pure.

Identity (scheme `z1`). Two events are one and the same if source and content are equal byte for byte, or,
where the content has a volatile field, if they are equal in every other field. The id is a BLAKE2b hash
of 128 bits over the source's name, a zero byte and that content. Volatile are tokens and signed URLs that
Zoom makes anew for each copy (two copies of `recording.completed` that differed only in these: protocol
notes, section 4, duplicates). The list is part of the scheme: changing it means a new prefix.

Ordering keys. The first of these that is there, a string that is not empty or a whole number, is the key;
events with the same key are delivered in order of arrival, and an event without one waits for nobody.

    where                                      what it names            families
    payload.object.uuid                        a meeting, one           meeting, webinar, recording
                                               occurrence of it
    payload.object.call_id                     a call                   phone
    payload.object.call_logs[0].call_id        a call                   phone: logs and histories
    payload.object.recordings[0].call_id       a call                   phone: recordings
    payload.object.engagement_id               an engagement            contact_center
    payload.object.session_id                  a session, a text chat   session (Video SDK), phone.sms
    payload.object.channel_id                  a channel                chat_message, chat_channel, team_chat
    payload.object.user_id                     a person                 agents, settings, presence
    payload.object.id                          the thing itself         user, zoomroom, group, and all others
    payload.meeting_uuid, .webinar_uuid,       a meeting or session     rtms (these have no object)
    payload.session_id

A change to a scheduled meeting may name no uuid (`meeting.updated`): then the meeting's id is its key.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Annotated, Any

import msgspec

from zoomrelay.event import Event

VOLATILE_FIELDS = frozenset(
    {
        "download_token",
        "download_access_token",
        "download_url",
        "play_url",
        "response_url",
        "start_url",
    }
)
_may_be_volatile = re.compile(rb'_(?:url|token)"').search
"""Cheap, one pass: every volatile field's name ends so. Many a harmless one does, too."""
_is_volatile = re.compile(rb"download_|play_url|response_url|start_url").search
"""Dearer, and nearly sure."""

_MAX_NAME = 200
_MAX_KEY = 200
_MAX_DIGITS = 40
"""Of a whole number that is read as one; longer ones stay text (Python refuses to print them)."""


class Unidentifiable(ValueError):
    """No event can be read in this content; the message says why, without quoting it."""


class _Call(msgspec.Struct, gc=False):
    call_id: Any = None


class _Object(msgspec.Struct, gc=False):
    uuid: Any = None
    call_id: Any = None
    call_logs: list[_Call] | None = None
    recordings: list[_Call] | None = None
    engagement_id: Any = None
    session_id: Any = None
    channel_id: Any = None
    user_id: Any = None
    id: Any = None


class _Payload(msgspec.Struct, gc=False):
    object: _Object | None = None
    meeting_uuid: Any = None
    webinar_uuid: Any = None
    session_id: Any = None


class _Content(msgspec.Struct, gc=False):
    event: str
    event_ts: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    payload: _Payload | None = None


_decode = msgspec.json.Decoder(_Content).decode


class Identifier:
    """Reads the events of one source."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._begun = blake2b(source.encode() + b"\0", digest_size=16).copy

    def read(self, content: bytes, subscription: str, received_ms: int) -> Event:
        """The event in this content. Raises `Unidentifiable` where it is not a JSON object with an `event`.
        Called for every event: about 5 us for 900 bytes."""
        try:
            event = _decode(content)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return self._read_tolerantly(content, subscription, received_ms)
        name = event.event
        if len(name) > _MAX_NAME:
            name = name[:_MAX_NAME]
        key = _key(event.payload)
        return Event(
            self._digest(content), self._source, subscription, name, event.event_ts, key, received_ms, content
        )

    def _digest(self, content: bytes) -> bytes:
        if _may_be_volatile(content) and _is_volatile(content):
            content = _canonical(content)
        digest = self._begun()
        digest.update(content)
        return digest.digest()

    def _read_tolerantly(self, content: bytes, subscription: str, received_ms: int) -> Event:
        """For shapes that the typed decoder refuses: lone surrogates, odd types, objects that are lists."""
        document = _load(content)
        if not isinstance(document, dict):
            raise Unidentifiable(f"the content is a JSON {_kind(document)}, not an object")
        name = document.get("event")
        if not isinstance(name, str):
            raise Unidentifiable("the content has no `event` that is a string")
        event_ts = document.get("event_ts")
        if isinstance(event_ts, bool) or not isinstance(event_ts, int) or abs(event_ts) >= 2**63:
            event_ts = None
        name, key = _clean(name)[:_MAX_NAME], _tolerant_key(document)
        return Event(
            self._digest(content), self._source, subscription, name, event_ts, key, received_ms, content
        )


def _load(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8", "surrogatepass"), parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise Unidentifiable(f"the content is not JSON: {type(error).__name__}") from error


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _canonical(content: bytes) -> bytes:
    """The content without its volatile fields, keys sorted, no white space; as it is if it is no JSON."""
    try:
        return msgspec.json.encode(_without_volatile(msgspec.json.decode(content)), order="sorted")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _canonical_tolerantly(content)


def _canonical_tolerantly(content: bytes) -> bytes:
    """For what the fast decoder refuses: lone surrogates, numbers out of range."""
    try:
        document = _without_volatile(_load(content))
    except (Unidentifiable, RecursionError):
        return content
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _without_volatile(value: Any) -> Any:
    if type(value) is dict:
        return {key: _without_volatile(inner) for key, inner in value.items() if key not in VOLATILE_FIELDS}
    if type(value) is list:
        return [_without_volatile(inner) for inner in value]
    return value


def _key(payload: _Payload | None) -> str:
    if payload is None:
        return ""
    entity = payload.object
    if entity is None:
        return _first(payload.meeting_uuid, payload.webinar_uuid, payload.session_id)
    uuid = entity.uuid
    if type(uuid) is str and 0 < len(uuid) <= _MAX_KEY:  # the usual case at once
        return uuid
    return _first(
        uuid,
        entity.call_id,
        _call_id(entity.call_logs),
        _call_id(entity.recordings),
        entity.engagement_id,
        entity.session_id,
        entity.channel_id,
        entity.user_id,
        entity.id,
    )


def _first(*candidates: Any) -> str:
    """The first that can be a key, as text."""
    for candidate in candidates:
        if type(candidate) is str and candidate:
            return candidate[:_MAX_KEY]
        if type(candidate) is int and 0 < candidate < 10**_MAX_DIGITS:
            return str(candidate)
    return ""


def _call_id(calls: list[_Call] | None) -> Any:
    return calls[0].call_id if calls else None


def _tolerant_key(document: dict[str, Any]) -> str:
    payload = document.get("payload")
    if not isinstance(payload, dict):
        return ""
    known = _Payload(**_known(_Payload, payload))
    if isinstance(known.object, dict):
        fields = _known(_Object, known.object)
        calls = {name: _calls(fields.pop(name, None)) for name in ("call_logs", "recordings")}
        known.object = _Object(**calls, **fields)
    else:
        known.object = None  # a list, or something stranger
    return _clean(_key(known))


def _known(shape: type[msgspec.Struct], given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in shape.__struct_fields__ if name in given}


def _calls(value: Any) -> list[_Call]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_Call(value[0].get("call_id"))]
    return []


def _clean(text: str) -> str:
    """Text that every encoder takes: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _kind(value: Any) -> str:
    return {list: "list", str: "string", type(None): "null", bool: "boolean"}.get(type(value), "number")
