"""Keeps one subscription's socket open, for ever."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from math import inf
from random import Random

import structlog

from zoomrelay import causes
from zoomrelay.auth.token import Token
from zoomrelay.clock import Clock
from zoomrelay.config.models import SourceConfig
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.errors import DialError, TokenError
from zoomrelay.session.address import build_url
from zoomrelay.session.checked import CheckedConsumer
from zoomrelay.session.endings import Cause, Ending, dial_failed, handed_over, no_token
from zoomrelay.session.figures import PathFigures
from zoomrelay.session.link import Link
from zoomrelay.session.ports import Connection, Dial, FrameConsumer, PathListener, TokenProvider
from zoomrelay.session.protocol import SessionProtocol, State
from zoomrelay.session.reconnect import Reconnect
from zoomrelay.session.rivalry import Rivalry
from zoomrelay.session.transport import Dialler
from zoomrelay.session.twins import Twins
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

STALLED_SECONDS = 300.0
"""No step on the way to acceptance takes as long: token, connection and acceptance have limits of their own,
and afterwards the pulse beats every second."""

_LOOK_SECONDS = 0.01

MIN_TOKEN_LIFE_SECONDS = 600.0
"""Life that a token must have left for a new connection; whether a socket outlives its token is unknown."""


class Part(StrEnum):
    """What a session has to do with a takeover."""

    NONE = "none"
    LEAVING = "leaving"
    """Another relay takes over from ours: losing the socket is expected, and none is opened again."""
    COMING = "coming"
    """Ours takes over from another: being refused beside its socket is expected."""


_BESIDE_SECONDS = 5.0
"""Between two attempts that Zoom refuses beside the other relay's socket, unless that is closed meanwhile."""


