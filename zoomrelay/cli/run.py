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
from zoomrelay.cli.options import ConfigOption, load_config
from zoomrelay.config.models import Config
from zoomrelay.config.secret_files import open_to_all, secret_files
from zoomrelay.config.settings import RelaySettings
from zoomrelay.errors import ConfigError, ControlRefused, RelayNotRunning
from zoomrelay.front import Front
from zoomrelay.telemetry.logs import configure_logging, protect_config, recent_lines

log = structlog.get_logger()


TakeoverOption = Annotated[
    bool,
    typer.Option(
        "--takeover",
        help="Take the place of the relay that runs on the same state directory, without a gap: connect"
        " beside it, keep what comes, let it stop, go on. The old one then exits with 0. If anything is amiss"
        " before that, it goes on, and this one exits with 78. Where none runs: the same as without.",
    ),
]


def command(config: ConfigOption = None, takeover: TakeoverOption = False) -> None:
    """Run the relay until it is told to stop."""
    loaded = load_config(config, into=RelaySettings)
    protect_config(loaded.config)
    configure_logging(loaded.config.log)
    if exposed := open_to_all(secret_files(loaded)):
        log.warning("config.secrets_exposed", files=exposed, cure=causes.SECRET_OPEN.cure)
    run_loop(Process(loaded.config, config).run(takeover=takeover))


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
    reloads the configuration and reopens files."""

    def __init__(self, config: Config, path: Path | None) -> None:
        self._load = lambda: load_config(path, into=RelaySettings).config
        self._told_to_stop = False
        self._reloads: set[asyncio.Task[None]] = set()
        self._make_relay(config)

    def _make_relay(self, config: Config) -> None:
        self.relay = Relay(config)
        self._front = Front(self.relay, self._load)

    async def run(self, *, takeover: bool = False) -> None:
        loop = asyncio.get_running_loop()
        main = asyncio.current_task()
        assert main is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, main)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        try:
            await (self._take_over() if takeover else self.relay.run(self._front))
            while await self.relay.handover.is_left_alone() and not self._told_to_stop:
                self._make_relay(self.relay.config)
                await self.relay.run(self._front)
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
            await self.relay.run(self._front)

    def _stop(self, main: asyncio.Task[Any]) -> None:
        if self._told_to_stop:
            main.cancel()
        self._told_to_stop = True
        self.relay.stop()

    def _hang_up(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload(), name="reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        """An invalid configuration changes nothing, and the log says why."""
        try:
            await self._front.reload()
        except ConfigError as error:
            log.error("config.invalid", problems=[str(p) for p in error.problems], hint="nothing was changed")
        except ControlRefused as error:
            log.warning("config.not_reloaded", reason=str(error))
