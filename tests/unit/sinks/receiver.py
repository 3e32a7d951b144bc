"""A receiver on loopback whose answers are written byte by byte, for what no web server would do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class Request:
    connection: int
    """Counts from 1 in the order in which connections were made."""
    number: int
    """Which request on its connection, from 1."""
    line: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Receiver:
    """Answers 200 unless `answer` is set; an answer that closes its writer ends the connection."""

    answer: Answer | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    def say(self, data: bytes) -> None:
        """Answer everything from now on with `data`."""

        async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(data)

        self.answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection, number = self.connections, 0
        try:
            while not writer.is_closing() and (head := await _head(reader)):
                number += 1
                line, *rest = head.split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rest)
                }
                assert len(headers) == len(rest), f"a header comes twice: {rest}"
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                request = Request(connection, number, line, headers, body)
                self.requests.append(request)
                await self._answer(request, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if self.answer is None:
            writer.write(OK)
        else:
            await self.answer(request, writer)


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    it = Receiver()
    async with serving(it.serve, tls) as place:
        it.url = f"{'https' if tls else 'http'}://{place}"
        yield it


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """host:port where `serve` is called for each connection, which ends when it returns."""
    tasks: set[asyncio.Task[None]] = set()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 0.1)
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(attend(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _head(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n\r\n"))[:-4].decode()
    except asyncio.IncompleteReadError:
        return ""
