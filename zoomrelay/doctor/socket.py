"""One subscription's socket: upgrade, acceptance, a heartbeat. Or what the relay that has it says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from zoomrelay import causes
from zoomrelay.admin.health import PathStatus, Status
from zoomrelay.admin.words import duration
from zoomrelay.auth.token import Token
from zoomrelay.causes import Cause
from zoomrelay.config.models import SourceConfig
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.doctor.finding import Finding, Verdict, failed, passed, skipped
from zoomrelay.doctor.zoom import App
from zoomrelay.errors import ConnectionEnded, DialError, TokenError
from zoomrelay.session import endings
from zoomrelay.session.address import build_url
from zoomrelay.session.endings import Ending, refusal
from zoomrelay.session.messages import Accepted, EventFrame, HeartbeatReply, Message, Refusal, parse
from zoomrelay.session.protocol import HEARTBEAT
from zoomrelay.session.transport import Dialler, StampedConnection

OPEN_SECONDS = 8.0
STILL_SECONDS = 0.3
"""Zoom has closed by then what it does not mean to keep."""


class Refused(Exception):
    """The socket did not become ours."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding


class Socket:
    """The doctor's own, for a moment. Zoom gives a subscription to whoever came last, so `free` is asked
    right before it is dialled; while a relay has it, nothing is opened."""

    def __init__(
        self,
        source: SourceConfig,
        subscription: str,
        app: App,
        *,
        free: Callable[[], bool],
        answer_seconds: float,
        still_seconds: float,
    ) -> None:
        self.id = subscription_id(subscription)
        self._source = source
        self._subscription = subscription
        self._app = app
        self._free = free
        self._answer_seconds = answer_seconds
        self._still_seconds = still_seconds
        self._connection: StampedConnection | None = None
        self._token: Token | None = None
        self._events = 0

    # --- the steps ----------------------------------------------------------------------------------

    async def upgrade(self) -> Finding:
        if not self._free():
            return skipped("a relay holds the state directory, and a second connection would take its place")
        try:
            await self._dial()
        except DialError as error:
            return _undialled(error)
        except TokenError as error:
            return Finding(Verdict.FAIL, str(error), error.reason, error.cure)
        return passed("the socket is open")

    async def accept(self) -> Finding:
        """As the relay does: where a token is refused, another one is tried while there is one to try."""
        while True:
            try:
                await self._accepted()
            except Refused as refused:
                if refused.finding.reason == causes.REFUSED_TOKEN.key and await self._another():
                    continue
                self.drop()
                return refused.finding
            assert self._token is not None
            self._app.tokens.accepted(self._token)
            return passed(f"Zoom accepts, with a token by {self._token.grant}")

    async def heartbeat(self) -> Finding:
        """The round trip of one; and that the socket stays for a moment after it."""
        assert self._connection is not None
        try:
            now = asyncio.get_running_loop().time
            began = now()
            await self._connection.send_text(HEARTBEAT)
            await self._until(lambda message: isinstance(message, HeartbeatReply), causes.SILENT)
            seconds = now() - began
            await self._stays()
            await self._connection.close()
        except (Refused, ConnectionEnded) as error:
            return _ended(error) if isinstance(error, ConnectionEnded) else error.finding
        finally:
            self.drop()
        lost = f"; {self._events} events came meanwhile, and nobody keeps them" if self._events else ""
        return passed(f"answered after {seconds * 1000:.0f} ms{lost}")

    def drop(self) -> None:
        """Without a farewell, which somebody who has fallen silent would keep waiting for. May be called at
        any time, and twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    # --- what they do -------------------------------------------------------------------------------

    async def _dial(self) -> None:
        self._token = await self._app.tokens.get()
        url = build_url(self._source.ws_url, self._subscription, self._token.value)
        self._connection = await Dialler(self._source, open_timeout_seconds=OPEN_SECONDS).dial(url)

    async def _accepted(self) -> None:
        try:
            await self._until(_accepts, causes.NOT_ACCEPTED)
        except ConnectionEnded as error:
            raise Refused(_ended(error)) from error

    async def _another(self) -> bool:
        """After a refused token: whether there was another one, and a socket with it."""
        assert self._token is not None
        self.drop()
        if not self._app.tokens.refused(self._token) or not self._free():
            return False
        try:
            await self._dial()
        except (DialError, TokenError):
            return False
        return True

    async def _until(self, wanted: Callable[[Message], bool], otherwise: Cause) -> None:
        """Receive until a message is `wanted`. Raises `Refused`, and `ConnectionEnded`."""
        assert self._connection is not None
        try:
            async with asyncio.timeout(self._answer_seconds):
                while True:
                    for frame in await self._connection.receive():
                        message = parse(frame)
                        self._events += isinstance(message, EventFrame)
                        if isinstance(message, Refusal):
                            raise Refused(_finding(refusal(message.text), otherwise))
                        if wanted(message):
                            return
        except TimeoutError:
            words = f"nothing of the kind within {self._answer_seconds:g} s"
            raise Refused(failed(otherwise, words)) from None

    async def _stays(self) -> None:
        assert self._connection is not None
        try:
            async with asyncio.timeout(self._still_seconds):
                await self._until(lambda _: False, causes.SILENT)
        except TimeoutError:
            pass


def _accepts(message: Message) -> bool:
    return isinstance(message, (Accepted, HeartbeatReply, EventFrame))


def _undialled(error: DialError) -> Finding:
    if error.status is not None:
        cause = causes.UPGRADE.by_status(error.status) or causes.UPGRADE_REFUSED
        return failed(cause, str(error))
    return Finding(Verdict.FAIL, str(error), error.stage, error.cure)


def _ended(error: ConnectionEnded) -> Finding:
    ending = endings.connection_ended(error)
    cause = causes.ACCEPTANCE.by_key(ending.cause) or causes.ENDING.by_key(ending.cause)
    return Finding(
        Verdict.FAIL, f"the socket ended: {error}", ending.cause.value, cause.cure if cause else ""
    )


def _finding(ending: Ending, otherwise: Cause) -> Finding:
    cause = causes.ACCEPTANCE.by_key(ending.cause) or otherwise
    key = causes.EMPTY_TOKEN.key if ending.cure == causes.EMPTY_TOKEN.cure else ending.cause.value
    return Finding(Verdict.FAIL, ending.detail, key, ending.cure or cause.cure)


# --- as a relay tells it ------------------------------------------------------------------------------


def as_told(
    relay: Callable[[], Status | None], source: str, subscription: str
) -> Callable[[], Awaitable[Finding]]:
    """A probe that asks no network: what the relay says of a subscription."""

    async def probe() -> Finding:
        status = relay()
        if status is None:
            return skipped("a process holds the state directory and does not say")
        paths = {
            path.subscription: path for one in status.sources if one.name == source for path in one.paths
        }
        path = paths.get(subscription_id(subscription))
        if path is None:
            return skipped("the relay that runs here does not know this subscription; a reload adds it")
        return judge_path(path, status.now)

    return probe


def judge_path(path: PathStatus, now: float) -> Finding:
    if path.accepted and not path.trouble:
        since = duration(now - path.accepted_since) if path.accepted_since is not None else "a while"
        return passed(f"the relay listens on it, for {since}")
    if path.trouble:
        cause = causes.DEAF if path.deaf else causes.QUIET
        return failed(cause, f"the relay says: {path.trouble}")
    reason = path.last_error.partition(":")[0] if ":" in path.last_error else path.state
    return Finding(Verdict.FAIL, f"the relay says: {path.last_error or path.state}", reason, path.cure)
