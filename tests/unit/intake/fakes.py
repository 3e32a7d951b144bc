"""A clock that is set by hand, and one that follows the (virtual) loop; a spool that can fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from zoomrelay.errors import SpoolError
from zoomrelay.event import Event
from zoomrelay.spool.base import Quarantined, Remembered
from zoomrelay.spool.memory import MemorySpool

WALL = 1_700_000_000.0


class HandClock:
    """Wall and elapsed time go on together with `sleep`; `step` sets the wall clock only."""

    def __init__(self) -> None:
        self._elapsed = 500.0
        self._offset = WALL - 500.0

    def wall(self) -> float:
        return self._elapsed + self._offset

    def elapsed(self) -> float:
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        self._elapsed += seconds

    def step(self, seconds: float) -> None:
        self._offset += seconds

    def reboot(self) -> None:
        """Elapsed time begins anew, the wall clock goes on."""
        wall = self.wall()
        self._elapsed = 5.0
        self._offset = wall - 5.0


class LoopClock:
    def wall(self) -> float:
        return WALL + self.elapsed()

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time()


class FakeSpool(MemorySpool):
    """Takes `seconds` for a commit, and fails while it is `broken`, then holding nothing."""

    def __init__(self) -> None:
        super().__init__(max_bytes=2**30, clock=LoopClock())
        self.seconds = 0.01
        self.broken = False
        self.held: list[Event] = []
        self.kept: list[Quarantined] = []
        self.commits: list[int] = []
        self.remembered: list[Remembered] = []

    async def append(
        self,
        events: Sequence[Event],
        quarantined: Sequence[Quarantined] = (),
        remembered: Remembered | None = None,
    ) -> None:
        await asyncio.sleep(self.seconds)
        if self.broken:
            raise SpoolError("disk I/O error")
        await super().append(events, quarantined)
        self.commits.append(len(events) + len(quarantined))
        self.held += events
        self.kept += quarantined
        self.remembered += [remembered] if remembered else []
