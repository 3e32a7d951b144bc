"""What a rotating file sink does by itself: ends segments whose time is over, compresses those that ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from zoomrelay.sinks.packing import Packer
from zoomrelay.sinks.thread import IoThread

log = structlog.get_logger()

RETRY_SECONDS = 15.0


class Upkeep:
    """Its tasks run from `start` to `stop`. Trouble with the disk is logged once, and tried again."""

    def __init__(
        self,
        sink: str,
        *,
        rotate_seconds: float,
        finish_due: Callable[[], Coroutine[Any, Any, float | None]],
        packer: Packer | None,
    ) -> None:
        """`finish_due` ends what is due, and says in how many seconds the next segment is; None: there is
        none."""
        self._sink = sink
        self._rotate_seconds = rotate_seconds
        self._finish_due = finish_due
        self._packer = packer
        self._thread = IoThread(f"sink-{sink}-packing")
        self._ended = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Does nothing where it was started."""
        if not self._tasks:
            if self._packer is not None:
                self._packer.start()
            if self._rotate_seconds:
                self._begin("rotation", self._rotate())
            if self._packer is not None:
                self._begin("packing", self._pack(self._packer))
        self.look()

    def look(self) -> None:
        """Segments may have ended. Raises what a task failed with, which is a bug."""
        if self._packer is not None and self._packer.waiting:
            self._ended.set()
        for task in self._tasks:
            if task.done():
                task.result()

    async def stop(self) -> None:
        """May be called without `start`, and twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if self._packer is not None:
            self._packer.stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._thread.stop(lambda: None)

    def _begin(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=f"sink.{self._sink}.{what}"))

    async def _rotate(self) -> None:
        failing = False
        while True:
            try:
                left = await self._finish_due()
            except OSError as error:
                if not failing:
                    log.warning("sink.rotation_failed", sink=self._sink, error=_words(error))
                failing, left = True, RETRY_SECONDS
            else:
                failing = False
            self.look()
            await asyncio.sleep(self._rotate_seconds if left is None else left)

    async def _pack(self, packer: Packer) -> None:
        failing = False
        while True:
            await self._ended.wait()
            self._ended.clear()
            try:
                await self._thread.run(packer.run)
            except OSError as error:
                if not failing:
                    log.warning("sink.packing_failed", sink=self._sink, error=_words(error))
                failing = True
                await asyncio.sleep(RETRY_SECONDS)
                self._ended.set()
            else:
                failing = False


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
