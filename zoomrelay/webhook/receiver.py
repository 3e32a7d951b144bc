"""The webhook of one source: a path like its sockets, which is listened to while its door is open.

Zoom tries a request again after 5, 25 and 85 minutes where nobody answered, or with 500 and above. So an
interval with a closed door is a gap of this path, and what it missed comes later where it was short enough.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from zoomrelay.clock import Clock
from zoomrelay.config.models import SourceConfig, WebhookConfig
from zoomrelay.errors import ConfigError
from zoomrelay.event import WEBHOOK
from zoomrelay.telemetry.metrics import Metrics
from zoomrelay.webhook.door import Door
from zoomrelay.webhook.entrance import Entrance
from zoomrelay.webhook.reception import EventTaker, Reception, Result

log = structlog.get_logger()

STOPPED = "stopped"
"""Why it does not listen any more, in the ledger's words."""
_LOOK_SECONDS = 1.0


class PathListener(Protocol):
    """Hears when this path is listened to; see `zoomrelay.session.ports`."""

    def accepted(self, wall: float) -> None: ...

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None: ...

    def alive(self, heard_until: float) -> None: ...


class WebhookReceiver:
    """`run` is the service."""

    def __init__(
        self,
        source: SourceConfig,
        webhook: WebhookConfig,
        intake: EventTaker,
        listener: PathListener,
        clock: Clock,
        metrics: Metrics,
        entrance: Entrance,
    ) -> None:
        secret = source.webhook_secret
        assert secret is not None
        self.accepted_since: float | None = None
        """Wall time since when the door is open."""
        self._source = source.name
        self._setting = f"sources.{source.name}.webhook"
        self._listener = listener
        self._clock = clock
        self._certificate = entrance.certificate
        self._door = Door(entrance.sockets, self._certificate.context if self._certificate else None)
        self._results = {
            result: metrics.webhook_requests.labels(source.name, str(result)) for result in Result
        }
        self._last_event = metrics.last_event.labels(source.name, WEBHOOK)
        self._reception = Reception(
            source.name,
            webhook.path,
            secret.get_secret_value().encode(),
            webhook.max_body_bytes,
            intake,
            clock,
            self._count,
            heard=self._door.heard,
            genuine=self._door.is_no_stranger,
        )
        self._stopping = asyncio.Event()
        self._closed_at: float | None = None
        """Wall time from which on nobody was let in."""

    def _count(self, result: Result) -> None:
        self._results[result].inc()
        if result is Result.HELD:
            self._last_event.set(self._clock.wall())

    async def run(self) -> None:
        """Listen until `stop`."""
        self._door.open(self._reception.answer)
        self.accepted_since = self._clock.wall()
        self._listener.accepted(self.accepted_since)
        addresses = [f"{host}:{port}" for host, port in self._door.addresses]
        log.info("webhook.listening", source=self._source, addresses=addresses, tls=bool(self._certificate))
        try:
            while not self._stopping.is_set():
                await self._second()
                self._listener.alive(self._clock.wall())
        finally:
            heard_until = self._clock.wall() if self._closed_at is None else self._closed_at
            await self._door.close(0)
            self.accepted_since = None
            self._listener.lost(STOPPED, "", clean=True, heard_until=heard_until)

    async def _second(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def stop(self, seconds: float = 0.4) -> None:
        """Close the door; whoever is being answered gets the answer within so many seconds."""
        self._closed_at = self._closed_at or self._clock.wall()
        await self._door.close(seconds)
        self._stopping.set()

    def take_over(self, source: SourceConfig) -> None:
        """From now on requests are signed with this one's secret; without one the secret stays."""
        if (secret := source.webhook_secret) is not None:
            self._reception.secret = secret.get_secret_value().encode()

    def reload_certificate(self) -> None:
        """Show what is in the files now to whoever connects from now on; what cannot be used changes
        nothing, and is logged."""
        if self._certificate is None:
            return
        try:
            self._certificate.reload(f"{self._setting}.cert_file")
        except ConfigError as error:
            log.error(
                "webhook.certificate_kept", source=self._source, problems=[str(p) for p in error.problems]
            )
