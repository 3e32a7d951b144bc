"""`zoomrelay run`: the relay itself."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from zoomrelay import causes
from zoomrelay.app import Relay
from zoomrelay.cli import in_place
from zoomrelay.cli.options import ConfigOption, load_config
from zoomrelay.cli.standby import stand_by
from zoomrelay.config.models import Config
from zoomrelay.config.secret_files import open_to_all, secret_files
from zoomrelay.config.settings import RelaySettings
from zoomrelay.errors import ConfigError, ControlRefused, RelayNotRunning
from zoomrelay.front import Front
from zoomrelay.telemetry.logs import configure_logging, protect_config, recent_lines

log = structlog.get_logger()

_ENDING_SECONDS = 5.0
"""A relay that is about to end answers nobody any more, and has its lock a little longer."""

TakeoverOption = Annotated[
    bool,
    typer.Option(
        "--takeover",
        help="Take the place of the relay that runs on the same state directory, without a gap: connect"
        " beside it, keep what comes, let it stop, go on. The old one then exits with 0. If anything is amiss"
        " before that, it goes on, and this one exits with 78. Where none runs: the same as without.",
    ),
]

StandbyOption = Annotated[
    bool,
    typer.Option(
        "--standby",
        help="When another relay has taken over, stay: hold nothing, and go on if that one ends. For places"
        " where whoever ends is started again, as in Kubernetes.",
    ),
]


def command(
    config: ConfigOption = None, takeover: TakeoverOption = False, standby: StandbyOption = False
) -> None:
    """Run the relay until it is told to stop."""
    loaded = load_config(config, into=RelaySettings)
    protect_config(loaded.config)
    configure_logging(loaded.config.log)
    if exposed := open_to_all(secret_files(loaded)):
        log.warning("config.secrets_exposed", files=exposed, cure=causes.SECRET_OPEN.cure)
    run_loop(Process(loaded.config, config).run(takeover=takeover, standby=standby))


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run on the fastest loop there is, with a garbage collector that leaves alone what stays for good:
    going through all modules again and again took a tenth of the time under a flood."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


class Process:
    """A relay and the signals that steer it: TERM and INT stop it in order, a second one at once; HUP
    reloads the configuration and reopens files; USR2 lets the version that is installed now take over; USR1
    comes from the process that this one takes over from (see `in_place`)."""

    def __init__(self, config: Config, path: Path | None) -> None:
        self._load = lambda: load_config(path, into=RelaySettings).config
        self._told_to_stop = self._told_by_somebody = False
        self._orders: set[asyncio.Task[None]] = set()
        self._upgrade = in_place.of_this_process()
        self._make_relay(config)

    def _make_relay(self, config: Config) -> None:
        self.relay = Relay(config)
        self._front = Front(self.relay, self._load, upgrade=self._asked_to_upgrade)

    async def run(self, *, takeover: bool = False, standby: bool = False) -> None:
        loop = asyncio.get_running_loop()
        main = asyncio.current_task()
        assert main is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._terminate, main)
        loop.add_signal_handler(in_place.STOP, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._obey, "reload", self._reload)
        loop.add_signal_handler(signal.SIGUSR2, self._obey, "upgrade", self._told_to_upgrade)
        try:
            await (self._take_over() if takeover else self.relay.run(self._front))
            while await self._is_needed(standby=standby):
                self._make_relay(self.relay.config)
                await self.relay.run(self._front)
            self._hand_on()
        except asyncio.CancelledError:
            log.warning("relay.stopped_at_once")
        finally:
            self._leave_last_lines()

    def _leave_last_lines(self) -> None:
        """For `zoomrelay bundle`; a relay that did not start leaves alone those of the one that runs."""
        if self.relay.started.is_set():
            with suppress(OSError):
                recent_lines.save(self.relay.config.state_dir)

    async def _take_over(self) -> None:
        try:
            await self.relay.succeed(self._front)
        except RelayNotRunning:
            log.info(
                "takeover.nobody",
                hint="no relay runs on this state directory: this is a start like any other",
            )
            self._make_relay(self.relay.config)
            await self.relay.run(self._front, patience_seconds=_ENDING_SECONDS)

    # --- after the end ------------------------------------------------------------------------------

    async def _is_needed(self, *, standby: bool) -> bool:
        """Whether this process has to run a relay again."""
        beat = asyncio.create_task(self._front.beat(), name="beat")
        try:
            needed = await self.relay.handover.is_left_alone()
            if standby and not needed and self._was_taken_over():
                config = self.relay.config
                needed = await stand_by(config.state_dir, config.admin.listen, lambda: self._told_to_stop)
            return needed and not self._told_to_stop
        finally:
            beat.cancel()

    def _was_taken_over(self) -> bool:
        return self.relay.handover.successor != 0 and not self._told_to_stop

    def _hand_on(self) -> None:
        """If it was the new version of this service that took over, it is the service."""
        if self._was_taken_over() and self.relay.handover.successor == self._upgrade.pid:
            log.info("upgrade.done", by=self._upgrade.pid)
            self._front.hand_on(self._upgrade.pid)

    # --- signals ------------------------------------------------------------------------------------

    def _terminate(self, main: asyncio.Task[Any]) -> None:
        if self._told_by_somebody:
            main.cancel()
        self._told_by_somebody = True
        self._stop()

    def _stop(self) -> None:
        if self._told_to_stop:
            return
        self._told_to_stop = True
        self._upgrade.stop()
        if self.relay.handover.under_way:
            self._front.stopping()  # the relay does not say so, for it may have to run again
        self.relay.stop()

    def _obey(self, name: str, order: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(order(), name=name)
        self._orders.add(task)
        task.add_done_callback(self._obeyed)
        return task

    def _obeyed(self, task: asyncio.Task[None]) -> None:
        """What nobody expected is in the log."""
        self._orders.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ControlRefused):
            log.error("order.failed", order=task.get_name(), exc_info=error, hint="it may be done in part")

    async def _reload(self) -> None:
        """An invalid configuration changes nothing, and the log says why."""
        try:
            await self._front.reload()
        except ConfigError as error:
            log.error("config.invalid", problems=[str(p) for p in error.problems], hint="nothing was changed")
        except ControlRefused as error:
            log.warning("config.not_reloaded", reason=str(error))

    async def _told_to_upgrade(self) -> None:
        try:
            await self._begin_upgrade()
        except ControlRefused as error:
            log.warning("upgrade.refused", reason=str(error))

    async def _asked_to_upgrade(self) -> None:
        """Who asks ends with the control socket, and the upgrade goes on."""
        await asyncio.shield(self._obey("upgrade", self._begin_upgrade))

    async def _begin_upgrade(self) -> None:
        if self.relay.stopping or not self.relay.started.is_set():
            raise ControlRefused("the relay is starting or stopping", status=503)
        await self._upgrade.run(lambda: self.relay.handover.under_way)
