"""One source at work: its tokens, its sockets, and the intake that takes what they bring."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from random import Random

from zoomrelay.admin.health import PathStatus, SourceStatus
from zoomrelay.app.renewal import Renewal
from zoomrelay.auth.endpoint import TokenEndpoint
from zoomrelay.auth.manager import TokenManager
from zoomrelay.auth.record import app_id
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.clock import Clock
from zoomrelay.config.models import Config, SourceConfig
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.errors import ConfigError
from zoomrelay.event import WEBHOOK
from zoomrelay.intake.admit import Intake
from zoomrelay.intake.ledger import Ledger
from zoomrelay.intake.source import PathWatch, SourceIntake
from zoomrelay.session.runner import Part, SessionRunner
from zoomrelay.session.twins import Twins
from zoomrelay.spool.base import SourceCounts, SpoolStats
from zoomrelay.supervisor import Supervisor
from zoomrelay.takeover.diversion import Diversion
from zoomrelay.takeover.protocol import PathNow
from zoomrelay.telemetry.logs import protect_rotating
from zoomrelay.telemetry.metrics import Metrics
from zoomrelay.webhook.entrance import Entrance, certificate_of
from zoomrelay.webhook.receiver import WebhookReceiver


def paths(source: SourceConfig) -> list[str]:
    """On what its events come: ids of subscriptions, and `WEBHOOK`."""
    subscriptions = [subscription_id(subscription) for subscription in source.subscriptions]
    return [*subscriptions, WEBHOOK] if source.webhook is not None else subscriptions


def bind_webhooks(sources: Iterable[SourceConfig]) -> dict[str, Entrance]:
    """The entrances of their webhooks, by source. Raises `ConfigError`; then none is held."""
    bound: dict[str, Entrance] = {}
    try:
        for source in sources:
            if source.webhook is not None:
                bound[source.name] = Entrance(source.name, source.webhook)
    except ConfigError:
        for entrance in bound.values():
            entrance.close()
        raise
    return bound


def check_certificates(sources: Iterable[SourceConfig]) -> None:
    """Raises `ConfigError` where a webhook cannot show its own."""
    for source in sources:
        if source.webhook is not None:
            certificate_of(source.name, source.webhook)


_CLOSE_SECONDS = 5.0
"""For the closing handshake of a socket that nobody wants any more; the others go on meanwhile."""
_OF_TOKENS = ("client_secret", "client_secret_next", "proxy", "ca_file")
"""Settings of the token endpoint that make no other app of a source."""

COPIES_SECONDS = 60.0
"""So long after a takeover copies of what the other process received may still come."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the sources of a relay have in common."""

    supervisor: Supervisor
    intake: Intake
    ledger: Ledger
    clock: Clock
    random: Random
    metrics: Metrics
    intakes: dict[str, SourceIntake] = field(default_factory=dict)
    """Of every source that there was in this process: one that comes back goes on counting."""
    diversion: Diversion | None = None
    """Where what comes goes until spool and ledger are ours, in a takeover."""


