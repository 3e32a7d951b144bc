"""The steps of one source, in order, each with what it needs."""

from __future__ import annotations

from collections.abc import Callable

from zoomrelay.admin.health import Status
from zoomrelay.config.models import SourceConfig
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.doctor.finding import Finding, skipped
from zoomrelay.doctor.socket import Socket, as_told
from zoomrelay.doctor.walk import Probe, Step
from zoomrelay.doctor.way import Way
from zoomrelay.doctor.zoom import App


class SourcePlan:
    """Grows by what it is told to look at."""

    def __init__(self, source: SourceConfig, app: App) -> None:
        self.steps: list[Step] = []
        self._source = source
        self._app = app
        self._ways: dict[tuple[str, str], Step] = {}

    def http(self) -> None:
        """Everything before the socket."""
        source, app = self._source, self._app
        there = self._to(source.token_url)
        self._add("clock", app.clock, there)
        self._token = self._add("token", app.grant, there)
        self._add("scopes", app.scopes, self._token)
        rest = self._add("rest", app.rest, self._token, self._to(source.api_url))
        self._add("app", app.state, rest)

    def socket(
        self, subscription: str, free: Callable[[], bool], *, answer_seconds: float, still_seconds: float
    ) -> Socket:
        """A socket of the doctor's own."""
        socket = Socket(
            self._source,
            subscription,
            self._app,
            free=free,
            answer_seconds=answer_seconds,
            still_seconds=still_seconds,
        )
        there = self._to(subscription if "://" in subscription else self._source.ws_url)
        upgrade = self._add("upgrade", socket.upgrade, there, self._token, target=socket.id)
        accept = self._add("accept", socket.accept, upgrade, target=socket.id)
        self._add("heartbeat", socket.heartbeat, accept, target=socket.id)
        return socket

    def relayed(self, subscription: str, relay: Callable[[], Status | None]) -> None:
        """A socket that a relay has."""
        probe = as_told(relay, self._source.name, subscription)
        self._to(subscription if "://" in subscription else self._source.ws_url)
        self._add("accept", probe, target=subscription_id(subscription))

    def left_alone(self, subscription: str) -> None:
        """A socket that nobody has, and that is not to be opened."""

        async def left() -> Finding:
            return skipped("no relay runs here, and its socket was left alone: `zoomrelay doctor` opens it")

        self._to(subscription if "://" in subscription else self._source.ws_url)
        self._add("accept", left, target=subscription_id(subscription))

    def _add(self, name: str, probe: Probe, *needs: Step, target: str = "") -> Step:
        step = Step(name, probe, needs, self._source.name, target=target)
        self.steps.append(step)
        return step

    def _to(self, url: str) -> Step:
        """The last step of the way to a host, which is walked once."""
        host = self._app.host(url)
        # Proxies differ between HTTP and WebSockets, so the scheme counts.
        key = (host.scheme, host.place)
        if key not in self._ways:
            way = Way(host, source=self._source.name)
            self.steps += way.steps
            self._ways[key] = way.reached
        return self._ways[key]
