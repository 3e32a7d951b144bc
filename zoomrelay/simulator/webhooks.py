"""Sends events by HTTP, as Zoom does to a webhook: challenge, signature, one try and three more."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from random import Random
from typing import Any

import aiohttp
import msgspec
import structlog

from zoomrelay.clock import Clock
from zoomrelay.intake.identity import VOLATILE_FIELDS
from zoomrelay.simulator.faults import Faults

log = structlog.get_logger()

TRY_AGAIN_AFTER_SECONDS = (300.0, 1200.0, 3600.0)
"""From one try to the next; documented."""
ANSWER_SECONDS = 3.0
NO_ANSWER = -1
"""Stands for a status: nobody was there, or the answer did not come in time."""
_AT_ONCE = 32
_CHALLENGE_AGAIN_SECONDS = 1.0


class Posted(msgspec.Struct):
    """One event that was due at the webhook."""

    number: int
    """Counts from 1, without gaps."""
    at: float
    """Wall clock, seconds since the epoch, when it was due."""
    content: bytes
    """As it was sent here: what is volatile differs from what the sockets get."""
    statuses: list[int] = []
    """Of each try; `NO_ANSWER` where there was none."""
    answered_at: float | None = None
    """Wall clock of the last answer, or of its absence."""
    ended: bool = False
    """There will be no other try."""

    @property
    def taken(self) -> bool:
        """It was acknowledged."""
        return bool(self.statuses) and 200 <= self.statuses[-1] < 300


class Webhooks:
    """Posts events to one address at a time; an async context manager around its connections."""

    def __init__(
        self, faults: Faults, clock: Clock, random: Random, *, limit: int, changed: Callable[[], None]
    ) -> None:
        """The newest `limit` posts are kept. `changed` is called after every answer."""
        self.url = ""
        self.retry_scale = 1.0
        """The pauses between tries are multiplied by it."""
        self.validated = False
        self.count = 0
        self.statuses: Counter[int] = Counter()
        """How often each was answered, to events."""
        self._secret = b""
        self._posts: deque[Posted] = deque(maxlen=limit)
        self._faults = faults
        self._clock = clock
        self._random = random
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    # --- life ---------------------------------------------------------------------------------------

    def point(self, url: str, secret: str, retry_scale: float = 1.0) -> None:
        """From now on events go there, once the challenge was answered; "" ends it. Raises `ValueError`."""
        check(url, secret)
        self.url, self._secret, self.retry_scale, self.validated = url, secret.encode(), retry_scale, False
        if url:
            self._start(self._challenge_until_answered(url))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="simulator.webhook")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- looking ------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Everything that was due has been answered for good."""
        return all(posted.ended for posted in self._posts)

    def since(self, number: int = 0) -> Iterator[Posted]:
        """Posts after `number` that are still kept, oldest first."""
        return islice(self._posts, max(0, number - (self.count - len(self._posts))), None)

    def state(self) -> dict[str, object]:
        return {
            "url": self.url,
            "validated": self.validated,
            "posted": self.count,
            "statuses": {str(status): times for status, times in sorted(self.statuses.items())},
        }

    # --- the challenge ------------------------------------------------------------------------------

    async def _challenge_until_answered(self, url: str) -> None:
        if self.url == url and not await self.challenge():
            await asyncio.sleep(_CHALLENGE_AGAIN_SECONDS)
            self._start(self._challenge_until_answered(url))

    async def challenge(self) -> bool:
        """Whether the other side knows the secret; nothing is sent to one that does not."""
        token = f"{self._random.getrandbits(132):x}"
        document = {"event": "endpoint.url_validation", "payload": {"plainToken": token}}
        now_ms = int(self._clock.wall() * 1000)
        status, text = await self._post(msgspec.json.encode({**document, "event_ts": now_ms}))
        expected = hmac.new(self._secret, token.encode(), hashlib.sha256).hexdigest()
        self.validated = status == 200 and _encrypted(text) == (token, expected)
        log.info("simulator.webhook_challenged", status=status, validated=self.validated)
        self._changed()
        return self.validated

    # --- events -------------------------------------------------------------------------------------

    def send(self, contents: Iterable[bytes]) -> None:
        """Post these, each by itself; dropped while there is no address that answered the challenge."""
        if not self.validated:
            return
        for content in contents:
            self.count += 1
            posted = Posted(self.count, self._clock.wall(), fresh_copy(content, self.count))
            self._posts.append(posted)
            self._start(self._deliver(posted))

    async def _deliver(self, posted: Posted) -> None:
        for pause in (0.0, *TRY_AGAIN_AFTER_SECONDS):
            await asyncio.sleep(pause * self.retry_scale)
            async with self._turn:
                status, _ = await self._post(posted.content)
            posted.statuses.append(status)
            posted.answered_at = self._clock.wall()
            self.statuses[status] += 1
            posted.ended = 0 < status < 500
            self._changed()
            if posted.ended:
                return
        posted.ended = True
        self._changed()

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=_AT_ONCE, ssl=False)
            self._session = aiohttp.ClientSession(connector=connector)
        headers = signed(body, self._secret, int(self._clock.wall()), self._random)
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS + self._faults.webhook_slow_seconds),
                self._session.post(self.url, data=self._body(body), headers=headers) as answer,
            ):
                return answer.status, await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return NO_ANSWER, b""

    def _body(self, body: bytes) -> bytes | AsyncIterator[bytes]:
        return slowly(body, self._faults.webhook_slow_seconds) if self._faults.webhook_slow_seconds else body


def check(url: str, secret: str) -> None:
    """Raises `ValueError` where this cannot be a webhook."""
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("the address of a webhook begins with http:// or https://")
    if url and not secret:
        raise ValueError("a webhook needs a secret")


def signed(body: bytes, secret: bytes, timestamp: int, random: Random) -> dict[str, str]:
    """The headers of Zoom's requests."""
    digest = hmac.new(secret, b"v0:%d:%b" % (timestamp, body), hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Zoom Marketplace/1.0a",
        "x-zm-request-timestamp": str(timestamp),
        "x-zm-signature": f"v0={digest}",
        "x-zm-request-id": f"{random.getrandbits(128):032x}",
        "x-zm-trackingid": f"v=2.0;clid=sim;rid=WEB_{random.getrandbits(64):016x}",
    }


async def slowly(body: bytes, seconds: float) -> AsyncIterator[bytes]:
    """In ten pieces."""
    size = -(-len(body) // 10)
    for start in range(0, len(body), size):
        yield body[start : start + size]
        await asyncio.sleep(seconds / 10)


def fresh_copy(content: bytes, number: int) -> bytes:
    """The same event with tokens and signed URLs made anew, as Zoom makes them for each copy."""
    if not any(name.encode() in content for name in VOLATILE_FIELDS):
        return content
    try:
        document = msgspec.json.decode(content)
    except msgspec.MsgspecError:
        return content
    _freshen(document, number)
    return msgspec.json.encode(document)


def _freshen(value: Any, number: int) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if key in VOLATILE_FIELDS and isinstance(inner, str):
            value[key] = f"{inner}~webhook{number}"
        else:
            _freshen(inner, number)


class _Answer(msgspec.Struct):
    plainToken: str = ""
    encryptedToken: str = ""


def _encrypted(text: bytes) -> tuple[str, str]:
    try:
        answer = msgspec.json.decode(text, type=_Answer)
    except msgspec.MsgspecError:
        return "", ""
    return answer.plainToken, answer.encryptedToken
