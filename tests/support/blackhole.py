"""A TCP proxy that can swallow: connections stay up, and nothing gets through any more."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class BlackHole:
    """An async context manager on a free port before `port` of this machine.

    `swallow` makes the connections that are there half-open, in both directions; new ones work. Closing and
    resets are passed on otherwise.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._pairs: list[_Pair] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Side(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for pair in self._pairs:
            pair.swallowed = False
            for side in pair.sides:
                if not side.transport.is_closing():
                    side.transport.abort()
        await self._server.wait_closed()

    def swallow(self) -> int:
        """Make what is connected now half-open; how many connections that is."""
        alive = [pair for pair in self._pairs if not pair.swallowed and not pair.ended]
        for pair in alive:
            pair.swallowed = True
        return len(alive)

    def connect(self, client: _Side) -> None:
        """Somebody has connected: connect them on."""
        pair = _Pair(client)
        self._pairs.append(pair)
        pair.task = asyncio.get_running_loop().create_task(self._connect(pair), name="blackhole.connect")

    async def _connect(self, pair: _Pair) -> None:
        server = _Side(self, pair)
        try:
            await asyncio.get_running_loop().create_connection(lambda: server, "127.0.0.1", self._target)
        except OSError:
            pair.sides[0].transport.abort()


class _Pair:
    def __init__(self, client: _Side) -> None:
        self.sides = [client]
        self.swallowed = False
        self.ended = False
        self.waiting: list[bytes] = []
        """What the client said before the server was there."""
        self.task: asyncio.Task[None] | None = None


class _Side(asyncio.Protocol):
    def __init__(self, hole: BlackHole, pair: _Pair | None = None) -> None:
        self._hole = hole
        self._pair = pair

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._pair is None:
            self._hole.connect(self)
            self._pair = self._hole._pairs[-1]
        else:
            self._pair.sides.append(self)
            transport.write(b"".join(self._pair.waiting))

    def data_received(self, data: bytes) -> None:
        pair = self._pair
        assert pair is not None
        if pair.swallowed:
            return
        if (other := self._other()) is not None:
            other.transport.write(data)
        else:
            pair.waiting.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        assert self._pair is not None
        self._pair.ended = True
        other = self._other()
        if other is not None and not self._pair.swallowed:
            (other.transport.abort if error else other.transport.close)()

    def _other(self) -> _Side | None:
        assert self._pair is not None
        others = [side for side in self._pair.sides if side is not self]
        return others[0] if others else None
