"""A token store that lasts as long as the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zoomrelay.auth.record import Record
from zoomrelay.errors import TokenStoreBusy


class MemoryStore:
    """For tests, for the demonstration, and for who wants nothing on the disk."""

    def __init__(self) -> None:
        self._record = Record()
        self._lock = asyncio.Lock()

    async def read(self) -> Record:
        return self._record

    async def write(self, record: Record) -> None:
        self._record = record

    @asynccontextmanager
    async def lock(self, patience_seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(patience_seconds):
                await self._lock.acquire()
        except TimeoutError:
            raise TokenStoreBusy("the token store is held by another") from None
        try:
            yield
        finally:
            self._lock.release()
