"""One source at work: its tokens, its sockets, and the intake that takes what they bring."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random

from zoomrelay.admin.health import PathStatus, SourceStatus
from zoomrelay.auth.endpoint import TokenEndpoint
from zoomrelay.auth.manager import TokenManager
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.clock import Clock
from zoomrelay.config.models import Config, SourceConfig
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.intake.admit import Intake
from zoomrelay.intake.ledger import Ledger
from zoomrelay.intake.source import SourceIntake
from zoomrelay.session.runner import SessionRunner
from zoomrelay.session.twins import Twins
from zoomrelay.spool.base import SourceCounts, SpoolStats
from zoomrelay.supervisor import Supervisor
from zoomrelay.telemetry.logs import protect_rotating
from zoomrelay.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Shared:
    """What the sources of a relay have in common."""

    supervisor: Supervisor
    intake: Intake
    ledger: Ledger
    clock: Clock
    random: Random
    metrics: Metrics


class RunningSource:
    """Built before the ledger is opened, started after it."""

    def __init__(self, config: SourceConfig, relay: Config, shared: Shared, counts: SourceCounts) -> None:
        """`counts`: what the spool knows of the source."""
        self.name = config.name
        self.intake = SourceIntake(
            shared.intake,
            config.name,
            [subscription_id(subscription) for subscription in config.subscriptions],
            quiet_after_seconds=config.quiet_after_seconds,
        )
        self.intake.begin_counting(counts)
        self._config = config
        self._shared = shared
        self._tokens = TokenManager(
            config,
            TokenEndpoint(config, shared.clock),
            shared.clock,
            shared.random,
            shared.metrics,
            store=FileStore(relay.state_dir, config),
            protect=protect_rotating,
        )
        self._twins = Twins()
        self._runners: list[SessionRunner] = []

    def start(self) -> None:
        """Ask for a token and open a socket for each subscription."""
        self._shared.supervisor.start(f"tokens.{self.name}", self._tokens.run())
        for subscription in self._config.subscriptions:
            runner = self._build_runner(subscription)
            self._shared.supervisor.start(self._service(runner), runner.run())
            self._runners.append(runner)

    def _build_runner(self, subscription: str) -> SessionRunner:
        path = self._shared.ledger.path(self.name, subscription_id(subscription))
        return SessionRunner(
            self._config,
            subscription,
            self._tokens,
            self.intake,
            self.intake.paths[path.subscription].then(path),
            self._shared.clock,
            self._shared.random,
            self._shared.metrics,
            twins=self._twins,
        )

    def may_end(self) -> None:
        """From now on its sockets may end for good."""
        for runner in self._runners:
            self._shared.supervisor.may_end(self._service(runner))

    async def stop(self) -> None:
        """Close its sockets in order: what Zoom had sent is taken in. Returns when that is done."""
        await asyncio.gather(*(runner.stop() for runner in self._runners))

    async def cancel(self) -> None:
        """End its sockets at once."""
        for runner in self._runners:
            await self._shared.supervisor.cancel(self._service(runner))

    def try_now(self) -> None:
        """End waits for the next attempt: somebody believes that the trouble is gone."""
        for runner in self._runners:
            runner.try_now()

    # --- status -------------------------------------------------------------------------------------

    def stalled(self) -> list[str]:
        """Services that neither listen nor get any nearer to it."""
        return [self._service(runner) for runner in self._runners if runner.stalled]

    def status(self, stats: SpoolStats) -> SourceStatus:
        counts, intake = stats.sources.get(self.name, SourceCounts()), self.intake
        trouble = self._tokens.trouble
        return SourceStatus(
            name=self.name,
            paths=[self._path_status(runner, stats) for runner in self._runners],
            counts=counts,
            conservation_error=intake.conservation_error(counts),
            merge_ratio=intake.twins.merge_ratio if intake.twins else None,
            inversions=intake.inversions,
            token_usable=self._tokens.usable,
            token_refused=trouble is not None and not trouble.retryable,
            token_error=str(trouble or ""),
            token_cure=trouble.cure if trouble else "",
        )

    def _path_status(self, runner: SessionRunner, stats: SpoolStats) -> PathStatus:
        gap = self._shared.ledger.path(self.name, runner.subscription).open_gap()
        counts = stats.paths.get((self.name, runner.subscription), SourceCounts())
        watch = self.intake.paths[runner.subscription]
        return PathStatus(
            subscription=runner.subscription,
            state=runner.state.value,
            accepted=runner.accepted_since is not None,
            accepted_since=runner.accepted_since,
            last_error=runner.last_error,
            cure=runner.cure,
            attempt=runner.attempt,
            next_attempt_at=runner.next_attempt_at,
            gap_since=None if gap is None else gap.from_ms / 1000,
            first=counts.appended,
            merged=counts.merged,
            missed=watch.missed,
            deaf=watch.deaf,
            quiet=watch.quiet,
            trouble=watch.trouble,
            contested=runner.contested,
        )

    def _service(self, runner: SessionRunner) -> str:
        return f"session.{self.name}.{runner.subscription}"
