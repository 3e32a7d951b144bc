"""The simulator as a whole: what tests and the demo hold in their hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from random import Random
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from zoomrelay.clock import Clock, SystemClock
from zoomrelay.simulator import control
from zoomrelay.simulator.authorize import AuthorizePage
from zoomrelay.simulator.codes import Codes
from zoomrelay.simulator.faults import Faults, How
from zoomrelay.simulator.gateway import Gateway, OnSecondConnection
from zoomrelay.simulator.journal import Journal, Sent
from zoomrelay.simulator.oauth import TokenEndpoint
from zoomrelay.simulator.refresh import REFRESH_LIFE_SECONDS, RefreshTokens
from zoomrelay.simulator.rest import RestApi
from zoomrelay.simulator.rubbish import Rubbish, rubbish
from zoomrelay.simulator.script import Script, encode
from zoomrelay.simulator.stories import DEFAULT_MIX
from zoomrelay.simulator.stream import Stream
from zoomrelay.simulator.tokens import Credentials, TokenBook
from zoomrelay.simulator.webhooks import Posted, Webhooks
from zoomrelay.simulator.wire import Frame

SUBSCRIPTION = "SimulatedSubscription0"
"""The one subscription that there is unless others are named; 22 characters, as Zoom's."""


class Simulator:
    """A pretend Zoom on one port of this machine; an async context manager.

    `port` 0 takes a free one; `port` says which after the start. Nothing is emitted while `rate` is 0.
    `faults` and `on_second_connection` may be changed at any time; `journal` is what really happened.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        credentials: Credentials | None = None,
        subscriptions: Iterable[str] = (SUBSCRIPTION,),
        rate: float = 0.0,
        count: int | None = None,
        mix: Mapping[str, float] = DEFAULT_MIX,
        secret_token: str = "",
        expires_in_seconds: int = 3599,
        refresh_expires_in_seconds: float = REFRESH_LIFE_SECONDS,
        on_second_connection: OnSecondConnection = "kick-old",
        faults: Faults | None = None,
        webhook_url: str = "",
        webhook_secret: str = "",
        webhook_retry_scale: float = 1.0,
        journal_limit: int = 200_000,
        clock: Clock | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.credentials = credentials or Credentials()
        self.secret_token = secret_token
        self.faults = faults or Faults()
        self.journal = Journal(limit=journal_limit)
        self._clock = clock or SystemClock()
        self._pulse = asyncio.Event()
        self.tokens = TokenBook(
            Random(f"tokens {seed}"), self.credentials, expires_in_seconds=expires_in_seconds
        )
        self.refresh_tokens = RefreshTokens(
            Random(f"refresh tokens {seed}"), expires_in_seconds=refresh_expires_in_seconds
        )
        codes = Codes(Random(f"codes {seed}"))
        self._endpoint = TokenEndpoint(self.tokens, codes, self.refresh_tokens, self.faults, self._clock)
        self._authorize = AuthorizePage(codes, self.credentials, self.faults, self._clock)
        self._rest = RestApi(self.tokens, self.credentials, self.faults, self._clock)
        self._gateway = Gateway(
            self.tokens,
            self.faults,
            self.journal,
            self._clock,
            subscriptions=subscriptions,
            on_second_connection=on_second_connection,
            changed=self._changed,
        )
        self.webhooks = Webhooks(
            self.faults,
            self._clock,
            Random(f"webhooks {seed}"),
            limit=journal_limit,
            changed=self._changed,
        )
        self._webhook = webhook_url, webhook_secret or secret_token, webhook_retry_scale
        self._stream = Stream(
            Script(Random(seed), mix=mix),
            self._gateway,
            self.faults,
            self._clock,
            rate=rate,
            count=count,
            secret_token=secret_token,
            changed=self._changed,
            by_webhook=self.webhooks.send,
        )
        self._rubbish = 0

    # --- life ---------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Listen and start to emit. Raises `OSError` if the port is taken, `ValueError` where the webhook's
        address is none."""
        self.webhooks.point(*self._webhook)
        app = web.Application()
        app.add_routes(
            [
                web.post("/oauth/token", self._endpoint.handle),
                web.post("/oauth/revoke", self._endpoint.revoke),
                web.get("/oauth/authorize", self._authorize.show),
                web.post("/oauth/authorize", self._authorize.decide),
                web.get("/v2/users/me", self._rest.me),
                web.get("/ws", self._gateway.handle),
            ]
        )
        app.add_routes(control.routes(self))
        # No access log: the token is part of the WebSocket's URL.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        self._task = asyncio.create_task(self._stream.run(), name="simulator.stream")
        self._task.add_done_callback(lambda _: self._changed())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop emitting, say 1001 to everybody, and take everything down. Raises what ended the stream,
        if anything did."""
        self._task.cancel()
        (end,) = await asyncio.gather(self._task, return_exceptions=True)
        await self._part()
        await self.webhooks.close()
        self._gateway.abort()
        await self._runner.cleanup()
        if isinstance(end, Exception):
            raise end

    async def _part(self) -> None:
        """Give those who are connected a moment to answer the closing frame."""
        self._gateway.part()
        try:
            async with asyncio.timeout(1.0):
                await self.until(lambda: not self._gateway.parting)
        except TimeoutError:
            pass

    # --- where it is --------------------------------------------------------------------------------

    @property
    def token_url(self) -> str:
        return f"http://{self.host}:{self.port}/oauth/token"

    @property
    def authorize_url(self) -> str:
        return f"http://{self.host}:{self.port}/oauth/authorize"

    @property
    def api_url(self) -> str:
        return f"http://{self.host}:{self.port}/v2"

    @property
    def ws_url(self) -> str:
        """Without the subscription, as in the configuration."""
        return f"ws://{self.host}:{self.port}/ws"

    @property
    def control_url(self) -> str:
        return f"http://{self.host}:{self.port}/control"

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return self._gateway.subscriptions

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point a relay at this simulator."""
        known = self.credentials
        values = {
            "ZOOM_ACCOUNT_ID": known.account_id,
            "ZOOM_CLIENT_ID": known.client_id,
            "ZOOM_CLIENT_SECRET": known.client_secret,
            "ZOOM_SUBSCRIPTION_ID": ",".join(self.subscriptions),
            "ZOOMRELAY_SOURCES__ZOOM__TOKEN_URL": self.token_url,
            "ZOOMRELAY_SOURCES__ZOOM__WS_URL": self.ws_url,
            "ZOOMRELAY_SOURCES__ZOOM__API_URL": self.api_url,
        }
        if self.secret_token:
            values["ZOOMRELAY_SOURCES__ZOOM__SECRET_TOKEN"] = self.secret_token
        return values

    # --- sending ------------------------------------------------------------------------------------

    async def emit(self, event: Mapping[str, Any] | bytes, *, subscription: str | None = None) -> bool:
        """Send one event (bytes go as they are) to one subscription or to all; whether all had a listener.
        Raises `ValueError` for a subscription that there is not.

        Like every event it passes through the faults that are set, so it may also come late or twice.
        """
        content = event if isinstance(event, bytes) else encode(event)
        return await self._stream.send([self._stream.frame(content, self._clock.wall())], subscription)

    async def burst(self, count: int) -> None:
        """Send the next `count` events of the script as fast as they are read."""
        await self._stream.burst(count)

    def prepare(self, count: int) -> list[Frame]:
        """The next `count` events of the script, encoded beforehand for `flood`."""
        return self._stream.prepare(count)

    async def flood(self, frames: Sequence[Frame]) -> bool:
        """Send prepared frames as fast as they are read."""
        return await self._stream.send(frames)

    async def send_rubbish(self, kind: Rubbish, subscription: str | None = None) -> bool:
        """Send a frame in which no event can be read; whether somebody was there."""
        self._rubbish += 1
        return await self._stream.send_raw(rubbish(kind, self._rubbish), subscription)

    def point_webhook(self, url: str, secret: str, retry_scale: float) -> None:
        """Send events there too from now on, once the challenge was answered. Raises `ValueError`."""
        self.webhooks.point(url, secret or self.secret_token, retry_scale)

    def set_rate(self, rate: float, count: int | None = None) -> None:
        """Emit `rate` events per second from now on, and stop after `count` of them."""
        self._stream.rate = rate
        self._stream.left = count

    # --- misbehaving --------------------------------------------------------------------------------

    @property
    def on_second_connection(self) -> OnSecondConnection:
        return self._gateway.on_second_connection

    @on_second_connection.setter
    def on_second_connection(self, mode: OnSecondConnection) -> None:
        self._gateway.on_second_connection = mode

    def end(
        self, how: How = "close", code: int = 1000, reason: str = "Bye", subscription: str | None = None
    ) -> int:
        """End the open connections in this way; how many there were."""
        return self._gateway.end(how, code, reason, subscription)

    def revoke_tokens(self, *, refresh: bool = False) -> None:
        """Make every token issued so far invalid, refresh tokens only if told; open connections stay."""
        self.tokens.revoke_all()
        if refresh:
            self.refresh_tokens.revoke_all()

    def set_client_secrets(self, secrets: Iterable[str]) -> None:
        """The app has these secrets from now on; tokens stay."""
        self.tokens.secrets = set(secrets)

    # --- looking ------------------------------------------------------------------------------------

    @property
    def accepted(self) -> int:
        """How many connections are accepted and open."""
        return sum(connection.open for connection in self.journal.connections)

    @property
    def finished(self) -> bool:
        """The stream had an end (`count`) and has come to it."""
        return self._stream.finished

    @property
    def token_requests(self) -> int:
        return self._endpoint.requests

    @property
    def token_requests_by_grant(self) -> Mapping[str, int]:
        return self._endpoint.requests_by_grant

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait until `happened()`; it is asked again whenever a connection changes or sends something,
        and after every batch of events. Raises what ended the stream, if anything did."""
        while not happened():
            if self._task.done() and not self._task.cancelled():
                self._task.result()
            await self._pulse.wait()

    def sent_since(self, number: int, limit: int) -> list[Sent]:
        """Up to `limit` entries of the journal after `number`."""
        return list(islice(self.journal.since(number), limit))

    def posted_since(self, number: int, limit: int) -> list[Posted]:
        """Up to `limit` posts to the webhook after `number`."""
        return list(islice(self.webhooks.since(number), limit))

    def state(self) -> dict[str, object]:
        """Everything at a glance, as `GET /control/state` shows it."""
        return {
            "rate": self._stream.rate,
            "left": self._stream.left,
            "finished": self.finished,
            "emitted": self._stream.emitted,
            "journal": {"count": self.journal.count, "unheard": self.journal.unheard},
            "accepted": self.accepted,
            "connections": self.journal.connections,
            "on_second_connection": self.on_second_connection,
            "token_requests": self.token_requests,
            "token_requests_by_grant": self.token_requests_by_grant,
            "tokens_issued": self.tokens.issued,
            "tokens_revoked": self._endpoint.revocations,
            "rest_requests": self._rest.requests,
            "webhook": self.webhooks.state(),
            "faults": self.faults,
        }

    def _changed(self) -> None:
        self._pulse.set()
        self._pulse = asyncio.Event()
