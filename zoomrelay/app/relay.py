"""A relay: its rooms joined, started, stopped and reloaded."""

from __future__ import annotations

import asyncio
import math
import os
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Protocol

import structlog
from prometheus_client import CollectorRegistry

from zoomrelay import __version__
from zoomrelay.admin.drain_rate import DrainRate
from zoomrelay.admin.fill_rate import FillRate
from zoomrelay.admin.health import SinkStatus, SpoolStatus, Status
from zoomrelay.app.changes import Changes, compare, has_changed, taken_over
from zoomrelay.app.handover import Handover
from zoomrelay.app.journals import Journals
from zoomrelay.app.parts import build_spool, build_worker, route, sink_starts
from zoomrelay.app.reload import reload_sources, wait_for_renewals
from zoomrelay.app.source import RunningSource, Shared, bind_webhooks, check_certificates, paths
from zoomrelay.app.succession import Stopped, Succession
from zoomrelay.clock import Clock, SystemClock
from zoomrelay.config.models import Config, SinkConfig, SourceConfig
from zoomrelay.delivery.taps import Taps
from zoomrelay.delivery.worker import Worker
from zoomrelay.errors import ControlRefused, SinkError, StateDirectoryError, ZoomrelayError
from zoomrelay.event import RELAY_SOURCE, WEBHOOK, Event
from zoomrelay.intake.admit import Intake
from zoomrelay.intake.gaps import Trouble
from zoomrelay.intake.ledger import Ledger
from zoomrelay.intake.source import SourceIntake
from zoomrelay.intake.troubles import Troubles
from zoomrelay.spool.base import Choice, Replay, SinkCounts, SourceCounts, SpoolStats
from zoomrelay.spool.statedir import StateDirectory
from zoomrelay.supervisor import Supervisor
from zoomrelay.telemetry.metrics import Metrics
from zoomrelay.webhook.entrance import Entrance

log = structlog.get_logger()

_TRY_LOCK_SECONDS = 0.05

_SPOOL_STUCK_SECONDS = 600.0
"""The longest thing that a spool does, a recovery of a large file, takes some minutes."""
_CLOSE_SECONDS = 0.5
"""For the closing handshake of the sockets, and for the last commit, each."""


class Front(Protocol):
    """What a relay shows of itself, and where it takes orders (`zoomrelay.front`)."""

    async def open(self) -> None:
        """Spool and state directory are ours, nothing else has begun. Raises `ConfigError` or
        `StateDirectoryError`."""
        ...

    async def run(self) -> None:
        """A service beside the others, until it is cancelled."""
        ...

    def stopping(self) -> None:
        """The stop begins."""
        ...

    async def close(self) -> None:
        """Everything else has ended. Also called where `open` failed."""
        ...


