"""What is read out of an event: its name, its time, its ordering key and its identity. Pure.

Identity (scheme `z1`). Two events are one and the same if source and content are equal byte for byte, or,
where the content has a volatile field, if they are equal in every other field. The id is a BLAKE2b hash
of 128 bits over the source's name and that content. Volatile are tokens and signed URLs that Zoom makes
anew for each copy (two copies of `recording.completed` that differed only in these: protocol notes,
section 4, duplicates). The list is part of the scheme: changing it means a new prefix.

Ordering keys, by family of events (documented in docs/architecture.md):

    meeting, webinar, recording, session, and whatever else has one   payload.object.uuid, else .id
    phone                                                             payload.object.call_id
    contact_center                                                    payload.object.engagement_id
    rtms                                                              payload.meeting_uuid, …
    users and agents                                                  payload.object.user_id, else .id
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import msgspec

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
_VOLATILE_MARKS = (b"download_", b"play_url", b"response_url", b"start_url")
"""Cheap to look for; every volatile field holds one of them."""

_MAX_NAME = 200
_MAX_KEY = 200


class Unidentifiable(ValueError):
    """No event can be read in this content; the message says why, without quoting it."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What was read out of one event."""

    digest: bytes
    name: str
    event_ts: int | None
    key: str


class _Object(msgspec.Struct, gc=False):
    uuid: Any = None
    call_id: Any = None
    engagement_id: Any = None
    user_id: Any = None
    id: Any = None


class _Payload(msgspec.Struct, gc=False):
    object: _Object | None = None
    meeting_uuid: Any = None
    webinar_uuid: Any = None
    session_id: Any = None


class _Content(msgspec.Struct, gc=False):
    event: str
    event_ts: int | None = None
    payload: _Payload | None = None


_decode = msgspec.json.Decoder(_Content).decode


class Identifier:
    """Reads the events of one source."""

    def __init__(self, source: str) -> None:
        self._base = blake2b(source.encode() + b"\0", digest_size=16)

    def read(self, content: bytes) -> Reading:
        """Raises `Unidentifiable` where the content is not a JSON object with an `event`."""
        try:
            event = _decode(content)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return self._read_tolerantly(content)
        payload = event.payload
        return Reading(self._digest(content), event.event[:_MAX_NAME], event.event_ts, _key(payload))

    def _digest(self, content: bytes) -> bytes:
        for mark in _VOLATILE_MARKS:
            if mark in content:
                return self._hash(_canonical(content))
        return self._hash(content)

    def _hash(self, content: bytes) -> bytes:
        digest = self._base.copy()
        digest.update(content)
        return digest.digest()

    def _read_tolerantly(self, content: bytes) -> Reading:
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
        return Reading(self._digest(content), _clean(name)[:_MAX_NAME], event_ts, _tolerant_key(document))


def _load(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise Unidentifiable(f"the content is not JSON: {type(error).__name__}") from error


def _canonical(content: bytes) -> bytes:
    """The content without its volatile fields, keys sorted, no white space; as it is if it is no JSON."""
    try:
        document = _without_volatile(_load(content))
    except (Unidentifiable, RecursionError):
        return content
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_volatile(inner) for key, inner in value.items() if key not in VOLATILE_FIELDS}
    if isinstance(value, list):
        return [_without_volatile(inner) for inner in value]
    return value


def _key(payload: _Payload | None) -> str:
    if payload is None:
        return ""
    entity = payload.object
    if entity is not None:
        key = entity.uuid or entity.call_id or entity.engagement_id or entity.user_id or entity.id
    else:
        key = payload.meeting_uuid or payload.webinar_uuid or payload.session_id
    if type(key) is str:
        return key if len(key) <= _MAX_KEY else key[:_MAX_KEY]
    return str(key) if type(key) is int else ""


def _tolerant_key(document: dict[str, Any]) -> str:
    payload = document.get("payload")
    if not isinstance(payload, dict):
        return ""
    entity = payload.get("object")
    fields = {name: payload.get(name) for name in ("meeting_uuid", "webinar_uuid", "session_id")}
    if isinstance(entity, dict):
        known = {name: entity.get(name) for name in _Object.__struct_fields__}
        return _clean(_key(_Payload(object=_Object(**known))))
    return _clean(_key(_Payload(**fields)))


def _clean(text: str) -> str:
    """Text that every encoder takes: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _kind(value: Any) -> str:
    return {list: "list", str: "string", type(None): "null", bool: "boolean"}.get(type(value), "number")
