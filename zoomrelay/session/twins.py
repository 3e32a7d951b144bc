"""The paths of one source, so that they keep apart: in time, and on Zoom's side."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from math import inf

from zoomrelay.session.spread import Addresses

SPACING_SECONDS = 2.0
"""Between two attempts that need not be made at once."""


class Twins:
    """One per source. What is told apart are attempts and sockets: a path may have two for a moment."""

    def __init__(self, *, spacing_seconds: float = SPACING_SECONDS) -> None:
        self.addresses = Addresses()
        self._spacing_seconds = spacing_seconds
        self._accepted: set[Hashable] = set()
        self._began = -inf
        self._alone = asyncio.Event()

    def accepted(self, path: Hashable) -> None:
        self._accepted.add(path)
        self._alone.clear()

    def lost(self, path: Hashable) -> None:
        self._accepted.discard(path)
        if not self._accepted:
            self._alone.set()

    def begins(self) -> None:
        """An attempt is made at once, in or out of turn."""
        self._began = asyncio.get_running_loop().time()

    async def turn(self) -> None:
        """Return when a path that is not accepted may connect: at once while no twin is accepted either,
        else some time after the last one that began. The loss of the last accepted twin ends the wait."""
        waited_for = -inf
        # No comparison with the time after a wait: a timer may be a hair early.
        while self._accepted and self._began != waited_for:
            waited_for = self._began
            await self._alone_or(waited_for + self._spacing_seconds)
        self.begins()

    async def _alone_or(self, due: float) -> None:
        try:
            async with asyncio.timeout_at(due):
                await self._alone.wait()
        except TimeoutError:
            pass