class Relay:
    """One relay: `run` it once. `stop` ends it in order, `reload` takes a new configuration."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.metrics = Metrics(registry or CollectorRegistry(), self.clock)
        self.state = StateDirectory(config.state_dir)
        self.started = asyncio.Event()
        """Set once spool and sinks are open and the first attempt to connect is under way."""
        self._troubles = Troubles(self.clock)
        self.spool = build_spool(
            config,
            self.clock,
            self._note_shed,
            on_set_aside=self._troubles.set_aside,
            reclaim=self.state.reclaim,
        )
        self._random = random or Random()
        self._started_at = self.clock.wall()
        self.taps = Taps()
        self._intake = Intake(
            self.spool,
            self.clock,
            self._random,
            self.metrics,
            troubles=self._troubles,
            on_held=self._note_held,
        )
        self.ledger = Ledger(
            config.state_dir,
            self.clock,
            self.metrics,
            self._intake.held_until_ms,
            troubles=self._troubles,
            received=lambda source, subscription: self._sources[source].intake.paths[subscription].received,
            covers=lambda source, subscription: self._sources[source].intake.paths[subscription].covers,
            announce=self._announce_gap,
        )
        self._workers: dict[str, Worker] = {}
        self._sources: dict[str, RunningSource] = {}
        self._fill_rate = FillRate()
        self._drain_rates: defaultdict[str, DrainRate] = defaultdict(DrainRate)
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._entrances: dict[str, Entrance] = {}
        self._journals = Journals(config.state_dir, self._intake, self._source_intake)
        self._succession: Succession | None = None
        self.handover = Handover(self, self._journals, os.getpid())

    # --- life ---------------------------------------------------------------------------------------

    async def run(self, front: Front | None = None, *, patience_seconds: float = 0.0) -> None:
        """Until `stop`. `front` is opened before everything else and closed last. Raises
        `StateDirectoryError`, `SpoolFormatError`, `SpoolError` or what `front.open` raises before anything
        has started, and an exception group if a service crashes. `patience_seconds`: for a state directory
        that is in use."""
        await self._acquire(patience_seconds)
        await self._with_lock(front, self._serve)

    async def _acquire(self, patience_seconds: float) -> None:
        now = asyncio.get_running_loop().time
        until = now() + patience_seconds
        while True:
            try:
                return self.state.acquire(create=True)
            except StateDirectoryError:
                if now() >= until:
                    raise
            await asyncio.sleep(_TRY_LOCK_SECONDS)

    async def succeed(self, front: Front | None = None) -> None:
        """As `run`, in the place of the relay that runs: from beside it, without a gap. Raises
        `RelayNotRunning` where none does, and `TakeoverRefused` where it goes on."""
        check_certificates(self.config.sources.values())  # while there is one that goes on
        self._succession = succession = Succession(self.config, self.clock, os.getpid(), self._stop)
        failure: ZoomrelayError | None = None
        async with Supervisor() as supervisor:
            try:
                await succession.begin(supervisor)
                self._build_sources(supervisor)
                self._start_sources()
                await succession.approach(self._sources, self.state)
                await self._with_lock(front, partial(self._serve_in, supervisor))
            except ZoomrelayError as error:
                failure = error
            except Stopped:
                log.info("relay.stopped")
            await self._leave(supervisor, succession)
        if failure is not None:
            raise failure

    async def _leave(self, supervisor: Supervisor, succession: Succession) -> None:
        """Whoever goes on finds in the journal what came to us."""
        await self._close_sockets()
        await succession.leave(supervisor)
        for name in supervisor.running():
            await supervisor.cancel(name)

    async def _with_lock(
        self, front: Front | None, serve: Callable[[Front | None], Coroutine[Any, Any, None]]
    ) -> None:
        """`serve` while spool and front are open; the state directory is ours, until then."""
        try:
            await self.spool.open(sink_starts(self.config))
            try:
                if front is not None:
                    await front.open()
                self._entrances = bind_webhooks(self.config.sources.values())
                await serve(front)
            finally:
                self._close_entrances(list(self._entrances))
                await self.spool.close()
                if front is not None:
                    await front.close()
        finally:
            self.state.release()

    async def _serve(self, front: Front | None) -> None:
        async with Supervisor() as supervisor:
            await self._serve_in(supervisor, front)

    async def _serve_in(self, supervisor: Supervisor, front: Front | None) -> None:
        self._supervisor = supervisor
        if await self._unless_stopped(self._start(supervisor)):
            if front is not None:
                supervisor.start("front", front.run())
            self.started.set()
            await self._stop.wait()
        if front is not None and not self.handover.under_way:
            front.stopping()  # else it may have to run again
        async with self._reloading:  # one that has begun comes to its end
            await self._stop_in_order(supervisor)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether it came to its end before somebody wanted this relay to stop."""
        working = asyncio.create_task(work, name="relay.start")
        stopped = asyncio.create_task(self._stop.wait(), name="relay.stop")
        try:
            await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait((working,))
        if working.cancelled():
            return False
        working.result()
        return True

    def stop(self) -> None:
        """Stop in order; `run` returns when that is done."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def reloading(self) -> bool:
        return self._reloading.locked()

    async def _start(self, supervisor: Supervisor) -> None:
        """From the far end: what takes events is there before what brings them."""
        for config in self.config.sinks.values():
            self._start_sink(supervisor, config)
        self._intake.open()
        if self._succession is None:
            self._build_sources(supervisor)
        for source in self._sources.values():
            self._begin_counting(source)
        supervisor.start("intake", self._intake.run())
        accepted = self._succession.accepted() if self._succession else None
        self.ledger.open(_paths(self.config), self.spool.last_received(), accepted)
        supervisor.start("ledger", self.ledger.run())
        await self._journals.import_left()
        supervisor.start("journals", self._journals.run())
        if self._succession is None:
            self._start_sources()
        else:
            await self._arrive(supervisor, self._succession)
        log.info(
            "relay.started",
            version=__version__,
            pid=os.getpid(),
            state_dir=str(self.config.state_dir),
            sources=list(self.config.sources),
            sinks=list(self.config.sinks),
        )

    def _build_sources(self, supervisor: Supervisor) -> None:
        self._shared = Shared(
            supervisor,
            self._intake,
            self.ledger,
            self.clock,
            self._random,
            self.metrics,
            diversion=self._succession.diversion if self._succession else None,
        )
        self._sources = {
            name: RunningSource(source, self.config, self._shared)
            for name, source in self.config.sources.items()
        }

    def _add_source(self, config: SourceConfig) -> RunningSource:
        """One that a reload brings."""
        source = RunningSource(config, self.config, self._shared)
        self._begin_counting(source)
        return source

    def _begin_counting(self, source: RunningSource) -> None:
        source.intake.begin_counting(self.spool.stats().sources.get(source.name, SourceCounts()))

    def _start_sources(self) -> None:
        for name, source in self._sources.items():
            source.start(self._entrances.get(name))

    async def _arrive(self, supervisor: Supervisor, succession: Succession) -> None:
        """Let in what came before the spool was ours, and from now on what comes."""
        self._intake.identities.restore_timeless(succession.timeless, self.clock.elapsed())
        await self._journals.import_own(await succession.end_journal(supervisor))
        self._shared = replace(self._shared, diversion=None)
        for name, source in self._sources.items():
            source.arrive(self._entrances.get(name))
        self.metrics.takeovers.labels("done").inc()
        succession.done()

    def _start_sink(self, supervisor: Supervisor, config: SinkConfig) -> None:
        worker = build_worker(config, self.config.privacy, self.spool, self.clock, self._random, self.metrics)
        self._workers[config.name] = worker
        supervisor.start(_sink_name(config.name), worker.run())

    async def _stop_in_order(self, supervisor: Supervisor) -> None:
        """A durable spool keeps the backlog: sinks finish what is in flight while the sockets still
        receive. One in memory does not: first nothing more comes in, then the sinks drain it."""
        log.info("relay.stopping", drain_seconds=self.config.drain_seconds)
        deadline = asyncio.get_running_loop().time() + self.config.drain_seconds
        if self.config.spool.type == "memory":
            await self._stop_receiving(supervisor, deadline)
            await self._drain(deadline)
            await self._stop_sinks(supervisor, deadline)
        else:
            await self._stop_sinks(supervisor, deadline)
            await self._stop_receiving(supervisor, deadline)
        supervisor.may_end("ledger")
        self.ledger.stop()
        await supervisor.finish("ledger", _CLOSE_SECONDS)
        await self.spool.close()
        for name in supervisor.running():
            await supervisor.cancel(name)
        log.info("relay.stopped")
        self.handover.released()

    async def _stop_sinks(self, supervisor: Supervisor, deadline: float) -> None:
        names = list(self._workers)
        for name in names:
            supervisor.may_end(_sink_name(name))
            self._workers[name].stop()
        await asyncio.gather(*(self._finish_sink(supervisor, name, deadline) for name in names))

    async def _finish_sink(self, supervisor: Supervisor, name: str, deadline: float) -> None:
        left = deadline - asyncio.get_running_loop().time()
        if not await supervisor.finish(_sink_name(name), left):
            log.warning("sink.stopped_in_flight", sink=name, hint="what was under way may be sent again")

    async def _stop_receiving(self, supervisor: Supervisor, deadline: float) -> None:
        await supervisor.cancel("journals")
        await self._close_sockets()
        self.ledger.settle_troubles(finish=True)
        supervisor.may_end("intake")
        self._intake.stop()
        left = deadline - asyncio.get_running_loop().time()
        if not await supervisor.finish("intake", max(left, _CLOSE_SECONDS)):
            log.error(
                "relay.events_unheld", events=self._intake.waiting, hint="the spool could not take them"
            )

    async def _close_sockets(self) -> None:
        for source in self._sources.values():
            source.may_end()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.gather(*(source.stop() for source in self._sources.values()))
        except TimeoutError:
            pass
        for source in self._sources.values():
            await source.cancel()

    async def _drain(self, deadline: float) -> None:
        """Wait until every sink has what it is to get, or the time is over."""
        while asyncio.get_running_loop().time() < deadline:
            if not any(counts.pending for counts in self.spool.stats().sinks.values()):
                return
            await asyncio.sleep(0.02)

    # --- reload -------------------------------------------------------------------------------------

    async def reload(self, new: Config) -> Changes:
        """Take over what can change while running (the caller sets the log level). Files are reopened, and a
        session that waits for its next attempt makes it. Where new sockets take the place of old ones, this
        waits a little for them. What was done, and what needs a restart. Raises `ControlRefused` while the
        relay stops or another one takes over, and `ConfigError` where the address of a new webhook, or its
        certificate, cannot be had; then nothing has changed."""
        async with self._reloading:
            if self.stopping:
                raise ControlRefused("the relay is stopping", status=503)
            if self.handover.under_way:
                raise ControlRefused("another relay takes over just now", status=409)
            changes = compare(self.config, new)
            fresh = [source for name, source in new.sources.items() if name not in self._sources]
            self._close_entrances([source.name for source in fresh])  # of sources that have gone
            self._entrances |= bind_webhooks(fresh)
            await self._reload_sinks(new)
            self.config = taken_over(self.config, new)
            await reload_sources(self._sources, self.config, self._add_source, self._entrances)
            for source in self._sources.values():
                source.try_now()
        changes.waiting = await wait_for_renewals(self._sources)
        return changes

    def _close_entrances(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._entrances:
                self._entrances.pop(name).close()

    async def _reload_sinks(self, new: Config) -> None:
        old = self.config
        for name in old.sinks.keys() - new.sinks.keys():
            await self._end_sink(name)
            self.metrics.forget_sink(name)
            self._drain_rates.pop(name, None)
        changed = [n for n in old.sinks.keys() & new.sinks.keys() if has_changed(n, old, new)]
        for name in changed:
            await self._end_sink(name)
        await self.spool.set_sinks(sink_starts(new))
        self.config = self.config.model_copy(update={"privacy": new.privacy})
        for name in [n for n in new.sinks if n in changed or n not in old.sinks]:
            self._start_sink(self._supervisor, new.sinks[name])
        for name in old.sinks.keys() & new.sinks.keys() - set(changed):
            await self._reopen(name)

    # --- replay -------------------------------------------------------------------------------------

    async def begin_replay(self, sink: str, choice: Choice, events_per_second: float | None) -> Replay:
        """Send events once more to a sink, of those that it wants; `end_replay` must follow. Raises what
        `Spool.begin_replay` does."""
        wants = route(self.config.sinks[sink]).wants if sink in self.config.sinks else choice.wants
        both = replace(choice, wants=lambda name, source: choice.wants(name, source) and wants(name, source))
        replay = await self.spool.begin_replay(sink, both, events_per_second)
        log.info("replay.started", sink=sink, since_ms=choice.since_ms, until_ms=choice.until_ms)
        return replay

    def end_replay(self, replay: Replay) -> None:
        """It is over, or nobody wants it any more."""
        done = replay.ended
        self.spool.end_replay(replay)
        if not done and replay.sink in self._workers:
            self._workers[replay.sink].drop_replays()
        progress = replay.progress()
        log.info(
            "replay.ended" if done and not progress.error else "replay.cancelled",
            sink=replay.sink,
            sent=progress.sent,
            failed=progress.failed,
            damaged=progress.damaged,
        )

    async def _reopen(self, name: str) -> None:
        try:
            await self._workers[name].reopen()
        except SinkError as error:
            log.warning("sink.reopen_failed", sink=name, error=error.reason, hint="the next send tries again")

    async def _end_sink(self, name: str) -> None:
        worker = self._workers.pop(name)
        self._supervisor.may_end(_sink_name(name))
        worker.stop()
        await self._supervisor.finish(_sink_name(name), self.config.drain_seconds)

    # --- takeover -----------------------------------------------------------------------------------

    def running_sources(self) -> Mapping[str, RunningSource]:
        return self._sources

    def timeless(self) -> list[bytes]:
        """Identities of the latest events without `event_ts`."""
        return self._intake.identities.timeless()

    def _source_intake(self, name: str) -> SourceIntake:
        """Of a source that is not configured too."""
        return self._shared.intakes.get(name) or SourceIntake(self._intake, name, [])

    # --- what is told -------------------------------------------------------------------------------

    def _note_held(self, events: Sequence[Event]) -> None:
        self.taps.offer(events)
        if any(source.webhook for source in self.config.sources.values()):
            self.ledger.came_by_webhook([event for event in events if event.subscription == WEBHOOK])

    def _note_shed(self, sink: str, count: int) -> None:
        log.error("spool.shed", sink=sink, events=count, hint="spool.max_bytes is reached and this sink lags")
        self._troubles.add(Trouble.SHED, count, sink=sink)

    def _announce_gap(self, source: str, content: bytes) -> bool:
        """Put a gap event into the stream, if a sink is to get such."""
        wanted = any(sink.gap_events for sink in self.config.sinks.values())
        if wanted:
            self._source_intake(source or RELAY_SOURCE).own(content)
        return wanted

    # --- status -------------------------------------------------------------------------------------

    def status(self) -> Status:
        """How everything is doing; cheap enough for every second."""
        stats = self.spool.stats()
        sinks = [
            SinkStatus(
                name=name,
                type=config.type,
                ok=self._workers[name].health.ok,
                last_error=self._workers[name].health.last_error,
                misconfigured=self._workers[name].health.misconfigured,
                counts=stats.sinks[name],
                conservation_error=stats.sinks[name].conservation_error,
                backlog_seconds=self._backlog_seconds(name, stats.sinks[name]),
            )
            for name, config in self.config.sinks.items()
            if name in self._workers and name in stats.sinks
        ]
        spool = SpoolStatus(
            type=self.config.spool.type,
            events=stats.events,
            bytes=stats.bytes,
            max_bytes=stats.max_bytes,
            wal_bytes=stats.wal_bytes,
            writable=stats.writable,
            trouble=stats.trouble,
            seconds_until_full=self._fill_rate.seconds_until_full(
                self.clock.elapsed(), stats.bytes - stats.retained_bytes, stats.max_bytes
            ),
            retained_events=stats.retained_events,
            retained_bytes=stats.retained_bytes,
        )
        return Status(
            version=__version__,
            pid=os.getpid(),
            started=self._started_at,
            now=self.clock.wall(),
            starting=not self.started.is_set(),
            stopping=self._stop.is_set(),
            sources=[source.status(stats) for source in self._sources.values()],
            sinks=sinks,
            spool=spool,
            stuck=self._stuck(stats),
            successor=self.handover.successor,
        )

    def _backlog_seconds(self, sink: str, counts: SinkCounts) -> float | None:
        ended = counts.appended - counts.pending
        seconds = self._drain_rates[sink].seconds_until_drained(
            self.clock.elapsed(), counts.pending - counts.parked, ended
        )
        return seconds if seconds < math.inf else None  # JSON has no infinity

    def _stuck(self, stats: SpoolStats) -> list[str]:
        stuck = [name for source in self._sources.values() for name in source.stalled()]
        return stuck + (["spool"] if stats.busy_seconds > _SPOOL_STUCK_SECONDS else [])


def _paths(config: Config) -> list[tuple[str, str]]:
    return [(source.name, path) for source in config.sources.values() for path in paths(source)]


def _sink_name(name: str) -> str:
    return f"sink.{name}"
