"""The lanes that one sink has set aside, and the dead letters that are on their way to it again. Pure.

A parked lane is a queue of its own beside the stream. It is handed out portion by portion: the next
portion goes when the one before has ended, so one stuck lane takes a bounded share of the reader's window.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from zoomrelay.spool.base import Failing, Item, Token


@dataclass(slots=True)
class Lane:
    """A parked lane."""

    until: float
    """When its head is due, in terms of `Clock.elapsed`."""
    attempts: int = 0
    waited_seconds: float = 0.0
    head: Token = 0
    """The event that `attempts`, `waited_seconds` and `failing` speak of; 0 once it has left."""
    failing: Failing | None = None
    """In memory only, and for the reader that said so."""
    waiting: int = 0
    """Parked events that are not handed out."""
    lent: int = 0
    """Parked events that are handed out and have not ended."""
    oldest_ms: int = 0
    """`received_ms` of its first event, or of one before that."""

    @property
    def ready(self) -> bool:
        return self.waiting > 0 and self.lent == 0

    def with_history(self, item: Item) -> Item:
        """The item as it leaves for the reader: only the head was tried before."""
        if item.token != self.head:
            return item
        return Item(item.token, item.event, self.attempts, self.waited_seconds, failing=self.failing)


class Lanes:
    """The parked lanes of one sink."""

    def __init__(self) -> None:
        self.by_name: dict[str, Lane] = {}
        self.events = 0
        """Parked events, handed out or not."""
        self.size_bytes = 0
        """Of content: of all parked events."""
        self._lent: dict[Token, tuple[str, int]] = {}
        self._due: list[tuple[float, str]] = []

    def holds_back(self, key: str) -> bool:
        """Whether a new event with this key must queue up behind a parked lane."""
        lane = self.by_name.get(key)
        return lane is not None and lane.waiting > 0

    def add(self, name: str, item: Item, until: float = 0.0) -> None:
        """Put an event at the end of a lane, which is made if there is none."""
        lane = self.by_name.get(name)
        if lane is None:
            lane = self.by_name[name] = Lane(until, oldest_ms=item.event.received_ms)
        lane.waiting += 1
        self.events += 1
        self.size_bytes += len(item.event.content)

    def restore(self, name: str, lane: Lane, size_bytes: int) -> None:
        """Put back a lane read from storage."""
        self.by_name[name] = lane
        self.events += lane.waiting
        self.size_bytes += size_bytes
        heapq.heappush(self._due, (lane.until, name))

    def retry_at(
        self,
        name: str,
        until: float,
        head: Token,
        attempts: int,
        waited_seconds: float,
        failing: Failing | None = None,
    ) -> None:
        """Say when a lane is due and, where `head` is the first of it, what was tried on that."""
        lane = self.by_name[name]
        lane.until = until
        if not lane.head or head <= lane.head:
            lane.head, lane.attempts, lane.waited_seconds, lane.failing = (
                head,
                attempts,
                waited_seconds,
                failing,
            )
        heapq.heappush(self._due, (until, name))

    # --- to the reader and back ---------------------------------------------------------------------

    def next_due(self) -> tuple[float, str] | None:
        """When the next lane that has something to hand out is due, and its name."""
        while self._due:
            until, name = self._due[0]
            lane = self.by_name.get(name)
            if lane is not None and lane.until == until and lane.ready:
                return until, name
            heapq.heappop(self._due)
        return None

    def lend(self, name: str, items: Sequence[Item]) -> None:
        """Note that these events of a lane leave for the reader."""
        lane = self.by_name[name]
        lane.waiting -= len(items)
        lane.lent += len(items)
        lane.oldest_ms = items[0].event.received_ms
        self._lent.update((item.token, (name, len(item.event.content))) for item in items)

    def lent_from(self, token: Token) -> str | None:
        """The lane of an event that is with the reader."""
        return self._lent.get(token, (None, 0))[0]

    def take_back(self, token: Token) -> None:
        """An event that is with the reader waits in its lane again."""
        name, _ = self._lent.pop(token)
        lane = self.by_name[name]
        lane.lent -= 1
        lane.waiting += 1

    def take_back_all(self) -> None:
        """The reader is gone."""
        for name in {name for name, _ in self._lent.values()}:
            lane = self.by_name[name]
            lane.waiting += lane.lent
            lane.lent = 0
            heapq.heappush(self._due, (lane.until, name))
        self._lent.clear()
        for lane in self.by_name.values():
            lane.failing = None

    # --- ends ---------------------------------------------------------------------------------------

    def end(self, token: Token) -> bool:
        """An event that is with the reader has ended; whether its lane's own row changed by that."""
        name, size_bytes = self._lent.pop(token)
        lane = self.by_name[name]
        lane.lent -= 1
        return self._gone(name, lane, 1, size_bytes, head_left=token == lane.head)

    def drop(self, name: str, tokens: Sequence[Token], size_bytes: int) -> None:
        """Waiting events of a lane have ended where they were."""
        lane = self.by_name[name]
        lane.waiting -= len(tokens)
        self._gone(name, lane, len(tokens), size_bytes, head_left=lane.head in tokens)

    def drop_lost(self, name: str) -> int:
        """Nothing of what waits in this lane is in storage any more; how many events that were."""
        lane = self.by_name[name]
        lost, lane.waiting = lane.waiting, 0
        self._gone(name, lane, lost, 0, head_left=lane.lent == 0)
        return lost

    def _gone(self, name: str, lane: Lane, count: int, size_bytes: int, *, head_left: bool) -> bool:
        self.events -= count
        # Not exact after a loss in storage, where nobody knows the size of what went.
        self.size_bytes = max(self.size_bytes - size_bytes, 0) if self.events else 0
        if lane.waiting == 0 and lane.lent == 0:
            del self.by_name[name]
            return True
        if lane.ready:
            heapq.heappush(self._due, (lane.until, name))
        if head_left and lane.head:
            lane.head, lane.attempts, lane.waited_seconds, lane.failing = 0, 0, 0.0, None
            return True
        return False