class RunningSource:
    """Built before the ledger is opened, started after it."""

    def __init__(self, config: SourceConfig, relay: Config, shared: Shared) -> None:
        """Its intake does not count yet; see `SourceIntake.begin_counting`."""
        self.name = config.name
        self.intake = shared.intakes.setdefault(config.name, SourceIntake(shared.intake, config.name, []))
        self.intake.measure_anew()
        self.intake.quiet_after_seconds = config.quiet_after_seconds
        for path in paths(config):
            self.intake.add(path)
        self._config = config
        self._shared = shared
        self._state_dir = relay.state_dir
        self._build_tokens()
        self._twins = Twins()
        self._runners: dict[SessionRunner, str] = {}
        """By the names of their services."""
        self.renewal = Renewal(config.name, self, shared.supervisor)
        self._webhook: WebhookReceiver | None = None
        self._diversion = shared.diversion

    def start(self, entrance: Entrance | None) -> None:
        """Ask for a token, open a socket for each subscription, and the webhook's door, but that only after
        `arrive` in a takeover. `entrance`: of its webhook, if it has one."""
        if self._diversion is None:
            self._start_webhook(entrance)
        self._start_tokens()
        for subscription in self._config.subscriptions:
            self.open(subscription)

    def _start_webhook(self, entrance: Entrance | None) -> None:
        config, shared = self._config, self._shared
        if config.webhook is None:
            return
        assert entrance is not None
        path = shared.ledger.add(self.name, WEBHOOK)
        self._webhook = WebhookReceiver(
            config,
            config.webhook,
            self.intake,
            self.intake.paths[WEBHOOK].then(path),
            shared.clock,
            shared.metrics,
            entrance,
        )
        shared.supervisor.start(self._webhook_service, self._webhook.run())

    def _build_tokens(self) -> None:
        """None for a source without an app, which has nothing but a webhook."""
        config, shared = self._config, self._shared
        self._endpoint = TokenEndpoint(config, shared.clock)
        self._tokens: TokenManager | None = None
        if not config.has_app:
            return
        self._tokens = TokenManager(
            config,
            self._endpoint,
            shared.clock,
            shared.random,
            shared.metrics,
            store=FileStore(self._state_dir, config),
            protect=protect_rotating,
        )

    def _start_tokens(self) -> None:
        if self._tokens is not None:
            self._shared.supervisor.start(f"tokens.{self.name}", self._tokens.run())

    # --- its sockets, for `Renewal` ----------------------------------------------------------------

    @property
    def runners(self) -> Collection[SessionRunner]:
        return self._runners.keys()

    def open(self, subscription: str) -> SessionRunner:
        """Begin to keep a socket open; a subscription that is not known begins without a gap."""
        runner = self._build_runner(subscription)
        name = f"session.{self.name}.{runner.subscription}"
        while name in self._runners.values():
            name += "'"
        self._runners[runner] = name
        self._shared.supervisor.start(name, runner.run())
        return runner

    def retire(self, runner: SessionRunner) -> None:
        """Expect that another socket takes its place; from now on copies may come."""
        self._shared.supervisor.may_end(self._service(runner))
        self.intake.merge()
        runner.retire()

    async def close(self, runner: SessionRunner) -> None:
        """End it in order; and its subscription with it, if the configuration does not name it any more."""
        service, name = self._runners.pop(runner), runner.subscription
        gone = name not in {subscription_id(text) for text in self._config.subscriptions}
        gone = gone and name not in {other.subscription for other in self._runners}
        if gone:
            self.intake.paths[name].then(None)
            self._shared.ledger.remove(self.name, name)
        self._shared.supervisor.may_end(service)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await runner.stop()
        await self._shared.supervisor.finish(service, 0)
        if gone:
            self.intake.remove(name)
            self._twins.addresses.forget(name)
            self._shared.metrics.forget_path(self.name, name)

    def _build_runner(self, subscription: str) -> SessionRunner:
        assert self._tokens is not None  # `webhook_rules`: subscriptions need an app
        diversion, path = self._diversion, subscription_id(subscription)
        return SessionRunner(
            self._config,
            subscription,
            self._tokens,
            self.intake if diversion is None else diversion.source(self.name),
            self._listener(path) if diversion is None else diversion.path(self.name, path),
            self._shared.clock,
            self._shared.random,
            self._shared.metrics,
            twins=self._twins,
            part=Part.NONE if diversion is None else Part.COMING,
        )

    def _listener(self, subscription: str) -> PathWatch:
        watch = self.intake.paths.get(subscription) or self.intake.add(subscription)
        return watch.then(self._shared.ledger.add(self.name, subscription))

    def may_end(self) -> None:
        """From now on its sockets may end for good."""
        for runner in self._runners:
            self._shared.supervisor.may_end(self._service(runner))
        self._shared.supervisor.may_end(self._webhook_service)

    async def stop(self) -> None:
        """Close its sockets in order: what Zoom had sent is taken in. Returns when that is done."""
        webhook = [self._webhook.stop()] if self._webhook else []
        async with self.renewal.halted():
            await asyncio.gather(*(runner.stop() for runner in self._runners), *webhook)

    async def cancel(self) -> None:
        """End its sockets at once."""
        for runner in list(self._runners):
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

    # --- reload -------------------------------------------------------------------------------------

    async def take_over(self, config: SourceConfig) -> None:
        """Take over these settings. Sockets that are not concerned stay; for the others see `renewal`."""
        async with self.renewal.halted():
            old, self._config = self._config, config
            await self._take_over_tokens(old)
            self.intake.quiet_after_seconds = config.quiet_after_seconds
            if self._webhook is not None:
                self._webhook.take_over(config)
            if self._tokens is not None:  # else there are no subscriptions any more
                for runner in self._runners:
                    runner.take_over(config, self._tokens)
            await self.renewal.begin(config)

    async def end(self) -> None:
        """The source is gone from the configuration: end everything of it in order."""
        async with self.renewal.halted():
            self._config = self._config.model_copy(update={"subscriptions": ()})
            await asyncio.gather(*(self.close(runner) for runner in list(self._runners)))
            await self._close_webhook()
            await self._shared.supervisor.cancel(f"tokens.{self.name}")
            self._shared.metrics.forget_source(self.name)

    async def _close_webhook(self) -> None:
        webhook, self._webhook = self._webhook, None
        if webhook is None:
            return
        self.intake.paths[WEBHOOK].then(None)
        self._shared.ledger.remove(self.name, WEBHOOK)
        self._shared.supervisor.may_end(self._webhook_service)
        await webhook.stop()
        await self._shared.supervisor.finish(self._webhook_service, _CLOSE_SECONDS)
        self.intake.remove(WEBHOOK)
        self._shared.metrics.forget_path(self.name, WEBHOOK)

    async def _take_over_tokens(self, old: SourceConfig) -> None:
        """A token that is at hand stays in use, unless it is another app's now."""
        new = self._config
        if app_id(old) != app_id(new):
            await self._shared.supervisor.cancel(f"tokens.{self.name}")
            self._shared.metrics.forget_tokens(self.name)
            self._build_tokens()
            self._start_tokens()
        elif self._tokens is not None and any(
            getattr(old, name) != getattr(new, name) for name in _OF_TOKENS
        ):
            self._endpoint.take_over(new)
            self._tokens.try_now()

    # --- takeover -----------------------------------------------------------------------------------

    def leave(self) -> None:
        """Another relay takes over: open no more sockets, and remember what comes, for it will be merged."""
        self.intake.merge_for(inf)
        for runner in self._runners:
            runner.leave()

    async def close_path(self, subscription: str) -> None:
        """While leaving: close this socket in order, if there is such a one."""
        for runner in self._runners:
            if runner.subscription == subscription:
                await runner.close()

    def stay(self) -> None:
        """There is no takeover, any more."""
        self.intake.merge_for(COPIES_SECONDS)
        for runner in self._runners:
            runner.stay()

    def paths_now(self) -> dict[str, PathNow]:
        """`source/subscription` -> how it is with its socket."""
        return {
            f"{self.name}/{runner.subscription}": PathNow(
                accepted=runner.accepted_since is not None,
                refused=runner.refused_beside and runner.next_attempt_at is not None,
            )
            for runner in self._runners
        }

    def arrive(self, entrance: Entrance | None) -> None:
        """Spool, ledger and the webhook's entrance are ours: from now on what comes goes there."""
        diversion, self._diversion = self._diversion, None
        assert diversion is not None
        for runner in self._runners:
            watch = self.intake.paths[runner.subscription]
            path = diversion.path(self.name, runner.subscription)
            book = self._shared.ledger.path(self.name, runner.subscription)
            accepted = path.tell(book)
            if accepted is not None:
                watch.accepted(accepted)
            path.lead_to(watch.then(book))
        diversion.source(self.name).lead_to(self.intake)
        self._start_webhook(entrance)
        self.stay()

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
            paths=[*(self._path_status(runner, stats) for runner in self._one_by_path()), *webhook],
            counts=counts,
            conservation_error=intake.conservation_error(counts),
            merge_ratio=intake.twins.merge_ratio if intake.twins else None,
            inversions=intake.inversions,
            token_usable=self._tokens is None or self._tokens.usable,
            token_refused=trouble is not None and not trouble.retryable,
            token_error=str(trouble or ""),
            token_cure=trouble.cure if trouble else "",
        )

    def _one_by_path(self) -> Collection[SessionRunner]:
        """Of two sockets of a subscription the one that is accepted."""
        shown: dict[str, SessionRunner] = {}
        for runner in self._runners:
            if runner.accepted_since is not None or runner.subscription not in shown:
                shown[runner.subscription] = runner
        return shown.values()

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
        return self._runners[runner]
