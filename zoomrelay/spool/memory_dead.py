"""The dead letters of the spool in memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from zoomrelay.spool.base import DeadLetter, Death, Item, Quarantined
from zoomrelay.spool.eviction import dead_limit_bytes


class DeadLetters:
    """Bounded in bytes apart from the events; numbers are never used twice."""

    def __init__(self, max_bytes: int) -> None:
        self._limit_bytes = dead_limit_bytes(max_bytes)
        self._letters: dict[int, DeadLetter] = {}
        self._items: dict[int, Item] = {}
        self._counts: Counter[str] = Counter()
        self._size_bytes = 0
        self._number = 0

    def get(self, number: int) -> DeadLetter | None:
        return self._letters.get(number)

    def item(self, number: int) -> Item:
        """The event as it is handed out again."""
        return Item(-number, self._items[number].event, self._letters[number].attempts, redriven=True)

    def count(self, sink: str) -> int:
        return self._counts[sink]

    def newest(self, sink: str | None, limit: int, before: int | None = None) -> list[DeadLetter]:
        """The newest before that number, oldest of them first, without content."""
        letters = [letter for letter in self._letters.values() if sink is None or letter.sink == sink]
        letters = [letter for letter in letters if before is None or letter.number < before]
        return [
            msgspec.structs.replace(letter, content=b"") for letter in letters[max(len(letters) - limit, 0) :]
        ]

    def add(self, sink: str, death: Death, wall: float) -> None:
        event = death.item.event
        self._items[self._number + 1] = death.item
        self._add(
            sink=sink,
            source=event.source,
            subscription=event.subscription,
            id=event.id,
            name=event.name,
            received_ms=event.received_ms,
            died_ms=int(wall * 1000),
            reason=death.reason,
            attempts=death.attempts,
            status=death.status,
            excerpt=death.excerpt,
            content=event.content,
        )

    def add_frame(self, frame: Quarantined) -> None:
        self._add(
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
            content=frame.raw,
        )

    def _add(self, **fields: Any) -> None:
        self._number += 1
        letter = DeadLetter(number=self._number, redriving=False, **fields)
        self._letters[self._number] = letter
        self._counts[letter.sink] += 1
        self._size_bytes += len(letter.content)

    def die_again(self, death: Death) -> None:
        """A redriven dead letter failed; keep it with its new reason."""
        self.update(
            -death.item.token,
            redriving=False,
            reason=death.reason,
            attempts=death.attempts,
            status=death.status,
            excerpt=death.excerpt,
        )

    def update(self, number: int, **fields: Any) -> None:
        if number in self._letters:
            self._letters[number] = msgspec.structs.replace(self._letters[number], **fields)

    def remove(self, number: int) -> bool:
        letter = self._letters.pop(number, None)
        self._items.pop(number, None)
        if letter is None:
            return False
        self._counts[letter.sink] -= 1
        self._size_bytes -= len(letter.content)
        return True

    def bound(self) -> list[int]:
        """Let the oldest go until the rest fits; their numbers."""
        gone = []
        while self._size_bytes > self._limit_bytes:
            gone.append(next(iter(self._letters)))
            self.remove(gone[-1])
        return gone
