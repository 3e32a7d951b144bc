"""The new side of a takeover: this relay, until it holds the state directory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from zoomrelay import __version__
from zoomrelay.admin.socket_path import control_socket_path
from zoomrelay.admin.takeover import Predecessor
from zoomrelay.app.source import RunningSource
from zoomrelay.clock import Clock
from zoomrelay.config.models import Config
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.errors import RelayNotRunning, StateDirectoryError, TakeoverRefused, ZoomrelayError
from zoomrelay.spool.sqlite_file import FORMAT
from zoomrelay.spool.statedir import StateDirectory
from zoomrelay.supervisor import Supervisor
from zoomrelay.takeover.diversion import Diversion
from zoomrelay.takeover.journal import Journal
from zoomrelay.takeover.messages import Begin, Offer, fingerprints
from zoomrelay.takeover.protocol import Ask, PathNow, Ready, next_step

log = structlog.get_logger()

_LOOK_SECONDS = 0.01
_LOCK_SECONDS = 10.0
"""So long the lock may still be held after its holder has gone, in words or in deed."""
_LAST_WORD_SECONDS = 2.0
_LONG_SECONDS = 15.0
_PATIENT_SECONDS = 86400.0
"""A disk that takes nothing now may later."""
_LEAVE_SECONDS = 5.0
_JOURNAL = "takeover.journal"
_LINE = "takeover.line"


class Stopped(Exception):
    """Somebody wants this process to end."""


class Succession:
    """Runs beside the old relay until the state directory is ours."""

    def __init__(self, config: Config, clock: Clock, pid: int, stop: asyncio.Event) -> None:
        """Raises `RelayNotRunning` where it is plain that none does, or `StateDirectoryError`."""
        if not control_socket_path(config.state_dir).exists():
            raise RelayNotRunning(f"no relay is running on {config.state_dir}")
        self._config = config
        self._pid = pid
        self._stop = stop
        self._journal = Journal.create(config.state_dir)
        self._predecessor = Predecessor(config.state_dir, self._journal.path.name)
        self._began = _now()
        self._unwanted: list[str] = []
        """Paths of the old one that this configuration does not have."""
        self.diversion = Diversion(self._journal, clock)

    # --- before the lock ----------------------------------------------------------------------------

    async def begin(self, supervisor: Supervisor) -> None:
        """Ask, and be offered. Raises `RelayNotRunning` or `TakeoverRefused`; then nothing was changed."""
        begin = Begin(__version__, self._pid, self._journal.path.name, fingerprints(self._config))
        try:
            offer = await self._predecessor.begin(begin)
        except ZoomrelayError:
            self._journal.remove()
            raise
        supervisor.start(_LINE, self._predecessor.run())
        supervisor.may_end(_LINE)
        supervisor.start(_JOURNAL, self._journal.run())
        self._check(offer)

    def _check(self, offer: Offer) -> None:
        log.info("takeover.begun", of=offer.pid, version=offer.version, differs=offer.differs)
        self._unwanted = [path for path in offer.paths if path not in _configured(self._config)]
        if offer.spool_format > FORMAT:
            raise TakeoverRefused(
                f"its spool has format {offer.spool_format}, and this zoomrelay {__version__} knows {FORMAT}"
            )

    async def approach(self, sources: Mapping[str, RunningSource], state: StateDirectory) -> None:
        """Until the state directory is ours. Raises `TakeoverRefused` where the old one goes on, and
        `Stopped`."""
        while not self._predecessor.ended.is_set():
            paths = _paths_now(sources)
            step = next_step(paths, _now() - self._began)
            if isinstance(step, Ready):
                await self._say_ready([name for name, path in paths.items() if path.accepted])
                break
            if isinstance(step, Ask):
                await self._ask_to_close(step.paths, sources)
            await self._rest()
        await self._take_lock(state)

    async def _ask_to_close(self, paths: list[str], sources: Mapping[str, RunningSource]) -> None:
        await self._predecessor.refused(paths)
        for source in sources.values():
            source.try_now()
        await self._rest()

    async def _say_ready(self, paths: list[str]) -> None:
        log.info("takeover.accepted", paths=paths, seconds=self._seconds())
        await self._predecessor.ready([*paths, *self._unwanted])

    async def _take_lock(self, state: StateDirectory) -> None:
        began, told = _now(), False
        gone_since: float | None = None
        while True:
            self._predecessor.check()
            if not told and _now() - began > _LONG_SECONDS:
                told = True
                hint = "it finishes what it is sending, or hangs; nothing is lost, its end is waited for"
                log.warning("takeover.waiting", seconds=self._seconds(), hint=hint)
            try:
                state.acquire(create=True)
                await self._hear_the_last()
                return
            except StateDirectoryError:
                if gone_since is None and self._predecessor.ended.is_set():
                    gone_since = _now()
                if gone_since is not None and _now() - gone_since > _LOCK_SECONDS:
                    raise
            await self._rest()

    async def _hear_the_last(self) -> None:
        """What it said before it let go of the lock has come, if not been read."""
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await self._predecessor.ended.wait()
        except TimeoutError:
            pass

    async def _rest(self) -> None:
        self._predecessor.check()
        if self._stop.is_set():
            raise Stopped
        await asyncio.sleep(_LOOK_SECONDS)

    # --- with the lock ------------------------------------------------------------------------------

    def accepted(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Since when (wall, elapsed) each path is listened to, of those that are."""
        found = {key: path.first_accepted for key, path in self.diversion.paths.items()}
        return {key: moment for key, moment in found.items() if moment is not None}

    @property
    def timeless(self) -> list[bytes]:
        """Identities of the old one's last events without `event_ts`."""
        return self._predecessor.timeless

    async def end_journal(self, supervisor: Supervisor, seconds: float = _PATIENT_SECONDS) -> Journal:
        """Nothing more is read, and the journal is whole."""
        supervisor.may_end(_JOURNAL)
        self.diversion.hold()
        await supervisor.finish(_JOURNAL, seconds)
        return self._journal

    def done(self) -> None:
        log.info("takeover.done", seconds=self._seconds())

    async def leave(self, supervisor: Supervisor) -> None:
        """It came to nothing, or is over: what was received stays in the journal, for whoever goes on."""
        await self.end_journal(supervisor, _LEAVE_SECONDS)
        self._journal.close()
        await self._predecessor.close()

    def _seconds(self) -> float:
        return round(_now() - self._began, 3)


def _configured(config: Config) -> set[str]:
    return {
        f"{source.name}/{subscription_id(subscription)}"
        for source in config.sources.values()
        for subscription in source.subscriptions
    }


def _paths_now(sources: Mapping[str, RunningSource]) -> dict[str, PathNow]:
    return {name: path for source in sources.values() for name, path in source.paths_now().items()}


def _now() -> float:
    return asyncio.get_running_loop().time()
