"""Urgent events of one sink, which overtake its backlog while they are still in time. Pure.

The stream is looked through a second time, ahead of the reader, from the first event on that may be in time.
What is found is handed out before its turn; the marks know it then, so that its turn passes it by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from zoomrelay.spool.base import Item, SinkStart, Token, Urgency

WINDOW_EVENTS = 256
"""With the reader before their turn at once."""


class UrgentQueue:
    """What was found ahead, and how far it was looked."""

    window = WINDOW_EVENTS

    def __init__(self, sink: SinkStart, urgency: Urgency) -> None:
        self._wants = sink.wants
        self._urgency = urgency
        self.position: Token = 0
        """Up to here the stream was looked through."""
        self._found: deque[Item] = deque()

    def is_urgent(self, name: str) -> bool:
        return self._urgency.is_urgent(name)

    @property
    def found(self) -> bool:
        """Whether something waits to be handed out."""
        return bool(self._found)

    @property
    def looked_to(self) -> Token:
        """Everything urgent up to here has been handed out, or is late."""
        return self._found[0].token - 1 if self._found else self.position

    def since_ms(self, now_ms: float) -> int:
        """What was received before this is late, whatever it is."""
        return int(now_ms - self._urgency.longest_seconds * 1000)

    def begin_anew(self) -> None:
        """Look through everything once more."""
        self._found.clear()
        self.position = 0

    def pass_to(self, token: Token) -> None:
        """The reader was given everything up to here."""
        while self._found and self._found[0].token <= token:
            self._found.popleft()
        self.position = max(self.position, token)

    def add(self, items: Sequence[Item], after: Token, position: Token, now_ms: float) -> None:
        """What stands in the stream between these numbers, of which some may have been passed meanwhile."""
        if after <= self.position < position:
            new = [item for item in items if item.token > self.position]
            self._found += [item for item in new if self._may_go(item, now_ms)]
            self.position = position

    def take(self, limit: int, now_ms: float, is_there: Callable[[Token], bool]) -> list[Item]:
        """The first of those that are still there and in time."""
        items: list[Item] = []
        while self._found and len(items) < limit:
            item = self._found.popleft()
            if is_there(item.token) and self._in_time(item, now_ms):
                items.append(item)
        return items

    def _may_go(self, item: Item, now_ms: float) -> bool:
        return self._in_time(item, now_ms) and self._wants(item.event.name, item.event.source)

    def _in_time(self, item: Item, now_ms: float) -> bool:
        seconds = self._urgency.deadline_seconds(item.event.name)
        return self.is_urgent(item.event.name) and now_ms - item.event.received_ms <= seconds * 1000
