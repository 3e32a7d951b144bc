"""Where dead letters are to be had: from the running relay, or from the spool of one that is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from zoomrelay.admin.client import ControlClient
from zoomrelay.config.models import Config
from zoomrelay.errors import ControlRefused, RelayNotRunning
from zoomrelay.spool.base import DeadLetter, Spool

_T = TypeVar("_T")


class DeadLetters(Protocol):
    """What the commands need; errors are those of `ControlClient` and of the spool."""

    when: str
    """When a redriven event goes out, in words."""
    running: bool
    """Whether a relay runs."""

    page_size: int
    """How many to list at once."""

    def listed(self, sink: str | None, limit: int, before: int | None) -> list[DeadLetter]: ...

    def one(self, number: int) -> DeadLetter | None: ...

    def redrive(self, numbers: Sequence[int]) -> int: ...

    def discard(self, numbers: Sequence[int]) -> int: ...


def dead_letters(state_dir: Path, load: Callable[[], Config]) -> DeadLetters:
    """Those of this state directory; where no relay runs, `load` gives the configuration, secrets and all.
    Raises `RelayNotRunning` where they ended with the relay, and `StateDirectoryError`."""
    running = _Running(ControlClient(state_dir))
    try:
        running.listed(None, 1, None)
    except RelayNotRunning as error:
        config = load()
        if config.spool.type == "memory":
            words = f"{error}; its spool is in memory, so dead letters end with the relay"
            raise RelayNotRunning(words) from error
        return _Stopped(config)
    return running


class _Count(msgspec.Struct):
    count: int


class _Running:
    """Through the control socket."""

    when = "now"
    running = True
    page_size = 1000

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def listed(self, sink: str | None, limit: int, before: int | None) -> list[DeadLetter]:
        return self._client.get("/dlq", list[DeadLetter], sink=sink, limit=limit, before=before)

    def one(self, number: int) -> DeadLetter | None:
        try:
            return self._client.get(f"/dlq/{number}", DeadLetter)
        except ControlRefused as error:
            if error.status == 404:
                return None
            raise

    def redrive(self, numbers: Sequence[int]) -> int:
        return self._client.post("/dlq/redrive", _Count, {"numbers": numbers}).count

    def discard(self, numbers: Sequence[int]) -> int:
        return self._client.post("/dlq/discard", _Count, {"numbers": numbers}).count


class _Stopped:
    """In the spool itself, whose lock is held for as long as that takes."""

    when = "at the next start"
    running = False
    page_size = 10**9  # each question opens the spool

    def __init__(self, config: Config) -> None:
        self._config = config

    def listed(self, sink: str | None, limit: int, before: int | None) -> list[DeadLetter]:
        return self._ask(lambda spool: spool.dead_letters(sink=sink, limit=limit, before=before))

    def one(self, number: int) -> DeadLetter | None:
        return self._ask(lambda spool: spool.dead_letter(number))

    def redrive(self, numbers: Sequence[int]) -> int:
        return self._ask(lambda spool: spool.redrive(numbers))

    def discard(self, numbers: Sequence[int]) -> int:
        return self._ask(lambda spool: spool.discard(numbers))

    def _ask(self, question: Callable[[Spool], Awaitable[_T]]) -> _T:
        async def answer() -> _T:
            async with opened(self._config) as spool:
                return await question(spool)

        return asyncio.run(answer())


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Spool]:
    """The spool of a relay that is stopped, whose lock is held meanwhile."""
    # Only here: a running relay is asked far faster without these.
    from zoomrelay.app import build_spool, sink_starts
    from zoomrelay.clock import SystemClock
    from zoomrelay.spool.memory import MemorySpool
    from zoomrelay.spool.sqlite import FILE_NAME
    from zoomrelay.spool.statedir import StateDirectory
    from zoomrelay.telemetry.logs import configure_logging

    configure_logging(config.log)
    state = StateDirectory(config.state_dir)
    state.acquire(create=False)
    try:
        # Looking must not make a spool where there is none.
        there = (config.state_dir / FILE_NAME).exists()
        spool = build_spool(config, SystemClock()) if there else MemorySpool(max_bytes=1, clock=SystemClock())
        try:
            await spool.open(sink_starts(config))
            yield spool
        finally:
            await spool.close()
    finally:
        state.release()
