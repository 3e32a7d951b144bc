"""Journals of takeovers, into intake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from zoomrelay.intake.admit import Intake
from zoomrelay.intake.source import SourceIntake
from zoomrelay.takeover import journal
from zoomrelay.takeover.journal import Journal, Record

log = structlog.get_logger()

_LOOK_SECONDS = 1.0
_SOON_SECONDS = 0.02
_SOON_TRIES = 50


class Journals:
    """Imports them: those that were left behind, at the start and whenever one turns up, and our own.

    Importing one twice does no harm: identities are held with their events."""

    def __init__(self, directory: Path, intake: Intake, source: Callable[[str], SourceIntake]) -> None:
        """`source`: the intake of a source by name, of one that is not configured too."""
        self._directory = directory
        self._intake = intake
        self._source = source
        self._soon = 0
        self._wake = asyncio.Event()

    async def import_left(self) -> None:
        """Every one that nobody writes any more; returns when it is held by the spool."""
        for path in journal.journals(self._directory):
            claim = journal.claim(path)
            if claim is None:
                continue
            try:
                await self._import(path)
                claim.remove()
            finally:
                claim.release()

    async def import_own(self, own: Journal) -> None:
        """Ours, which has ended; returns when it is held and removed."""
        await self._import(own.path)
        while own.rest:
            self._admit(own.rest.pop(0))
        await self._intake.held()
        own.remove()

    def look_soon(self) -> None:
        """Somebody may just have left one behind."""
        self._soon = _SOON_TRIES
        self._wake.set()

    async def run(self) -> None:
        """Look for those that are left behind, for ever."""
        while True:
            self._wake.clear()
            await self._rest()
            await self.import_left()

    async def _rest(self) -> None:
        seconds = _SOON_SECONDS if self._soon > 0 else _LOOK_SECONDS
        self._soon -= 1
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _import(self, path: Path) -> None:
        events = 0
        for record in journal.read(path):
            if self._intake.full:
                await self._intake.room()
            self._admit(record)
            events += len(record.contents)
        await self._intake.held()
        log.info("takeover.imported", journal=path.name, events=events)

    def _admit(self, record: Record) -> None:
        self._source(record.source).earlier(record)
