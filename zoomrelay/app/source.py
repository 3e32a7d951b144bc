"""One source at work: its tokens, its sockets, and the intake that takes what they bring."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from zoomrelay.admin.health import PathStatus, SourceStatus
from zoomrelay.auth.endpoint import TokenEndpoint
from zoomrelay.auth.manager import TokenManager
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.clock import Clock
from zoomrelay.config.models import Config, SourceConfig
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.errors import ConfigError
from zoomrelay.event import WEBHOOK
from zoomrelay.intake.admit import Intake
from zoomrelay.intake.ledger import Ledger
from zoomrelay.intake.source import SourceIntake
from zoomrelay.session.runner import SessionRunner
from zoomrelay.session.twins import Twins
from zoomrelay.spool.base import SourceCounts, SpoolStats
from zoomrelay.supervisor import Supervisor
from zoomrelay.telemetry.logs import protect_rotating
from zoomrelay.telemetry.metrics import Metrics
from zoomrelay.webhook.door import bind
from zoomrelay.webhook.receiver import WebhookReceiver


def paths(source: SourceConfig) -> list[str]:
    """On what its events come: ids of subscriptions, and `WEBHOOK`."""
    subscriptions = [subscription_id(subscription) for subscription in source.subscriptions]
    return [*subscriptions, WEBHOOK] if source.webhook is not None else subscriptions


def bind_webhooks(config: Config) -> dict[str, list[socket.socket]]:
    """The addresses of the webhooks, by source, which do not listen yet. Raises `ConfigError`."""
    bound: dict[str, list[socket.socket]] = {}
    try:
        for source in config.sources.values():
            if source.webhook is not None:
                setting = f"sources.{source.name}.webhook.listen"
                bound[source.name] = bind(source.webhook.listen, setting)
    except ConfigError:
        close_sockets(bound)
        raise
    return bound


def close_sockets(bound: Mapping[str, Sequence[socket.socket]]) -> None:
    for one in [one for sockets in bound.values() for one in sockets]:
        one.close()


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

    def __init__(
        self,
        config: SourceConfig,
        relay: Config,
        shared: Shared,
        counts: SourceCounts,
        webhook_sockets: Sequence[socket.socket] | None = None,
    ) -> None:
        """`counts`: what the spool knows of the source. `webhook_sockets`: of its webhook's address, from
        `bind`; without them `start` may raise `ConfigError`."""
        self.name = config.name
        self.intake = SourceIntake(
            shared.intake,
            config.name,
            paths(config),
            quiet_after_seconds=config.quiet_after_seconds,
        )
        self.intake.begin_counting(counts)
        self._config = config
        self._shared = shared
        self._tokens = _tokens(config, relay, shared) if config.has_app else None
        self._twins = Twins()
        self._runners: list[SessionRunner] = []
        self._webhook_sockets = webhook_sockets
        self._webhook: WebhookReceiver | None = None

    def start(self) -> None:
        """Ask for a token, open a socket for each subscription, and the webhook's door."""
        self._start_webhook()
        if self._tokens is None:
            return
        self._shared.supervisor.start(f"tokens.{self.name}", self._tokens.run())
        for subscription in self._config.subscriptions:
            runner = self._build_runner(subscription, self._tokens)
            self._shared.supervisor.start(self._service(runner), runner.run())
            self._runners.append(runner)

    def _start_webhook(self) -> None:
        config, shared = self._config, self._shared
        if config.webhook is None:
            return
        path = shared.ledger.path(self.name, WEBHOOK)
        self._webhook = WebhookReceiver(
            config,
            config.webhook,
            self.intake,
            self.intake.paths[WEBHOOK].then(path),
            shared.clock,
            shared.metrics,
            sockets=self._webhook_sockets,
        )
        shared.supervisor.start(self._webhook_service, self._webhook.run())

    def _build_runner(self, subscription: str, tokens: TokenManager) -> SessionRunner:
        path = self._shared.ledger.path(self.name, subscription_id(subscription))
        return SessionRunner(
            self._config,
            subscription,
            tokens,
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
        self._shared.supervisor.may_end(self._webhook_service)

    async def stop(self) -> None:
        """Close its sockets in order: what Zoom had sent is taken in. Returns when that is done."""
        webhook = [self._webhook.stop()] if self._webhook else []
        await asyncio.gather(*(runner.stop() for runner in self._runners), *webhook)

    async def cancel(self) -> None:
        """End its sockets at once."""
        for runner in self._runners:
            await self._shared.supervisor.cancel(self._service(runner))
        if self._webhook is not None:
            await self._shared.supervisor.cancel(self._webhook_service)

    def try_now(self) -> None:
        """End waits for the next attempt: somebody believes that the trouble is gone. The webhook's
        certificate is read anew."""
        for runner in self._runners:
            runner.try_now()
        if self._webhook is not None:
            self._webhook.reload_certificate()

    # --- status -------------------------------------------------------------------------------------

    def stalled(self) -> list[str]:
        """Services that neither listen nor get any nearer to it."""
        return [self._service(runner) for runner in self._runners if runner.stalled]

    def status(self, stats: SpoolStats) -> SourceStatus:
        counts, intake = stats.sources.get(self.name, SourceCounts()), self.intake
        trouble = self._tokens.trouble if self._tokens else None
        webhook = [self._webhook_status(self._webhook, stats)] if self._webhook else []
        return SourceStatus(
            name=self.name,
            paths=[*(self._path_status(runner, stats) for runner in self._runners), *webhook],
            counts=counts,
            conservation_error=intake.conservation_error(counts),
            merge_ratio=intake.twins.merge_ratio if intake.twins else None,
            inversions=intake.inversions,
            token_usable=self._tokens is None or self._tokens.usable,
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

    def _webhook_status(self, webhook: WebhookReceiver, stats: SpoolStats) -> PathStatus:
        gap = self._shared.ledger.path(self.name, WEBHOOK).open_gap()
        counts = stats.paths.get((self.name, WEBHOOK), SourceCounts())
        watch = self.intake.paths[WEBHOOK]
        since = webhook.accepted_since
        return PathStatus(
            subscription=WEBHOOK,
            state="closed" if since is None else "listening",
            accepted=since is not None,
            accepted_since=since,
            last_error="",
            cure="",
            attempt=0,
            next_attempt_at=None,
            gap_since=None if gap is None else gap.from_ms / 1000,
            first=counts.appended,
            merged=counts.merged,
            missed=watch.missed,
            deaf=watch.deaf,
            quiet=watch.quiet,
            trouble=watch.trouble,
        )

    @property
    def _webhook_service(self) -> str:
        return f"webhook.{self.name}"

    def _service(self, runner: SessionRunner) -> str:
        return f"session.{self.name}.{runner.subscription}"


def _tokens(config: SourceConfig, relay: Config, shared: Shared) -> TokenManager:
    return TokenManager(
        config,
        TokenEndpoint(config, shared.clock),
        shared.clock,
        shared.random,
        shared.metrics,
        store=FileStore(relay.state_dir, config),
        protect=protect_rotating,
    )
