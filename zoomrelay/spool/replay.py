"""One replay: events that are held are handed to one sink once more. Pure.

A replay lives in memory and ends with the process. It gives out few events at a time, and only what is
settled makes room for more; so it needs little memory, and cancelling it leaves little under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from zoomrelay.spool.base import Choice, Item, Progress, Settlement, Token

REPLAYED: Token = 1 << 60
"""Added to the token of an event while it is replayed."""
WINDOW_EVENTS = 64
"""With the reader at once."""
_BURST_SECONDS = 0.1


class ReplayQueue:
    """One replay to one sink of what stands behind `after`, up to `end`."""

    def __init__(
        self, sink: str, choice: Choice, after: Token, end: Token, events_per_second: float | None = None
    ) -> None:
        self.sink = sink
        self.choice = choice
        self.position = after
        """Up to here the stream was read."""
        self.end = end
        self.ended = False
        """Everything has ended, or `close` was called."""
        self._after = after
        self._rate = events_per_second
        self._waiting: deque[Item] = deque()
        self._lent: dict[Token, Item] = {}
        self._sent = self._failed = self._damaged = self._newest_ms = self._portion_ms = 0
        self._next_at = 0.0
        self._error = ""
        self._look()

    @property
    def needs_more(self) -> bool:
        """Whether the next portion of the stream is to be read."""
        return not self._waiting and self.position < self.end

    def due(self) -> float | None:
        """When there is something to read or to hand out, in terms of `Clock.elapsed`; None while there is
        not."""
        if self.ended or len(self._lent) >= WINDOW_EVENTS:
            return None
        return self._next_at if self._waiting or self.needs_more else None

    def add(self, items: Sequence[Item], position: Token, damaged: int) -> None:
        """What was read of the stream up to `position`."""
        self._damaged += damaged
        self.position = position
        self._portion_ms = min((item.event.received_ms for item in items), default=self._portion_ms)
        for item in items:
            self._newest_ms = max(self._newest_ms, item.event.received_ms)
            if self.choice.takes(item.event):
                event = msgspec.structs.replace(item.event, replayed=True)
                self._waiting.append(Item(REPLAYED + item.token, event))
        self._look()

    def lend(self, now: float, limit: int) -> list[Item]:
        """The next events for the reader."""
        limit = min(limit, WINDOW_EVENTS - len(self._lent), len(self._waiting))
        if self._rate is not None:
            limit = min(limit, max(1, int(self._rate * _BURST_SECONDS)))
            self._next_at = max(self._next_at, now) + limit / self._rate
        items = [self._waiting.popleft() for _ in range(limit)]
        self._lent.update((item.token, item) for item in items)
        return items

    def settle(self, settlement: Settlement) -> int:
        """Take out of a settlement what is ours; how many of that were delivered."""
        if not self._lent:
            return 0
        sent = sum([self._lent.pop(token, None) is not None for token in settlement.delivered])
        for token in (*settlement.filtered, *settlement.expired):
            self._lent.pop(token, None)
        failed = [self._lent.pop(death.item.token, None) for death in settlement.dead]
        self._sent += sent
        self._failed += sum([item is not None for item in failed])
        self._take_back([item.token for parked in settlement.parked for item in parked.items])
        self._look()
        return sent

    def take_back_all(self) -> None:
        """The reader is gone."""
        self._take_back(list(self._lent))

    def close(self, error: str = "") -> None:
        """Hand out nothing more."""
        if not self.ended:
            self._error = error
            self.ended = True

    def progress(self) -> Progress:
        unsettled = [*self._lent.values(), *list(self._waiting)[:1]]
        first = min(unsettled, key=lambda item: item.token, default=None)
        token = self.position if first is None else first.token - REPLAYED - 1
        return Progress(
            sent=self._sent,
            failed=self._failed,
            damaged=self._damaged,
            part=(token - self._after) / (self.end - self._after) if self.end > self._after else 1.0,
            reached_ms=max(self.choice.since_ms, self._reached_ms()),
            ended=self.ended,
            error=self._error,
        )

    def _reached_ms(self) -> int:
        """Rather too early: what was received earlier may stand behind what was received later. So what was
        not read yet counts as received with the first of what was read last."""
        open_ms = [item.event.received_ms for item in (*self._lent.values(), *self._waiting)]
        if self.position < self.end:
            open_ms.append(self._portion_ms)
        return min(open_ms, default=self._newest_ms)

    def _take_back(self, tokens: Sequence[Token]) -> None:
        items = [item for token in sorted(tokens, reverse=True) if (item := self._lent.pop(token, None))]
        self._waiting.extendleft(items)

    def _look(self) -> None:
        if self.position >= self.end and not self._waiting and not self._lent:
            self.ended = True
