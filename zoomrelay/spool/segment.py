"""The durable form of a run of events: one index and one blob. Pure.

A commit of many events is a few rows, not many: this more than halves the CPU time per event and keeps the
interpreter out of the database's inner loop (docs/decisions/0002-segments.md).

Index: a JSON array with one entry per event, in order:

    [seq - first, path, digest in hex, name, event_ts or null, key, received_ms, crc, offset, length]

`offset` and `length` (bytes) say where the event's content stands in the blob, `crc` is the CRC-32 of
those bytes, started with the first four bytes of the digest so that swapped contents are found too.
`path` is a row of the table `paths`. The CRC-32 of the index and of the row's own numbers stands in the row.

Where events were taken out to save space, `events` is less than the numbers from `first` to `last`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import msgspec

from zoomrelay.event import Event
from zoomrelay.spool.base import Item, Token

MAX_EVENTS = 1024
"""Events in one segment at most, so that a reader that is behind reads in small portions."""
MAX_BYTES = 1024 * 1024
"""A segment is closed once it holds this many bytes; a single larger event stands alone."""

PathIds = Mapping[tuple[str, str], int]
Paths = Mapping[int, tuple[str, str]]

UNKNOWN_PATH = ("", "")
"""Of events whose row of `paths` was lost with a damaged file; its number is 0."""


class Segment(msgspec.Struct, frozen=True):
    """One row of the table `segments`."""

    first: Token
    last: Token
    events: int
    size: int
    crc: int
    received_ms: int
    """Of the newest event in it. Not in the checksum: it decides only how long delivered events stay."""
    index: bytes
    content: bytes


class Stretch(msgspec.Struct):
    """What could be read of one row."""

    first: Token
    last: Token
    items: list[Item]
    damaged: list[Item]
    """Events whose content does not fit their checksum; everything else in them does."""
    unreadable: bytes | None = None
    """The blob, where the index is damaged and so nothing can be read."""
    holes: bool = False
    """Events were taken out."""


_Entry = tuple[int, int, str, str, int | None, str, int, int, int, int]
_encode_index = msgspec.json.Encoder().encode
_decode_index = msgspec.json.Decoder(list[_Entry]).decode


def checksum(digest: bytes, content: bytes) -> int:
    """The CRC-32 that is stored beside an event."""
    return crc32(content, int.from_bytes(digest[:4], "big"))


def _row_checksum(first: Token, last: Token, events: int, index: bytes) -> int:
    return crc32(b"%d %d %d" % (first, last, events), crc32(index))


def split(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Cut a batch into runs that fit into one segment each."""
    runs = []
    start = size = 0
    for at, item in enumerate(items):
        length = len(item.event.content)
        if at > start and (at - start >= MAX_EVENTS or size + length > MAX_BYTES):
            runs.append(items[start:at])
            start, size = at, 0
        size += length
    runs.append(items[start:])
    return runs


def encode(
    items: Sequence[Item], path_ids: PathIds, first: Token | None = None, last: Token | None = None
) -> Segment:
    """Make the row for a run of items; tokens rise, but need not be without holes. `first` and `last` say
    where the run began and ended before some of it was taken out.

    Raises OverflowError or UnicodeEncodeError for events that are not `storable`.
    """
    first = items[0].token if first is None else first
    last = items[-1].token if last is None else last
    offset = 0
    entries = []
    for item in items:
        event = item.event
        content = event.content
        digest = event.digest
        entries.append(
            (
                item.token - first,
                path_ids[event.source, event.subscription],
                digest.hex(),
                event.name,
                event.event_ts,
                event.key,
                event.received_ms,
                crc32(content, int.from_bytes(digest[:4], "big")),
                offset,
                len(content),
            )
        )
        offset += len(content)
    index = _encode_index(entries)
    crc = _row_checksum(first, last, len(items), index)
    newest_ms = max([item.event.received_ms for item in items], default=0)
    content = b"".join([item.event.content for item in items])
    return Segment(first, last, len(items), offset, crc, newest_ms, index, content)


def storable(event: Event) -> Event:
    """The event with what no storage takes replaced: half surrogates, and numbers beyond 64 bits."""
    event_ts = event.event_ts
    if event_ts is not None and not -(2**63) <= event_ts < 2**63:
        event_ts = None
    return msgspec.structs.replace(
        event, name=plain_text(event.name), key=plain_text(event.key), event_ts=event_ts
    )


def plain_text(text: str) -> str:
    """The text with half surrogates replaced."""
    return text.encode("utf-8", "replace").decode()


# --- reading ----------------------------------------------------------------------------------------


def decode(segment: Segment, paths: Paths) -> Stretch:
    """Everything that can be read of a row; damage of any kind never raises."""
    entries = _entries(segment)
    last = segment.last if type(segment.last) is int else segment.first
    stretch = Stretch(segment.first, last, [], [])
    if entries is None or type(segment.content) is not bytes:
        stretch.unreadable = segment.content if type(segment.content) is bytes else b""
        return stretch
    stretch.holes = segment.events < segment.last - segment.first + 1
    for step, path, digest_hex, name, event_ts, key, received_ms, crc, offset, length in entries:
        digest = bytes.fromhex(digest_hex)
        content = segment.content[offset : offset + length]
        source, subscription = paths.get(path, UNKNOWN_PATH)
        event = Event(digest, source, subscription, name, event_ts, key, received_ms, content)
        fits = crc32(content, int.from_bytes(digest[:4], "big")) == crc
        (stretch.items if fits else stretch.damaged).append(Item(segment.first + step, event))
    return stretch


def names(segment: Segment, paths: Paths) -> list[tuple[Token, str, str]]:
    """(token, event name, source) of every event in a row whose content need not be there; empty where the
    index is damaged."""
    return [
        (segment.first + entry[0], entry[3], paths.get(entry[1], UNKNOWN_PATH)[0])
        for entry in _entries(segment) or ()
    ]


def _entries(segment: Segment) -> list[_Entry] | None:
    """The index; None where it is damaged, be it that a column has changed its type."""
    numbers: tuple[Any, ...] = (segment.first, segment.last, segment.events)
    if not all(type(number) is int for number in numbers) or type(segment.index) is not bytes:
        return None
    if _row_checksum(segment.first, segment.last, segment.events, segment.index) != segment.crc:
        return None
    return _decode_index(segment.index)
