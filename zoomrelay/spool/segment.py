"""The durable form of a run of events: one index and one blob. Pure.

A commit of many events is a few rows, not many: this halves the CPU time per event and keeps the
interpreter out of the database's inner loop (docs/decisions/0002-segments.md).

Index: a JSON array with one entry per event, in order:

    [seq - first, path, digest in hex, name, event_ts or null, key, received_ms, crc, offset, length]

`offset` and `length` (bytes) say where the event's content stands in the blob, `crc` is the CRC-32 of
those bytes, started with the first four bytes of the digest so that swapped contents are found too.
`path` is a row of the table `paths`. The CRC-32 of the index itself stands in the segment's row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import msgspec

from zoomrelay.event import Event
from zoomrelay.spool.base import Item

MAX_EVENTS = 1024
"""Events in one segment at most, so that a reader that is behind reads in small portions."""
MAX_BYTES = 1024 * 1024
"""A segment is closed once it holds this many bytes; a single larger event stands alone."""

PathIds = Mapping[tuple[str, str], int]
Paths = Mapping[int, tuple[str, str]]


class Segment(msgspec.Struct, frozen=True):
    """One row of the table `segments`."""

    first: int
    last: int
    events: int
    size: int
    crc: int
    index: bytes
    content: bytes


_Entry = tuple[int, int, str, str, int | None, str, int, int, int, int]
_encode_index = msgspec.json.Encoder().encode
_decode_index = msgspec.json.Decoder(list[_Entry]).decode


def checksum(digest: bytes, content: bytes) -> int:
    """The CRC-32 that is stored beside an event."""
    return crc32(content, int.from_bytes(digest[:4], "big"))


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


def encode(items: Sequence[Item], path_ids: PathIds, first: int | None = None) -> Segment:
    """Make the row for a run of items; tokens rise, but need not be without holes. `first` is where the
    run began before some of it was taken out."""
    first = items[0].token if first is None else first
    offset = 0
    entries = []
    for item in items:
        event = item.event
        content = event.content
        entries.append(
            (
                item.token - first,
                path_ids[event.source, event.subscription],
                event.digest.hex(),
                event.name,
                event.event_ts,
                event.key,
                event.received_ms,
                crc32(content, int.from_bytes(event.digest[:4], "big")),
                offset,
                len(content),
            )
        )
        offset += len(content)
    index = _encode_index(entries)
    content = b"".join([item.event.content for item in items])
    return Segment(first, items[-1].token, len(items), len(content), crc32(index), index, content)


def decode(segment: Segment, paths: Paths) -> tuple[list[Item], list[int]]:
    """The readable items of a row, and the sequence numbers of those that are damaged.

    Where the index itself is damaged, every number from `first` to `last` counts as damaged.
    """
    try:
        if crc32(segment.index) != segment.crc:
            raise ValueError("index checksum")
        entries = _decode_index(segment.index)
        return _decode_entries(segment, entries, paths)
    except (ValueError, KeyError):
        return [], list(range(segment.first, segment.last + 1))


def _decode_entries(segment: Segment, entries: list[_Entry], paths: Paths) -> tuple[list[Item], list[int]]:
    items, damaged = [], []
    for step, path, digest_hex, name, event_ts, key, received_ms, crc, offset, length in entries:
        digest = bytes.fromhex(digest_hex)
        content = segment.content[offset : offset + length]
        if crc32(content, int.from_bytes(digest[:4], "big")) != crc:
            damaged.append(segment.first + step)
            continue
        source, subscription = paths[path]
        event = Event(digest, source, subscription, name, event_ts, key, received_ms, content)
        items.append(Item(segment.first + step, event))
    return items, damaged