class Redriven:
    """Dead letters to be handed out again."""

    def __init__(self) -> None:
        self._waiting: dict[int, float] = {}
        self._lent: set[int] = set()
        self._tried: dict[int, tuple[int, float, Failing | None]] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._waiting or number in self._lent

    def __len__(self) -> int:
        return len(self._waiting) + len(self._lent)

    def is_lent(self, number: int) -> bool:
        return number in self._lent

    def add(self, number: int, at: float) -> None:
        """Hand it out at this moment of `Clock.elapsed`, whether it was with the reader or not."""
        self._lent.discard(number)
        self._waiting[number] = at

    def retry(
        self, number: int, at: float, attempts: int, waited_seconds: float, failing: Failing | None
    ) -> None:
        """The reader gives it back: hand it out at this moment, with what was tried since it was redriven."""
        self.add(number, at)
        self._tried[number] = attempts, waited_seconds, failing

    def with_history(self, item: Item) -> Item:
        """The item as it leaves for the reader. What was tried does not survive a restart."""
        tried = self._tried.get(-item.token)
        if tried is None:
            return item
        attempts, waited_seconds, failing = tried
        return Item(item.token, item.event, attempts, waited_seconds, redriven=True, failing=failing)

    def due(self, now: float, limit: int) -> list[int]:
        """Numbers of dead letters to hand out now."""
        return list(islice((number for number, at in self._waiting.items() if at <= now), limit))

    def next_due(self) -> float | None:
        return min(self._waiting.values(), default=None)

    def lend(self, numbers: Iterable[int]) -> None:
        """Note that these leave for the reader."""
        for number in numbers:
            del self._waiting[number]
            self._lent.add(number)

    def take_back_all(self, now: float) -> None:
        """The reader is gone."""
        self._waiting.update(dict.fromkeys(self._lent, now))
        self._lent.clear()
        self._tried = {number: (*tried[:2], None) for number, tried in self._tried.items()}

    def forget(self, numbers: Iterable[int]) -> None:
        """These dead letters are gone, or dead again."""
        for number in numbers:
            self._waiting.pop(number, None)
            self._lent.discard(number)
            self._tried.pop(number, None)
