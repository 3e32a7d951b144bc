"""A spool in memory: as fast as can be, and gone with the process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from zoomrelay.clock import Clock
from zoomrelay.event import Event
from zoomrelay.spool.base import (
    DeadLetter,
    Death,
    Item,
    Outcome,
    Quarantined,
    SinkStart,
    SpoolStats,
)
from zoomrelay.spool.marked import MarkedSpool, cut
from zoomrelay.spool.marks import Changes, SinkMarks

_MAX_DEAD = 10_000


class MemorySpool(MarkedSpool):
    """Keeps events in a queue; beyond `max_bytes` the oldest are shed."""

    def __init__(
        self,
        *,
        max_bytes: int,
        clock: Clock,
        on_shed: Callable[[str, int], None] = lambda _sink, _count: None,
    ) -> None:
        super().__init__(clock, recent_bytes=0)
        self._max_bytes = max_bytes
        self._on_shed = on_shed
        self._stream: deque[Item] = deque()
        self._size = 0
        self._parked: dict[str, dict[str, dict[int, Item]]] = {}
        self._dead: dict[int, DeadLetter] = {}
        self._dead_events: dict[int, Item] = {}
        self._dead_number = 0

    async def open(self, sinks: Sequence[SinkStart]) -> None:
        await self.set_sinks(sinks)

    async def append(self, events: Sequence[Event], quarantined: Sequence[Quarantined] = ()) -> None:
        items = [Item(token, event) for token, event in enumerate(events, self._last + 1)]
        self._stream.extend(items)
        self._size += sum(len(event.content) for event in events)
        self._last += len(items)
        self._count_received(items)
        for frame in quarantined:
            self._source((frame.source, frame.subscription)).quarantined += 1
            self._bury(_quarantined_letter(frame))
        self._drop_settled()
        self._shed()
        self._age_orphans()
        self._wake_readers()

    async def flush(self) -> None:
        """Nothing is ever more durable than it is now."""

    async def close(self) -> None:
        """Nothing to let go of."""

    def stats(self) -> SpoolStats:
        self._drop_settled()
        counts = self._sink_counts()
        for sink, count in counts.items():
            count.dead_letters = sum(1 for letter in self._dead.values() if letter.sink == sink)
        return SpoolStats(
            events=len(self._stream),
            bytes=self._size,
            max_bytes=self._max_bytes,
            sinks=counts,
            sources=self._source_counts(),
        )

    # --- dead letters -------------------------------------------------------------------------------

    async def dead_letters(self, *, sink: str | None = None, limit: int = 1000) -> list[DeadLetter]:
        letters = [letter for letter in self._dead.values() if sink is None or letter.sink == sink]
        return [msgspec.structs.replace(letter, content=b"") for letter in letters[-limit:]]

    async def dead_letter(self, number: int) -> DeadLetter | None:
        return self._dead.get(number)

    async def redrive(self, numbers: Sequence[int]) -> int:
        count = 0
        for number in numbers:
            letter = self._dead.get(number)
            if letter is not None and letter.sink in self._marks and not letter.redriving:
                self._dead[number] = msgspec.structs.replace(letter, redriving=True)
                self._marks[letter.sink].redriving[number] = self._clock.elapsed()
                count += 1
        self._wake_readers()
        return count

    async def discard(self, numbers: Sequence[int]) -> int:
        gone = [number for number in numbers if self._dead.pop(number, None)]
        for number in gone:
            self._dead_events.pop(number, None)
        for marks in self._marks.values():
            marks.forget_redriven(gone)
        return len(gone)

    def _bury(self, letter: DeadLetter, item: Item | None = None) -> None:
        self._dead_number += 1
        self._dead[self._dead_number] = msgspec.structs.replace(letter, number=self._dead_number)
        if item is not None:
            self._dead_events[self._dead_number] = item
        while len(self._dead) > _MAX_DEAD:
            oldest = next(iter(self._dead))
            del self._dead[oldest]
            self._dead_events.pop(oldest, None)
            for marks in self._marks.values():
                marks.forget_redriven([oldest])

    # --- storage ------------------------------------------------------------------------------------

    def _oldest(self) -> int:
        return self._stream[0].token - 1 if self._stream else self._last

    def _sinks_changed(self) -> None:
        self._wake_readers()

    def _abandon(self, marks: SinkMarks) -> None:
        marks.counts.abandoned += marks.pending(self._last)
        self._parked.pop(marks.name, None)
        marks.give_up(self._last)

    def _store(self, marks: SinkMarks, changes: Changes) -> None:
        lanes = self._parked.setdefault(marks.name, {})
        for lane, item in changes.parked:
            lanes.setdefault(lane, {})[item.token] = item
        for lane, token in changes.unparked:
            lanes[lane].pop(token, None)
        for lane in changes.lanes:
            if lane not in marks.lanes:
                lanes.pop(lane, None)
        for number in changes.redelivered:
            self._dead.pop(number, None)
            self._dead_events.pop(number, None)
        for death in changes.died_again:
            self._die_again(death)
        for death in changes.deaths:
            self._bury(dead_letter(marks.name, death, self._clock.wall()), death.item)

    def _die_again(self, death: Death) -> None:
        letter = self._dead[-death.item.token]
        self._dead[-death.item.token] = msgspec.structs.replace(
            letter, redriving=False, reason=death.reason, attempts=death.attempts, status=death.status
        )

    async def _read_lane(self, marks: SinkMarks, lane: str, limit: int) -> Sequence[Item]:
        state = marks.lanes[lane]
        rows = sorted(self._parked[marks.name][lane].items())
        waiting = [item for token, item in rows if token > state.after and not marks.is_lent(token)][:limit]
        return [
            with_history(item, state.attempts, state.waited_seconds, head=at == 0)
            for at, item in enumerate(waiting)
        ]

    async def _read_dead(self, numbers: Sequence[int]) -> Sequence[Item]:
        return [
            Item(-number, self._dead_events[number].event, self._dead[number].attempts, redriven=True)
            for number in numbers
        ]

    async def _read_stream(self, marks: SinkMarks, max_events: int, max_bytes: int) -> Sequence[Item]:
        skip = marks.handed + 1 - self._stream[0].token
        found = [self._stream[at] for at in range(skip, min(skip + max_events, len(self._stream)))]
        return cut(found, max_events, max_bytes)

    def _drop_settled(self) -> None:
        dropable = self._dropable()
        while self._stream and self._stream[0].token <= dropable:
            self._size -= len(self._stream.popleft().event.content)

    def _shed(self) -> None:
        """Too much: the oldest go, for whoever still waits for them."""
        first = self._stream[0].token if self._stream else 0
        last = 0
        while self._size > self._max_bytes and len(self._stream) > 1:
            item = self._stream.popleft()
            self._size -= len(item.event.content)
            last = item.token
        if last:
            for marks in self._marks.values():
                count = marks.end_range(first, last, Outcome.SHED)
                if count:
                    self._on_shed(marks.name, count)


def with_history(item: Item, attempts: int, waited_seconds: float, *, head: bool) -> Item:
    """The item as it leaves a parked lane: only the head was tried before."""
    if not head:
        return item
    return Item(item.token, item.event, attempts, waited_seconds)


def dead_letter(sink: str, death: Death, now: float) -> DeadLetter:
    """The dead letter for an event that a sink will not get; its number is given when it is stored."""
    event = death.item.event
    return DeadLetter(
        number=0,
        sink=sink,
        source=event.source,
        subscription=event.subscription,
        id=event.id,
        name=event.name,
        received_ms=event.received_ms,
        died_ms=int(now * 1000),
        reason=death.reason,
        attempts=death.attempts,
        status=death.status,
        excerpt=death.excerpt,
        redriving=False,
        content=event.content,
    )


def _quarantined_letter(frame: Quarantined) -> DeadLetter:
    return DeadLetter(
        number=0,
        sink="",
        source=frame.source,
        subscription=frame.subscription,
        id="",
        name="",
        received_ms=frame.received_ms,
        died_ms=frame.received_ms,
        reason=frame.reason,
        attempts=0,
        status=None,
        excerpt="",
        redriving=False,
        content=frame.raw,
    )
