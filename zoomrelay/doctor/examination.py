"""The whole way, as a list of steps: this machine, each source, each sink."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random

from prometheus_client import CollectorRegistry

from zoomrelay.auth.endpoint import TokenEndpoint
from zoomrelay.auth.manager import TokenManager
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.clock import Clock, SystemClock
from zoomrelay.config.models import Config, SinkConfig, SourceConfig
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.doctor.finding import Finding, Report
from zoomrelay.doctor.impatient import ImpatientStore
from zoomrelay.doctor.machine import Machine
from zoomrelay.doctor.receivers import judge_backlog, sink_steps
from zoomrelay.doctor.socket import STILL_SECONDS, Socket
from zoomrelay.doctor.source_plan import SourcePlan
from zoomrelay.doctor.walk import STEP_SECONDS, Step, walk
from zoomrelay.doctor.webhook import webhook_step
from zoomrelay.doctor.zoom import REQUEST_SECONDS, App
from zoomrelay.telemetry.logs import protect_rotating
from zoomrelay.telemetry.metrics import Metrics


class Examination:
    """One look at everything. Nothing is changed, but for a token that may be asked for where there is none
    to be had from the cache; and a socket may be opened, after `before_sockets` was told."""

    def __init__(
        self,
        config: Config,
        *,
        secret_files: Sequence[Path] = (),
        sources: Sequence[str] = (),
        send_test: bool = False,
        clock: Clock | None = None,
        step_seconds: float = STEP_SECONDS,
        still_seconds: float = STILL_SECONDS,
        before_sockets: Callable[[Sequence[str]], None] = lambda _: None,
        opens_sockets: bool = True,
    ) -> None:
        """`sources`: only these, and no sinks; all of both where there are none."""
        self._opens_sockets = opens_sockets
        self._config = config
        self._sources = [config.sources[name] for name in sources or config.sources]
        self._sinks = [] if sources else list(config.sinks.values())
        self._send_test = send_test
        self._clock = clock or SystemClock()
        self._step_seconds = step_seconds
        self._still_seconds = still_seconds
        self._before_sockets = before_sockets
        self._machine = Machine(config, secret_files)
        self._sockets: list[Socket] = []
        self._managers: list[TokenManager] = []

    async def run(self) -> AsyncIterator[Report]:
        """The reports, as they come."""
        try:
            async for report in self._walk(self._machine.steps):
                yield report
            self._warn()
            for source in self._sources:
                async for report in self._walk(self._source_steps(source)):
                    yield report
            for sink in self._sinks:
                async for report in self._walk(self._sink_steps(sink)):
                    yield report
        finally:
            for socket in self._sockets:
                socket.drop()
            for manager in self._managers:
                await manager.close()

    def _walk(self, steps: Sequence[Step]) -> AsyncIterator[Report]:
        return walk(steps, step_seconds=self._step_seconds)

    def _warn(self) -> None:
        subscriptions = [subscription_id(one) for source in self._sources for one in source.subscriptions]
        if subscriptions and self._opens_sockets and not self._machine.held:
            self._before_sockets(subscriptions)

    def _source_steps(self, source: SourceConfig) -> list[Step]:
        steps = self._app_steps(source) if source.has_app else []
        if source.webhook is not None:
            steps.append(webhook_step(source, source.webhook, lambda: self._machine.relay))
        return steps

    def _app_steps(self, source: SourceConfig) -> list[Step]:
        tokens = TokenManager(
            source,
            TokenEndpoint(source, self._clock, timeout_seconds=REQUEST_SECONDS),
            self._clock,
            Random(),
            Metrics(CollectorRegistry()),
            store=ImpatientStore(FileStore(self._config.state_dir, source)),
            protect=protect_rotating,
        )
        self._managers.append(tokens)
        plan = SourcePlan(source, App(source, tokens, self._clock))
        plan.http()
        for subscription in source.subscriptions:
            if self._machine.held:
                plan.relayed(subscription, lambda: self._machine.relay)
            elif not self._opens_sockets:
                plan.left_alone(subscription)
            else:
                self._sockets.append(
                    plan.socket(
                        subscription,
                        self._free,
                        answer_seconds=self._step_seconds * 0.8,
                        still_seconds=self._still_seconds,
                    )
                )
        return plan.steps

    def _free(self) -> bool:
        """No relay has begun meanwhile."""
        try:
            return not self._machine.somebody_holds_it()
        except OSError:
            return False

    def _sink_steps(self, sink: SinkConfig) -> list[Step]:
        steps = sink_steps(sink, self._clock, send_test=self._send_test)
        relay = self._machine.relay
        if relay is not None:
            told = relay

            async def backlog() -> Finding:
                return judge_backlog(sink.name, told)

            steps.append(Step("backlog", backlog, sink=sink.name))
        return steps
