"""A Zoom that follows a script, and the session's neighbours as simple things with behaviour."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from zoomrelay.auth.token import Instant, Token
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import ConnectionEnded, DialError, TokenError
from zoomrelay.session.hearing import Hearing
from zoomrelay.session.messages import EventFrame
from zoomrelay.session.runner import SessionRunner
from zoomrelay.session.twins import Twins
from zoomrelay.telemetry.metrics import Metrics

ACCEPT = b'{"module":"build_connection","success":true,"content":"ok","header":{}}'
LIVE = b'{"module":"heartbeat","success":true,"content":"live","header":{}}'
DISPLACED = "Connected in another place"
WALL = 1_700_000_000.0


def event(number: int = 1, **header: str) -> bytes:
    return json.dumps({"module": "message", "content": content(number), "header": header}).encode()


def content(number: int = 1) -> str:
    return json.dumps({"event": "meeting.started", "event_ts": number, "payload": {}})


def refuse(text: str, module: str = "build_connection") -> bytes:
    return json.dumps({"module": module, "success": False, "content": text, "header": {}}).encode()


class LoopClock:
    """Wall and elapsed time that follow the (virtual) loop; `sleep` is a suspended machine."""

    def __init__(self) -> None:
        self._slept = 0.0

    def suspend(self, seconds: float) -> None:
        self._slept += seconds

    def wall(self) -> float:
        return WALL + self.elapsed()

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time() + self._slept


class FakeConnection:
    """Zoom's end is driven by `frame`, `end` and the fields; ours is `Connection`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: list[tuple[float, str]] = []
        self.answers_heartbeats = True
        self.answers_close = True
        self.stuck = False
        """Sending blocks."""
        self.close_frames = 0
        self.ended: ConnectionEnded | None = None
        self.last_received = self._now()
        self.hearing = Hearing(self.last_received)
        self.reading = True
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.waiting_since: float | None = None

    def frame(self, *frames: bytes) -> None:
        if self.ended is None:
            self.last_received = self._now()
            self.hearing.read(sum(map(len, frames)), self.last_received)
            for frame in frames:
                self._frames.put_nowait(frame)
            if self.waiting_since is None:
                self.waiting_since = self.last_received

    def rest(self) -> list[bytes]:
        self.waiting_since = None
        return [
            frame for _ in range(self._frames.qsize()) if (frame := self._frames.get_nowait()) is not None
        ]

    def end(self, code: int | None = None, reason: str = "", cause: str = "closed") -> None:
        if self.ended is None:
            self.ended = ConnectionEnded(cause, code=code, reason=reason, clean=cause == "closed")
            self._frames.put_nowait(None)

    async def receive(self) -> list[bytes]:
        frame = await self._frames.get()
        if frame is None:
            self._frames.put_nowait(None)
            assert self.ended is not None
            raise self.ended
        self.waiting_since = self.waiting_since if self._frames.qsize() else None
        return [frame]

    async def send_text(self, text: str) -> None:
        if self.ended is not None:
            raise self.ended
        if self.stuck:
            await asyncio.Event().wait()
        self.sent.append((self._now(), text))
        if self.answers_heartbeats:
            self.frame(LIVE)

    async def close(self) -> None:
        self.close_frames += 1
        if not self.answers_close:
            await asyncio.sleep(2)
            self.abort()
        self.end(1000)

    def abort(self) -> None:
        self.end(cause="reset")

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


Script = Callable[[FakeConnection], Awaitable[None]]


class FakeZoom:
    """Serves one script per dial, the last one again and again; a DialError refuses."""

    def __init__(self, *scripts: Script | DialError) -> None:
        self._scripts = list(scripts)
        self.connections: list[FakeConnection] = []
        self.dialled: list[float] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def dial(self, url: str) -> FakeConnection:
        self.dialled.append(asyncio.get_running_loop().time())
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        if isinstance(script, DialError):
            raise script
        connection = FakeConnection(url)
        self.connections.append(connection)
        self._tasks.add(asyncio.ensure_future(script(connection)))
        return connection

    @property
    def waits(self) -> list[float]:
        """Seconds between dials."""
        return [later - earlier for earlier, later in zip(self.dialled, self.dialled[1:], strict=False)]


