"""`zoomrelay run`: the relay itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from zoomrelay.app import Relay
from zoomrelay.cli.options import ConfigOption, load_config
from zoomrelay.config.models import Config
from zoomrelay.errors import ConfigError
from zoomrelay.telemetry.logs import configure_logging, protect_config, set_level

log = structlog.get_logger()


def command(config: ConfigOption = None) -> None:
    """Run the relay until it is told to stop."""
    loaded = load_config(config)
    protect_config(loaded.config)
    configure_logging(loaded.config.log)
    run_loop(Process(loaded.config, config).run())


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run on the fastest loop there is."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


class Process:
    """A relay and the signals that steer it: TERM and INT stop it in order, a second one at once; HUP
    reloads the configuration and reopens files."""

    def __init__(self, config: Config, path: Path | None) -> None:
        self.relay = Relay(config)
        self._path = path
        self._reloads: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        main = asyncio.current_task()
        assert main is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, main)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        try:
            await self.relay.run()
        except asyncio.CancelledError:
            log.warning("relay.stopped_at_once")

    def _stop(self, main: asyncio.Task[Any]) -> None:
        if self.relay.stopping:
            main.cancel()
        self.relay.stop()

    def _hang_up(self) -> None:
        task = asyncio.get_running_loop().create_task(self.reload(), name="reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def reload(self) -> None:
        """Read the configuration anew; if it is invalid nothing changes and the log says why."""
        try:
            config = load_config(self._path).config
        except ConfigError as error:
            log.error("config.invalid", problems=[str(p) for p in error.problems], hint="nothing was changed")
            return
        protect_config(config)
        needs_restart = await self.relay.reload(config)
        set_level(config.log.level)
        log.info("config.reloaded", sinks=list(config.sinks))
        if needs_restart:
            log.warning("config.needs_restart", settings=needs_restart)