class SessionRunner:
    """Token, socket, acceptance, events; and from every end back to the beginning.

    Reconnects when a socket ends, never on a timer. The attributes below may be read at any time.
    """

    def __init__(
        self,
        source: SourceConfig,
        subscription: str,
        tokens: TokenProvider,
        consumer: FrameConsumer,
        listener: PathListener,
        clock: Clock,
        random: Random,
        metrics: Metrics,
        *,
        dial: Dial | None = None,
        twins: Twins | None = None,
        part: Part = Part.NONE,
    ) -> None:
        """`subscription` as configured: an id or a pasted URL. `twins`: shared by the paths of a source."""
        self.subscription = subscription_id(subscription)
        self.accepted_since: float | None = None
        """Wall time."""
        self.last_error = ""
        """Why the last connection or attempt ended, in words without secrets."""
        self.cure = ""
        self.attempt = 0
        """Attempts since the last acceptance, the one under way included."""
        self.next_attempt_at: float | None = None
        """Wall time, while waiting for it."""
        self.refused_beside = False
        """`COMING`, and refused beside the other relay's socket; `try_now` helps once that is closed."""
        self._part = part
        self._source = source
        self._address = subscription
        self._tokens = tokens
        self._intake = consumer
        self._metrics = metrics
        self._consumer = _checked(source, consumer, metrics)
        self._listener = listener
        self._clock = clock
        self._twins = twins or Twins()
        self._dial = dial or Dialler(source, self.subscription, self._twins.addresses).dial
        self._way = _way(source, subscription)
        self._reconnect = Reconnect(random)
        self._figures = PathFigures(metrics, source.name, self.subscription)
        self._log = log.bind(source=source.name, subscription=self.subscription)
        self._rivalry = Rivalry(self._reconnect.contest, self._figures, self._log)
        self._link: Link | None = None
        self._protocol = self._fresh_protocol()
        self._protocol.closed()
        self._accepted_at: float | None = None
        self._told: tuple[str, str, bool] | None = None
        self._stopping = asyncio.Event()
        self._retired = False
        self._first = True
        self._news = asyncio.Event()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._opening: asyncio.Timeout | None = None
        self._step_due = inf

    @property
    def state(self) -> State:
        return self._protocol.state

    @property
    def contested(self) -> bool:
        """Another consumer seems to use the subscription."""
        return self._reconnect.contest.contested

    @property
    def stalled(self) -> bool:
        """It neither listens nor gets any nearer to it, nor waits for its next attempt: a defect."""
        return asyncio.get_running_loop().time() > self._step_due

    async def run(self) -> None:
        """Until `stop` is called or it is cancelled."""
        self._idle.clear()
        try:
            while not self._stopping.is_set():
                await self._wait(await self._attempt())
                await self._wait_until_staying()
        finally:
            self._step_due = inf
            self._idle.set()

    async def stop(self) -> None:
        """Close in order: what Zoom sent before it saw our close frame is handed over. Returns when
        `run` has ended."""
        self._stopping.set()
        self._wake.set()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.reschedule(asyncio.get_running_loop().time())
        if self._link is not None:
            await self._link.close()
        await self._idle.wait()

    # --- reload -------------------------------------------------------------------------------------

    def fits(self, source: SourceConfig, subscription: str) -> bool:
        """Whether its sockets are made as these settings want them, and go on to be."""
        return not self._retired and self._way == _way(source, subscription)

    def take_over(self, source: SourceConfig, tokens: TokenProvider) -> None:
        """Other settings, of which those that `fits` judges make no difference here. The socket stays."""
        self._source, self._tokens = source, tokens
        self._protocol.pace(
            heartbeat_seconds=source.heartbeat_seconds, dead_after_seconds=source.dead_after_seconds
        )
        if isinstance(self._consumer, CheckedConsumer):
            self._consumer.publish()
        self._consumer = _checked(source, self._intake, self._metrics)
        if self._link is not None:
            self._link.consumer = self._consumer

    def retire(self) -> None:
        """Open no further socket. A successor takes the subscription over, and the end of this one's socket
        is its doing."""
        self._retired = True
        self._stopping.set()
        self._wake.set()

    async def ended(self) -> None:
        """Return when `run` has."""
        await self._idle.wait()

    @property
    def gives_way(self) -> bool:
        """Zoom refuses it because of another connection."""
        return self._link is None and self._reconnect.contest.displaced

    async def news(self) -> None:
        """Return at the next acceptance or end of an attempt, or at once if there was one since the last
        call. For one caller."""
        await self._news.wait()
        self._news.clear()

    def try_now(self) -> None:
        """End a wait for the next attempt: somebody believes that the trouble is gone."""
        if self.next_attempt_at is not None:
            self._reconnect.contest.forget()
            self._wake.set()

    # --- takeover -----------------------------------------------------------------------------------

    def leave(self) -> None:
        """Another relay takes over: keep the socket, and open no other."""
        self._part = Part.LEAVING
        self.next_attempt_at = None
        self._wake.set()
        if self._opening is not None:
            self._opening.reschedule(asyncio.get_running_loop().time())

    async def close(self) -> None:
        """While leaving: close the socket in order; returns when it has ended."""
        link = self._link
        if link is not None:
            await link.close()
            while self._link is link:  # noqa: ASYNC110 - it ends within a turn or two of the loop
                await asyncio.sleep(_LOOK_SECONDS)

    def stay(self) -> None:
        """There is no takeover, any more: connect at once where there is no socket."""
        self._part = Part.NONE
        self._reconnect.contest.forget()
        self._wake.set()

    async def _wait_until_staying(self) -> None:
        while self._part is Part.LEAVING and not self._stopping.is_set():
            self._step_due = inf
            self._wake.clear()
            await self._wake.wait()

    # --- one attempt --------------------------------------------------------------------------------

    async def _attempt(self) -> float:
        """From the token to the end of its socket; the seconds to wait after it."""
        self._step()
        self.attempt += 1
        self.next_attempt_at = None
        self.refused_beside = False
        self._protocol = self._fresh_protocol()
        token: Token | None = None
        opening = asyncio.timeout(None)  # a scope without a limit of its own: `stop` ends it
        try:
            async with opening:
                self._opening = opening
                token = await self._tokens.get(MIN_TOKEN_LIFE_SECONDS)
                await self._turn()
                connection = await self._dial(build_url(self._source.ws_url, self._address, token.value))
            self._opening = None
            if self._stopping.is_set() or self._part is Part.LEAVING:  # it came too late to end the dialling
                await connection.close()
                connection.abort()
                ending = Ending(Cause.STOPPED)
            else:
                ending = await self._serve(connection, token)
        except TokenError as error:
            ending = no_token(error)
        except DialError as error:
            ending = dial_failed(error)
        except TimeoutError:
            if not opening.expired():
                raise
            ending = Ending(Cause.STOPPED)
        except asyncio.CancelledError:
            self._ended(token, Ending(Cause.STOPPED, "cancelled"))
            raise
        finally:
            self._opening = None
        return self._ended(token, ending)

    async def _turn(self) -> None:
        """The first attempt of all is made at once: who adds a path waits for it."""
        first, self._first = self._first, False
        if first:
            self._twins.begins()
        else:
            await self._twins.turn()

    async def _serve(self, connection: Connection, token: Token) -> Ending:
        self._link = Link(
            connection,
            self.subscription,
            self._consumer,
            self._protocol,
            self._clock,
            self._figures,
            on_accepted=lambda: self._on_accepted(token),
            on_second=self._on_second,
        )
        return await self._link.run()

    async def _wait(self, delay_seconds: float) -> None:
        """Until the next attempt is due, or `stop`, or `try_now`."""
        if self._stopping.is_set():
            return
        if self._part is Part.LEAVING:
            return
        self._wake.clear()
        self._step(delay_seconds)
        if delay_seconds > 0:
            self.next_attempt_at = self._clock.wall() + delay_seconds
        try:
            async with asyncio.timeout(delay_seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    # --- what is told to others ---------------------------------------------------------------------

    def _on_accepted(self, token: Token) -> None:
        self.accepted_since = self._clock.wall()
        self._accepted_at = asyncio.get_running_loop().time()
        self._twins.accepted(self)
        self._tokens.accepted(token)
        self._figures.accepted()
        self._listener.accepted(self.accepted_since)
        self._log.info("session.accepted", attempts=self.attempt, grant=token.grant)
        self.attempt = 0
        self.cure = ""
        self._told = None
        self._news.set()

    def _on_second(self, heard_until: float) -> None:
        self._step()
        if self._protocol.accepted:
            self._listener.alive(heard_until)
            self._reconnect.contest.held(self._accepted_seconds() or 0.0)
            self._rivalry.tell()
        if isinstance(self._consumer, CheckedConsumer):
            self._consumer.publish()

    def _ended(self, token: Token | None, ending: Ending) -> float:
        """Tell everybody about the end of an attempt; the seconds to wait after it."""
        self._protocol.closed()
        self._twins.lost(self)
        link, self._link = self._link, None
        accepted_seconds = self._accepted_seconds()
        self.accepted_since = self._accepted_at = None
        self._news.set()
        heard_until = link.heard_until(ending) if link is not None else 0.0
        if self._retired and ending.cause is Cause.DISPLACED:
            ending = Ending(Cause.STOPPED, "a new socket takes its place", clean=ending.clean)
        if ending.cause is Cause.STOPPED and accepted_seconds is None:
            return 0.0
        if self._part is Part.LEAVING:
            self._left(link, ending, accepted_seconds)
            return 0.0
        self.last_error, self.cure = f"{ending.cause}: {ending.detail}", ending.cure
        if self._part is Part.COMING and ending.cause in (Cause.DISPLACED, Cause.REFUSED):
            self._refused_beside(link, ending, accepted_seconds)
            return _BESIDE_SECONDS
        token_left = ending.cause is Cause.REFUSED_TOKEN and token is not None and self._tokens.refused(token)
        slow = self._reconnect.slow(ending, token_left=token_left)
        delay_seconds = self._reconnect.delay_seconds(
            ending, accepted_seconds=accepted_seconds, token_left=token_left
        )
        if self._reconnect.contest.unsaid and ending.cause is Cause.CLOSED:
            self.cure = causes.CONTESTED.cure
        if link is not None and accepted_seconds is not None:
            self._say_closed(ending, heard_until, accepted_seconds)
        else:
            self._figures.attempted(ending.cause)
        if slow or (accepted_seconds is None and not self._reconnect.contest.displaced):
            self._say_failed(ending, delay_seconds, slow=slow)
        self._rivalry.ended(ending, delay_seconds)
        return delay_seconds

    def _left(self, link: Link | None, ending: Ending, accepted_seconds: float | None) -> None:
        """The end of a socket of which nothing follows."""
        self.next_attempt_at = None
        if link is not None and accepted_seconds is not None:
            self._say_closed(handed_over(ending), link.heard_until(ending), accepted_seconds)

    def _refused_beside(self, link: Link | None, ending: Ending, accepted_seconds: float | None) -> None:
        """The other relay's socket is in the way."""
        self.refused_beside = True
        if link is not None and accepted_seconds is not None:
            self._say_closed(ending, link.heard_until(ending), accepted_seconds)
            return
        self._figures.attempted(ending.cause)
        self._log.info("session.refused_beside", detail=ending.detail)

    def _say_closed(self, ending: Ending, heard_until: float, accepted_seconds: float) -> None:
        self._figures.closed(ending.cause)
        self._listener.lost(ending.cause, ending.detail, clean=ending.clean, heard_until=heard_until)
        meant = ending.cause in (Cause.STOPPED, Cause.TAKEOVER)
        say = self._log.info if meant else self._log.warning
        say(
            "session.closed",
            cause=ending.cause.value,
            detail=ending.detail,
            cure=ending.cure or None,
            clean=ending.clean,
            accepted_seconds=round(accepted_seconds, 1),
        )

    def _say_failed(self, ending: Ending, delay_seconds: float, *, slow: bool) -> None:
        """Loud for what needs somebody; the same twice in a row is told once."""
        now = (ending.cause.value, ending.detail, slow)
        told, self._told = self._told, now
        say = self._log.debug if now == told else self._log.error if slow else self._log.warning
        say(
            "session.attempt_failed",
            cause=ending.cause.value,
            detail=ending.detail,
            cure=ending.cure or None,
            attempt=self.attempt,
            retry_seconds=round(delay_seconds, 1),
        )

    # --- small things -------------------------------------------------------------------------------

    def _step(self, delay_seconds: float = 0.0) -> None:
        """Something moved; the next is expected in good time after `delay_seconds`."""
        self._step_due = asyncio.get_running_loop().time() + delay_seconds + STALLED_SECONDS

    def _accepted_seconds(self) -> float | None:
        if self._accepted_at is None:
            return None
        return asyncio.get_running_loop().time() - self._accepted_at

    def _fresh_protocol(self) -> SessionProtocol:
        return SessionProtocol(
            heartbeat_seconds=self._source.heartbeat_seconds,
            dead_after_seconds=self._source.dead_after_seconds,
        )


def _way(source: SourceConfig, subscription: str) -> tuple[object, ...]:
    """What a socket keeps for as long as it lives."""
    return subscription, source.ws_url, source.proxy, source.ca_file, source.max_message_bytes


def _checked(source: SourceConfig, consumer: FrameConsumer, metrics: Metrics) -> FrameConsumer:
    """The consumer, behind a check of signatures where one is configured."""
    if source.secret_token is None or source.verify_signature == "off":
        return consumer
    secret = source.secret_token.get_secret_value().encode()
    return CheckedConsumer(
        consumer, source.name, secret, metrics, enforce=source.verify_signature == "enforce"
    )
