"""The newest events, in memory, so that a sink that keeps up never reads the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from zoomrelay.spool.base import Item, Token


class Recent:
    """A run of events with consecutive tokens, bounded in bytes; the newest batch always stays."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._items: list[Item] = []
        self._batches: deque[tuple[Token, int]] = deque()
        self._size_bytes = 0

    def add(self, items: Sequence[Item], size_bytes: int) -> None:
        """Append a batch; its first token follows the last one here."""
        self._items += items
        self._batches.append((items[-1].token, size_bytes))
        self._size_bytes += size_bytes
        while self._size_bytes > self._limit_bytes and len(self._batches) > 1:
            self._drop_first()

    def drop_to(self, token: Token) -> None:
        """Forget batches that every reader has passed."""
        while self._batches and self._batches[0][0] <= token:
            self._drop_first()

    def _drop_first(self) -> None:
        last, size_bytes = self._batches.popleft()
        del self._items[: last + 1 - self._items[0].token]
        self._size_bytes -= size_bytes

    def after(self, token: Token, max_events: int, max_bytes: int) -> list[Item]:
        """Events from `token` + 1 on, or nothing if those are not here (any more)."""
        if not self._items:
            return []
        at = token + 1 - self._items[0].token
        return cut(self._items[at : at + max_events], max_bytes) if at >= 0 else []


def cut(items: list[Item], max_bytes: int) -> list[Item]:
    """The first of these that fit; at least one."""
    size_bytes = 0
    for at, item in enumerate(items):
        size_bytes += len(item.event.content)
        if size_bytes > max_bytes and at:
            return items[:at]
    return items