class JealousZoom(FakeZoom):
    """Serves one connection per URL, the newest: who was there before is told so, or only closed."""

    def __init__(self, *, word: bool = True) -> None:
        super().__init__(stays)
        self.word = word
        self.displaced: list[float] = []
        """When."""
        self._holders: dict[str, FakeConnection] = {}

    async def dial(self, url: str) -> FakeConnection:
        connection = await super().dial(url)
        holder = self._holders.get(url)
        self._holders[url] = connection
        if holder is not None and holder.ended is None:
            self.displaced.append(asyncio.get_running_loop().time())
            if self.word:
                holder.frame(refuse(DISPLACED))
            holder.end(1000, "Bye")
        return connection


async def stays(connection: FakeConnection) -> None:
    """Accepts, and stays open."""
    connection.frame(ACCEPT)


def closes(
    after_seconds: float, code: int | None = 1000, reason: str = "Bye", cause: str = "closed"
) -> Script:
    async def script(connection: FakeConnection) -> None:
        connection.frame(ACCEPT)
        await asyncio.sleep(after_seconds)
        connection.end(code, reason, cause)

    return script


def refuses(text: str, module: str = "build_connection") -> Script:
    async def script(connection: FakeConnection) -> None:
        connection.frame(refuse(text, module))
        await asyncio.sleep(0.05)
        connection.end(1000, "Bye")

    return script


class FakeTokens:
    """Hands out numbered tokens; a complaint brings the next, as often as `spares` allows."""

    def __init__(self, spares: int = 1) -> None:
        self.number = 1
        self.spares = spares
        self.error: TokenError | None = None
        self.accepted_values: list[str] = []

    async def get(self, min_life_seconds: float = 600.0) -> Token:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return Token(f"secret-{self.number}", "account_credentials", Instant(0, 0), 3600.0)

    def refused(self, token: Token) -> bool:
        self.number += 1
        self.spares -= 1
        return self.spares >= 0

    def accepted(self, token: Token) -> None:
        self.accepted_values.append(token.value)


class FakeConsumer:
    """Keeps what it gets; `capacity` events make it full until `drain`."""

    def __init__(self, capacity: int = 1_000_000) -> None:
        self.received: list[str] = []
        self.odd: list[tuple[bytes, str]] = []
        self.capacity = capacity
        self._room = asyncio.Event()

    def events(self, subscription: str, frames: Sequence[EventFrame]) -> None:
        self.received += [frame.content.decode() for frame in frames]

    def unreadable(self, subscription: str, raw: bytes, reason: str) -> None:
        self.odd.append((raw, reason))

    def refused(self, subscription: str, raw: bytes) -> None:
        self.odd.append((raw, "signature"))

    @property
    def full(self) -> bool:
        return len(self.received) >= self.capacity

    async def room(self) -> None:
        self._room.clear()
        await self._room.wait()

    def drain(self, more: int) -> None:
        self.capacity += more
        self._room.set()


class FakeListener:
    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.alive_walls: list[float] = []

    def accepted(self, wall: float) -> None:
        self.told.append(("accepted", wall - WALL))

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None:
        self.told.append(("lost", cause, clean, round(heard_until - WALL, 3)))

    def alive(self, heard_until: float) -> None:
        self.alive_walls.append(heard_until - WALL)


class House:
    """A runner among fakes."""

    def __init__(
        self,
        zoom: FakeZoom,
        *,
        spares: int = 1,
        capacity: int = 1_000_000,
        subscription: str = "sub1",
        seed: int = 7,
        twins: Twins | None = None,
        **source: object,
    ) -> None:
        self.zoom = zoom
        self.tokens = FakeTokens(spares)
        self.consumer = FakeConsumer(capacity)
        self.listener = FakeListener()
        self.clock = LoopClock()
        self.metrics = Metrics(CollectorRegistry())
        self.runner = SessionRunner(
            source_config(**source),
            subscription,
            self.tokens,
            self.consumer,
            self.listener,
            self.clock,
            Random(seed),
            self.metrics,
            dial=zoom.dial,
            twins=twins,
        )

    async def during(self, seconds: float) -> None:
        """Run it for so long, then stop it in order."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.runner.run())
            await asyncio.sleep(seconds)
            await self.runner.stop()

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value("zoomrelay_" + name, labels)


def source_config(**fields: object) -> SourceConfig:
    return SourceConfig.model_validate(
        {"name": "main", "account_id": "acc", "client_id": "id", "client_secret": SecretStr("s"), **fields}
    )
