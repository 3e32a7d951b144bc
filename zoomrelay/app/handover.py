"""The old side of a takeover: this relay, while another one takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import structlog

from zoomrelay import __version__
from zoomrelay.app.journals import Journals
from zoomrelay.app.source import RunningSource
from zoomrelay.config.models import Config
from zoomrelay.errors import TakeoverRefused
from zoomrelay.spool.sqlite_file import FORMAT
from zoomrelay.takeover import journal
from zoomrelay.takeover.messages import Begin, Line, Offer, Paths, Released, differing, fingerprints
from zoomrelay.takeover.protocol import OldSide, Phase
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

_LOOK_SECONDS = 0.02
_WAIT_SECONDS = 600.0
"""So long the old process looks after the new one, holding nothing."""


class Holder(Protocol):
    """The relay, as far as this needs it."""

    config: Config

    metrics: Metrics
    started: asyncio.Event

    @property
    def stopping(self) -> bool: ...

    @property
    def reloading(self) -> bool: ...

    def running_sources(self) -> Mapping[str, RunningSource]: ...

    def timeless(self) -> list[bytes]: ...

    def stop(self) -> None: ...


class Handover:
    """One takeover at a time."""

    def __init__(self, relay: Holder, journals: Journals, pid: int) -> None:
        self._relay = relay
        self._journals = journals
        self._pid = pid
        self._side = OldSide()
        self._journal: Path | None = None
        self._successor = 0
        self._last: Line | None = None
        self._told = asyncio.Event()

    @property
    def under_way(self) -> bool:
        return self._side.phase is not Phase.SERVING

    @property
    def successor(self) -> int:
        """The process id of who takes over just now, else 0."""
        return self._successor if self.under_way else 0

    # --- what the new one asks ----------------------------------------------------------------------

    def begin(self, asked: Begin) -> Line:
        """Begin; the first line of the answer. Raises `TakeoverRefused`."""
        config = self._relay.config
        if config.spool.type == "memory":
            raise TakeoverRefused("its spool is in memory, which no other process can take over: restart it")
        if self._relay.stopping or not self._relay.started.is_set():
            raise TakeoverRefused("it is starting or stopping")
        if self._relay.reloading:
            raise TakeoverRefused("it reloads its configuration just now: try again")
        self._side.begin(_now())
        self._successor, self._journal = asked.pid, config.state_dir / Path(asked.journal).name
        self._last = None
        self._told.clear()
        differs = differing(fingerprints(config), asked.settings)
        offer = Offer(__version__, self._pid, FORMAT, differs, self._listening())
        for source in self._relay.running_sources().values():
            source.leave()
        log.info("takeover.begun", by=asked.pid, version=asked.version, differs=differs)
        return Line(offer=offer)

    async def refused(self, told: Paths) -> None:
        """Close these: Zoom refuses the other's connections beside them."""
        for path in told.paths:
            source, _, subscription = path.partition("/")
            running = self._relay.running_sources().get(source)
            if running is not None and self._is_of(told.journal):
                log.info("takeover.gives_way", source=source, subscription=subscription)
                await running.close_path(subscription)

    def ready(self, told: Paths) -> None:
        """These are accepted: stop. Raises `TakeoverRefused`."""
        if not self._is_of(told.journal):
            raise TakeoverRefused("this takeover was cancelled")
        try:
            self._side.ready(told.paths, [path for path, listens in self._listening().items() if listens])
        except TakeoverRefused as error:
            self.cancel(str(error))
            raise
        log.info("takeover.accepted", by=self._successor, seconds=self._seconds())
        self._relay.stop()

    def gone(self, journal: str) -> None:
        """The other one is not there any more."""
        if self._is_of(journal) and not self._relay.stopping:
            self.cancel("the new relay is gone")

    def cancel(self, why: str) -> None:
        """Go on alone, if it is not too late; the other's journal is imported as soon as it lets go of it."""
        seconds = self._seconds()
        if not self._side.cancel():
            return
        self._relay.metrics.takeovers.labels("cancelled").inc()
        log.warning("takeover.cancelled", by=self._successor, reason=why, seconds=seconds)
        self._say(Line(cancelled=why))
        self._journals.look_soon()
        for source in self._relay.running_sources().values():
            source.stay()

    async def line(self, journal: str, beat_seconds: float) -> Line | None:
        """The next line of the answer; None: it lives, and has nothing to say."""
        if not self._is_of(journal):
            return Line(cancelled="another takeover has begun")
        if self._side.overdue(_now()):
            self.cancel("the new relay did not get ready in time")
        try:
            async with asyncio.timeout(beat_seconds):
                await self._told.wait()
        except TimeoutError:
            return None
        return self._last

    # --- what the relay tells -----------------------------------------------------------------------

    def released(self) -> None:
        """Everything is durable; what is held is let go of now."""
        if self._side.phase is Phase.STOPPING:
            log.info("takeover.released", by=self._successor, seconds=self._seconds())
            self._say(Line(released=Released([digest.hex() for digest in self._relay.timeless()])))

    async def is_left_alone(self) -> bool:
        """After the end: whether the other one died before it held everything, so that somebody must run
        again. Returns when that is known."""
        deadline = _now() + _WAIT_SECONDS
        while self._side.phase is Phase.STOPPING and self._journal is not None and _now() < deadline:
            if not self._journal.exists():
                return False
            claim = journal.claim(self._journal)
            if claim is not None:
                claim.release()
                log.warning("takeover.left_alone", by=self._successor, hint="it died; this relay runs again")
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    def _is_of(self, journal: str) -> bool:
        """Whoever says so is the other side of what is, or was, under way."""
        return self._journal is not None and self._journal.name == Path(journal).name

    def _say(self, line: Line) -> None:
        self._last = line
        self._told.set()

    def _listening(self) -> dict[str, bool]:
        sources = self._relay.running_sources().values()
        return {name: path.accepted for source in sources for name, path in source.paths_now().items()}

    def _seconds(self) -> float:
        return round(self._side.seconds(_now()), 3)


def _now() -> float:
    return asyncio.get_running_loop().time()
