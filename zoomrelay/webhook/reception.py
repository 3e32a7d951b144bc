"""Requests: what is refused at sight, what is read, and what is answered once it is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec
import structlog
from aiohttp import web

from zoomrelay import causes
from zoomrelay.clock import Clock
from zoomrelay.event import WEBHOOK
from zoomrelay.webhook.verification import CHALLENGE_BYTES, Verdict, answer_to_challenge, judge

log = structlog.get_logger()

ANSWER_SECONDS = 2.5
"""Zoom waits for 3 s, the way there and back included."""
MAX_READING_BYTES = 16 * 1024**2
"""Of bodies that are being read at the same time."""
_TELL_EVERY_SECONDS = 60.0


class Result(StrEnum):
    """What became of a request."""

    HELD = "held"
    VALIDATED = "validated"
    UNSIGNED = "unsigned"
    INVALID = "invalid"
    STALE = "stale"
    OVERSIZE = "oversize"
    SLOW = "slow"
    NOT_HELD = "not_held"
    PATH = "path"
    METHOD = "method"


_STATUS = {
    Result.HELD: 200,
    Result.VALIDATED: 200,
    Result.UNSIGNED: 401,
    Result.INVALID: 401,
    Result.STALE: 401,
    Result.PATH: 404,
    Result.METHOD: 405,
    Result.OVERSIZE: 413,
    Result.SLOW: 503,
    Result.NOT_HELD: 503,
}
"""Zoom tries again after 500 and above, and after nothing else that is an answer."""
_HINTS = {
    Result.UNSIGNED: "whoever this was, it was not Zoom",
    Result.INVALID: causes.SIGNATURES.cure,
    Result.STALE: "look at the clock of this machine; the event is kept as a dead letter of the source",
    Result.OVERSIZE: "raise max_body_bytes if it was Zoom",
    Result.SLOW: "the whole request must come within seconds",
    Result.NOT_HELD: "Zoom tries again after 5, 25 and 85 minutes",
}


class Body(msgspec.Struct, frozen=True, gc=False):
    """An event as it came."""

    content: bytes


class EventTaker(Protocol):
    """Takes what is received (`zoomrelay.intake`)."""

    @property
    def blocked(self) -> bool:
        """What is handed over now would not be held soon."""
        ...

    def events(self, subscription: str, frames: Sequence[Body]) -> None: ...

    def refused(self, subscription: str, raw: bytes) -> None:
        """Keep an event that must not pass, as a dead letter."""
        ...

    async def held(self) -> None:
        """Return when all that was handed over until now is durable, copies by their originals."""
        ...


class Refused(Exception):
    """The request ends here; carries its `Result`."""

    def __init__(self, result: Result) -> None:
        super().__init__(result)
        self.result = result


class Reception:
    """Answers requests at `path`."""

    def __init__(
        self,
        source: str,
        path: str,
        secret: bytes,
        max_body_bytes: int,
        intake: EventTaker,
        clock: Clock,
        count: Callable[[Result], None],
        *,
        heard: Callable[[web.BaseRequest], None] = lambda _: None,
        genuine: Callable[[], None] = lambda: None,
    ) -> None:
        """`count` is told every result. `heard`: a request has come; `genuine`: it was Zoom's."""
        self.secret = secret
        """With which requests are signed; may be another one from now on."""
        self._source = source
        self._path = path
        self._max_body_bytes = max_body_bytes
        self._intake = intake
        self._clock = clock
        self._count = count
        self._heard = heard
        self._genuine = genuine
        self._reading_bytes = 0
        self._told: dict[Result, float] = {}
        """When the log last told of it."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Never raises."""
        self._heard(request)
        deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
        text = b""
        try:
            self._look_at(request)
            body = await self._read(request, deadline)
            result, text = await self._take(request, body, deadline)
        except Refused as refused:
            result = refused.result
        self._note(result)
        response = web.Response(status=_STATUS[result], body=text, headers=_headers(result, text))
        if result is not Result.HELD:  # it may have been anybody, who must come in anew
            response.force_close()
        return response

    def _look_at(self, request: web.BaseRequest) -> None:
        """What needs no body to be refused."""
        if request.path != self._path:
            raise Refused(Result.PATH)
        if request.method != "POST":
            raise Refused(Result.METHOD)
        if (request.content_length or 0) > self._max_bytes(request):
            raise Refused(Result.OVERSIZE if _signed(request) else Result.UNSIGNED)

    def _max_bytes(self, request: web.BaseRequest) -> int:
        """Zoom's challenge may be without a signature; nothing else may."""
        return self._max_body_bytes if _signed(request) else min(CHALLENGE_BYTES, self._max_body_bytes)

    async def _read(self, request: web.BaseRequest, deadline: float) -> bytes:
        most, here = self._max_bytes(request), 0
        parts = []
        try:
            async with asyncio.timeout_at(deadline):
                async for part in request.content.iter_any():
                    parts.append(part)
                    here += len(part)
                    self._reading_bytes += len(part)
                    if here > most:
                        raise Refused(Result.OVERSIZE)
                    # Of what came, for announcing costs nothing; whoever is alone is not held up.
                    if here < self._reading_bytes > MAX_READING_BYTES:
                        raise Refused(Result.NOT_HELD)
        except TimeoutError:
            raise Refused(Result.SLOW) from None
        except (web.RequestPayloadError, web.PayloadAccessError, ConnectionError):
            raise Refused(Result.SLOW) from None  # whoever sent it has gone
        finally:
            self._reading_bytes -= here
        return b"".join(parts)

    async def _take(self, request: web.BaseRequest, body: bytes, deadline: float) -> tuple[Result, bytes]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        verdict = judge(self.secret, headers, body, self._clock.wall())
        if verdict is Verdict.INVALID:
            raise Refused(Result.INVALID)
        if (challenge := answer_to_challenge(self.secret, body)) is not None:
            return Result.VALIDATED, challenge
        if verdict is Verdict.MISSING:
            raise Refused(Result.UNSIGNED)
        if verdict is Verdict.GENUINE:
            self._genuine()
        return await self._hold(body, deadline, stale=verdict is Verdict.STALE), b""

    async def _hold(self, body: bytes, deadline: float, *, stale: bool) -> Result:
        """A stale one as a dead letter: Zoom does not send again what was refused, so where our clock is
        wrong, this is all there is."""
        if self._intake.blocked:
            return Result.NOT_HELD
        if stale:
            self._intake.refused(WEBHOOK, body)
        else:
            self._intake.events(WEBHOOK, [Body(body)])
        try:
            async with asyncio.timeout_at(deadline):
                await self._intake.held()
        except TimeoutError:
            return Result.NOT_HELD  # it may be held later; then what Zoom sends again is a copy
        return Result.STALE if stale else Result.HELD

    def _note(self, result: Result) -> None:
        self._count(result)
        if result is not Result.VALIDATED and result not in _HINTS:
            return
        now = self._clock.elapsed()
        if now - self._told.get(result, float("-inf")) < _TELL_EVERY_SECONDS:
            return
        self._told[result] = now
        if result is Result.VALIDATED:
            log.info("webhook.validated", source=self._source)
        else:
            log.warning("webhook.refused", source=self._source, result=str(result), hint=_HINTS[result])


def _signed(request: web.BaseRequest) -> bool:
    """It says so."""
    return "x-zm-signature" in request.headers and "x-zm-request-timestamp" in request.headers


def _headers(result: Result, text: bytes) -> dict[str, str]:
    headers = {"Server": "zoomrelay", "Cache-Control": "no-store"}
    if text:
        headers["Content-Type"] = "application/json"
    if result is Result.METHOD:
        headers["Allow"] = "POST"
    return headers
