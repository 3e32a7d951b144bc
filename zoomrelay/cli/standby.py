"""What a relay does after another one has taken over, where whoever started it would only start it again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from zoomrelay.admin.standby import StandbyServer
from zoomrelay.errors import SpoolError, StateDirectoryError
from zoomrelay.spool.statedir import StateDirectory
from zoomrelay.takeover import journal

log = structlog.get_logger()

_LOOK_SECONDS = 0.5


async def stand_by(state_dir: Path, listen: str, is_told_to_stop: Callable[[], bool]) -> bool:
    """Hold nothing, until it is known whether this process is needed again: no other relay lives there
    (True), or somebody wants an end (False). Probes at `listen` learn that it lives, and is not ready."""
    log.info("standby.begun", hint="another relay runs; this one goes on where that one ends")
    server = StandbyServer(listen)
    await server.open()
    try:
        while not is_told_to_stop():
            if is_free(state_dir):
                log.warning("standby.needed", hint="the other relay has ended; this one runs again")
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        log.info("standby.ended")
        return False
    finally:
        await server.close()


def is_free(state_dir: Path) -> bool:
    """Whether no relay holds the state directory, nor is about to take it over."""
    for path in journal.journals(state_dir):
        claim = journal.claim(path)
        if claim is None:
            return False
        claim.release()
    state = StateDirectory(state_dir)
    try:
        state.acquire(create=False)
    except (StateDirectoryError, SpoolError):
        return False
    state.release()
    return True
