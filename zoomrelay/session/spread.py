"""Which of the addresses of Zoom's host each path of a source uses: one edge in trouble should not take all
sockets with it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence


class Addresses:
    """One per source. Paths are told apart by their subscriptions' ids."""

    def __init__(self) -> None:
        self._used: dict[str, str] = {}
        self._failed: dict[str, str] = {}

    def in_order(self, path: str, found: Sequence[str]) -> list[str]:
        """Those that no twin uses first, those that failed this path last; otherwise in the order found,
        which is the resolver's."""
        by_twins = {address for other, address in self._used.items() if other != path}
        failed = self._failed.get(path)
        return sorted(dict.fromkeys(found), key=lambda one: (one == failed, one in by_twins))

    def using(self, path: str, address: str) -> None:
        """This path connects there; it stays its address until the next."""
        self._used[path] = address

    def forget(self, path: str) -> None:
        """It is gone."""
        self._used.pop(path, None)
        self._failed.pop(path, None)

    def failed(self, path: str) -> None:
        """The attempt came to no WebSocket."""
        if path in self._used:
            self._failed[path] = self._used[path]
