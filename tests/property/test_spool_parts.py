"""Ranges against a set of numbers; segments there and back, and with flipped bytes."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from zoomrelay.event import Event
from zoomrelay.spool.base import Item
from zoomrelay.spool.ranges import Ranges
from zoomrelay.spool.recent import Recent
from zoomrelay.spool.segment import MAX_BYTES, MAX_EVENTS, Segment, decode, encode, names, split

pairs = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


# --- ranges -----------------------------------------------------------------------------------------


@given(st.lists(pairs, max_size=30))
def test_ranges_are_a_set_of_numbers(added: list[tuple[int, int]]) -> None:
    ours, model = Ranges(), set[int]()
    for start, end in added:
        new = set(range(start, end + 1)) - model
        assert ours.add(start, end) == len(new)
        model |= new
        assert ours.count == len(model)
    assert [number for number in range(-1, 75) if number in ours] == sorted(model)
    assert bool(ours) == bool(model)
    flat = list(ours)
    assert flat == sorted(flat)
    assert all(start <= end for start, end in flat)
    # Neither overlapping nor adjacent: there is one way only to write a set down.
    assert all(end + 1 < start for (_, end), (start, _) in itertools.pairwise(flat))
    assert list(Ranges(flat)) == flat


@given(st.lists(pairs, max_size=30), st.integers(0, 60))
def test_taking_the_first_range(added: list[tuple[int, int]], start: int) -> None:
    ours = Ranges(added)
    before = list(ours)
    end = ours.take_from(start)
    if before and before[0][0] == start:
        assert end == before[0][1]
        assert list(ours) == before[1:]
    else:
        assert end is None
        assert list(ours) == before
    assert ours.count == sum(end - start + 1 for start, end in ours)


# --- segments ---------------------------------------------------------------------------------------

PATHS = {1: ("main", "s1"), 2: ("other", "s2")}
PATH_IDS = {path: number for number, path in PATHS.items()}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
events = st.builds(
    lambda path, **fields: Event(source=path[0], subscription=path[1], **fields),
    st.sampled_from(list(PATH_IDS)),
    digest=st.binary(min_size=16, max_size=16),
    name=texts,
    event_ts=st.none() | st.integers(-(2**63), 2**63 - 1),
    key=texts,
    received_ms=st.integers(0, 2**50),
    content=st.binary(max_size=60),
)


@st.composite
def runs(draw: st.DrawFn) -> list[Item]:
    tokens = sorted(draw(st.sets(st.integers(1, 1000), min_size=1, max_size=8)))
    return [Item(token, draw(events)) for token in tokens]


@given(runs())
def test_a_segment_gives_back_what_it_was_made_of(items: list[Item]) -> None:
    segment = encode(items, PATH_IDS)
    stretch = decode(segment, PATHS)
    assert stretch.items == items
    assert (stretch.first, stretch.last) == (items[0].token, items[-1].token)
    assert (stretch.damaged, stretch.unreadable) == ([], None)
    assert stretch.holes == (len(items) < items[-1].token - items[0].token + 1)
    assert names(segment, PATHS) == [(item.token, item.event.name, item.event.source) for item in items]


@given(runs(), st.data())
def test_a_thinned_segment_keeps_its_numbers(items: list[Item], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(items), unique_by=lambda item: item.token))
    kept.sort(key=lambda item: item.token)
    stretch = decode(encode(kept, PATH_IDS, items[0].token, items[-1].token), PATHS)
    assert stretch.items == kept
    assert (stretch.first, stretch.last) == (items[0].token, items[-1].token)


@given(runs(), st.data())
def test_a_flipped_byte_of_content_hurts_one_event(items: list[Item], data: st.DataObject) -> None:
    segment = encode(items, PATH_IDS)
    if segment.content:
        at = data.draw(st.integers(0, segment.size - 1))
        stretch = decode(_with(segment, content=_flipped(segment.content, at, data)), PATHS)
        owners = [item for item in items for _ in item.event.content]
        assert [item.token for item in stretch.damaged] == [owners[at].token]
        assert stretch.items == [item for item in items if item.token != owners[at].token]


@given(runs(), st.data())
def test_a_flipped_byte_of_the_index_makes_the_segment_unreadable(
    items: list[Item], data: st.DataObject
) -> None:
    segment = encode(items, PATH_IDS)
    at = data.draw(st.integers(0, len(segment.index) - 1))
    damaged = _with(segment, index=_flipped(segment.index, at, data))
    stretch = decode(damaged, PATHS)
    assert (stretch.items, stretch.damaged, stretch.unreadable) == ([], [], segment.content)
    assert names(damaged, PATHS) == []


@given(runs(), st.sampled_from(["first", "last", "events", "crc"]), st.integers(0, 40))
def test_a_flipped_bit_of_its_numbers_makes_the_segment_unreadable(
    items: list[Item], column: str, bit: int
) -> None:
    segment = encode(items, PATH_IDS)
    damaged = _with(segment, **{column: getattr(segment, column) ^ (1 << bit)})
    assert decode(damaged, PATHS).unreadable == segment.content


@given(
    runs(),
    st.sampled_from(["first", "last", "events", "crc", "index", "content"]),
    st.sampled_from([None, "text", 1.5, b"", -1]),
)
def test_columns_of_another_type_never_raise(items: list[Item], column: str, value: object) -> None:
    stretch = decode(_with(encode(items, PATH_IDS), **{column: value}), PATHS)
    sound = {item.token: item for item in items}
    assert all(sound[item.token] == item for item in stretch.items)


@given(st.lists(st.integers(0, 400_000), max_size=30))
def test_a_batch_is_cut_into_runs_that_fit(sizes: list[int]) -> None:
    blank = Event(bytes(16), "main", "s1", "", None, "", 0, b"")
    items = [
        Item(token, msgspec.structs.replace(blank, content=bytes(size)))
        for token, size in enumerate(sizes, 1)
    ]
    found = split(items)
    assert [item for run in found for item in run] == items
    for run in found:
        assert len(run) == 1 or sum(len(item.event.content) for item in run) <= MAX_BYTES


def test_a_batch_of_many_small_ones_is_cut_too() -> None:
    blank = Event(bytes(16), "main", "s1", "", None, "", 0, b"")
    items = [Item(token, blank) for token in range(1, 2 * MAX_EVENTS + 2)]
    assert [len(run) for run in split(items)] == [MAX_EVENTS, MAX_EVENTS, 1]


def _with(segment: Segment, **columns: object) -> Segment:
    return msgspec.structs.replace(segment, **columns)


def _flipped(blob: bytes, at: int, data: st.DataObject) -> bytes:
    changed = bytearray(blob)
    changed[at] ^= data.draw(st.integers(1, 255))
    return bytes(changed)


# --- the newest events ------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 6), max_size=12),
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10), st.integers(0, 300)), max_size=10),
)
def test_recent_events_are_a_window_of_the_stream(
    batches: list[int], limit: int, asked: list[tuple[int, int, int]]
) -> None:
    blank = Event(bytes(16), "main", "s1", "", None, "", 0, bytes(50))
    recent, stream = Recent(limit), list[Item]()
    for count in batches:
        batch = [Item(len(stream) + 1 + at, blank) for at in range(count)]
        stream += batch
        recent.add(batch, 50 * count)
    for token, max_events, max_bytes in asked:
        found = recent.after(token, max_events, max_bytes)
        assert found == stream[token : token + len(found)]
        assert len(found) <= max_events
        assert len(found) <= 1 or 50 * len(found) <= max_bytes
    newest = recent.after(len(stream) - (batches[-1] if batches else 0), 10, 10_000)
    assert len(newest) == (batches[-1] if batches else 0)
    recent.drop_to(len(stream))
    assert recent.after(0, 10, 10_000) == []
