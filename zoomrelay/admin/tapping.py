"""GET /tap: events as they are held, one line of JSON each, for as long as the other side reads.

The first line is `{"privacy":{…}}`: what the relay's own `privacy.fields` say, name by name; null is "nothing
personal". An event is a line of the format `envelope`. `{"dropped":N}` stands where N events were left out
because the other side was too slow. An empty line means nothing; it comes every few seconds, to notice
who has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from aiohttp import web

from zoomrelay.event import Event
from zoomrelay.sinks import encode

BEAT_SECONDS = 5.0
_GATHER_SECONDS = 0.05
"""Between two portions: a terminal needs no more, and the relay's loop has other work."""


class Feed(Protocol):
    """What is tapped; see `zoomrelay.delivery.taps`."""

    async def read(self) -> tuple[Sequence[Event], int]:
        """Wait for events; and how many were missed behind them. Nothing at all: it has ended."""
        ...


async def stream(request: web.Request, feed: Feed, fields: Mapping[str, str | None]) -> web.StreamResponse:
    """Answer with what `feed` gives, until it ends or the other side is gone."""
    answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    try:
        await answer.prepare(request)
        await answer.write(msgspec.json.encode({"privacy": fields}) + b"\n")
        while portion := await _portion(feed):
            await answer.write(portion)
            await asyncio.sleep(_GATHER_SECONDS)
        await answer.write_eof()
    except ConnectionResetError:
        pass  # nobody is there to be told
    return answer


async def _portion(feed: Feed) -> bytes:
    """The next lines; empty at the end."""
    try:
        async with asyncio.timeout(BEAT_SECONDS):
            events, missed = await feed.read()
    except TimeoutError:
        return b"\n"
    lines = encode.lines(events, "envelope") if events else b""
    return lines + (b'{"dropped":%d}\n' % missed if missed else b"")
