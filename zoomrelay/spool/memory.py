"""A spool in memory: as fast as can be, and gone with the process."""

from __future__ import annotations

from collections.abc import Sequence

from zoomrelay.clock import Clock
from zoomrelay.errors import ReplayRefused
from zoomrelay.event import Event
from zoomrelay.spool.base import (
    Choice,
    DeadLetter,
    Item,
    Outcome,
    Quarantined,
    Remembered,
    SinkStart,
    SpoolStats,
    Token,
)
from zoomrelay.spool.eviction import SHED_AT_ONCE, OnShed
from zoomrelay.spool.marked import MarkedSpool, tally, total_bytes
from zoomrelay.spool.marks import Changes, SinkMarks
from zoomrelay.spool.memory_dead import DeadLetters
from zoomrelay.spool.recent import cut

_AHEAD_EVENTS = 1024


class MemorySpool(MarkedSpool):
    """Keeps up to `max_bytes` of events; `on_shed(sink, count)` is told of losses."""

    _EVENT_BYTES = 400

    def __init__(self, *, max_bytes: int, clock: Clock, on_shed: OnShed = lambda _sink, _count: None) -> None:
        super().__init__(clock, recent_bytes=0, on_shed=on_shed)
        self._max_bytes = max_bytes
        self._stream: dict[Token, Item] = {}
        self._first: Token = 1
        """The oldest number that may be in the stream."""
        self._stream_bytes = 0
        self._parked: dict[str, dict[str, dict[Token, Item]]] = {}
        self._dead = DeadLetters(max_bytes)

    async def open(self, sinks: Sequence[SinkStart]) -> None:
        self._take_sinks(sinks)

    async def set_sinks(self, sinks: Sequence[SinkStart]) -> None:
        self._take_sinks(sinks)

    async def append(
        self,
        events: Sequence[Event],
        quarantined: Sequence[Quarantined] = (),
        remembered: Remembered | None = None,
    ) -> None:
        del remembered  # it would not survive a restart, nor do the events
        self._age_orphans()
        for event in events:
            self._last += 1
            self._stream[self._last] = Item(self._last, event)
        arrived = tally(events)
        self._stream_bytes += total_bytes(arrived) + len(events) * self._EVENT_BYTES
        self._count_received(arrived)
        for frame in quarantined:
            self._source((frame.source, frame.subscription)).quarantined += 1
            self._dead.add_frame(frame)
        self._make_room(keep=len(events))
        self._forget_bounded_away()
        self._wake_readers()

    async def flush(self) -> None:
        """Nothing is ever more durable than it is now."""

    async def close(self) -> None:
        """Nothing to let go of."""

    def stats(self) -> SpoolStats:
        self._drop_settled()
        counts = self._sink_counts()
        for sink, count in counts.items():
            count.dead_letters = self._dead.count(sink)
        return SpoolStats(
            events=len(self._stream),
            bytes=self._stream_bytes + self._parked_bytes(),
            max_bytes=self._max_bytes,
            sinks=counts,
            sources=self._source_counts(),
            paths=self._path_counts(),
        )

    async def _span(self, choice: Choice) -> tuple[Token, Token]:
        del choice
        raise ReplayRefused("the spool is in memory: it keeps nothing that was delivered")

    async def _read_held(self, after: Token, end: Token) -> tuple[list[Item], Token, int]:
        raise NotImplementedError("never asked, for there is no span")

    async def _read_ahead(self, after: Token, since_ms: int) -> tuple[list[Item], Token]:
        del since_ms  # nothing is gained by looking for it
        start = max(after + 1, self._first)
        end = min(start + _AHEAD_EVENTS, self._last + 1)
        numbers = range(start, end)
        return [item for number in numbers if (item := self._stream.get(number)) is not None], end - 1

    # --- dead letters -------------------------------------------------------------------------------

    async def dead_letters(
        self, *, sink: str | None = None, limit: int = 1000, before: int | None = None
    ) -> list[DeadLetter]:
        return self._dead.newest(sink, limit, before)

    async def dead_letter(self, number: int) -> DeadLetter | None:
        return self._dead.get(number)

    async def redrive(self, numbers: Sequence[int]) -> int:
        count = 0
        for number in numbers:
            letter = self._dead.get(number)
            marks = self._live_sink(letter.sink) if letter is not None else None
            if marks is not None and number not in marks.redriven:
                self._dead.update(number, redriving=True)
                marks.redriven.add(number, self._clock.elapsed())
                count += 1
        self._wake_readers()
        return count

    async def discard(self, numbers: Sequence[int]) -> int:
        gone = [number for number in numbers if self._dead.remove(number)]
        for marks in self._marks.values():
            marks.redriven.forget(gone)
        return len(gone)

    def _forget_bounded_away(self) -> None:
        gone = self._dead.bound()
        for marks in self._marks.values():
            marks.redriven.forget(gone)

    # --- storage ------------------------------------------------------------------------------------

    def _oldest(self) -> Token:
        self._drop_settled()
        return self._first - 1

    def _orphan_aged(self, marks: SinkMarks) -> None:
        if marks.given_up:
            self._parked.pop(marks.name, None)

    def _store(self, marks: SinkMarks, changes: Changes) -> None:
        lanes = self._parked.setdefault(marks.name, {})
        for lane, item in changes.parked:
            lanes.setdefault(lane, {})[item.token] = item
        for lane, token in changes.unparked:
            del lanes[lane][token]
        for lane in changes.lanes:
            if lane not in marks.lanes.by_name:
                lanes.pop(lane, None)
        for number in changes.redelivered:
            self._dead.remove(number)
        for death in changes.died_again:
            self._dead.die_again(death)
        for death in changes.deaths:
            self._dead.add(marks.name, death, self._clock.wall())
        if changes.deaths:
            self._forget_bounded_away()

    async def _read_lane(self, marks: SinkMarks, lane: str, limit: int) -> list[Item]:
        waiting = self._parked[marks.name][lane]
        return [waiting[token] for token in sorted(waiting)[:limit]]

    async def _read_dead(self, numbers: Sequence[int]) -> list[Item]:
        return [self._dead.item(number) for number in numbers]

    async def _read_stream(self, marks: SinkMarks, max_events: int, max_bytes: int) -> list[Item]:
        end = min(marks.handed + max_events, self._last)
        numbers = range(marks.handed + 1, end + 1)
        items = [item for number in numbers if (item := self._stream.get(number)) is not None]
        if len(items) < len(numbers):
            self._end_holes(marks, items, end)
        if not items:
            marks.handed = max(marks.handed, end)
        return cut(items, max_bytes)

    # --- making room --------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return self._stream_bytes + self._parked_bytes() > self._max_bytes

    def _make_room(self, keep: int) -> None:
        """Free space until everything fits, except that the newest `keep` events always stay."""
        if self._is_full():
            self._drop_settled()
        if self._is_full():
            self._thin()
        while self._is_full() and (self._shed_parked() or self._shed_oldest(keep)):
            pass

    def _drop_settled(self) -> None:
        done = self._eviction.done_to(self._last)
        while self._first <= done:
            self._remove(self._first)
            self._first += 1

    def _thin(self) -> None:
        """Take out what no lagging sink wants."""
        end = self._eviction.thin_to(self._last, len(self._stream))
        for number in range(max(self._first, self._thinned_to + 1), end + 1):
            item = self._stream.get(number)
            if item is not None and not self._eviction.is_wanted(number, item.event.name, item.event.source):
                self._remove(number)
        self._thinned_to = max(self._thinned_to, end)

    def _shed_parked(self) -> bool:
        found = self._eviction.parked_victims(self._last)
        if found is None:
            return False
        marks, lanes = found
        for lane in lanes:
            if self._is_full():
                waiting = self._parked[marks.name][lane]
                tokens = sorted(waiting)[:SHED_AT_ONCE]
                size_bytes = sum(len(waiting[token].event.content) for token in tokens)
                self._store(marks, marks.end_parked(lane, tokens, size_bytes, Outcome.SHED))
                self._eviction.tell(marks, len(tokens))
        return True

    def _shed_oldest(self, keep: int) -> bool:
        if self._first > self._last - keep:
            return False
        self._eviction.shed_to(self._first)
        self._drop_settled()
        return True

    def _remove(self, number: Token) -> None:
        item = self._stream.pop(number, None)
        if item is not None:
            self._stream_bytes -= len(item.event.content) + self._EVENT_BYTES
