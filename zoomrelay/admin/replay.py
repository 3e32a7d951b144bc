"""Replays over the control socket: for as long as whoever asked stays connected, one line after the other.

An answer that breaks off before its proper end says that the replay did.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Annotated

import msgspec
from aiohttp import web

from zoomrelay.errors import SpoolError
from zoomrelay.event import Event
from zoomrelay.sinks import encode
from zoomrelay.spool.base import FOREVER_MS, Replay

REPORT_SECONDS = 0.1
LEAST_RATE = 0.001
"""Events per second."""
_NDJSON = "application/x-ndjson"


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be replayed."""

    sink: str = ""
    since_ms: int = 0
    until_ms: int = FOREVER_MS
    events: list[str] = []
    """Globs, as in the configuration of a sink."""
    events_per_second: Annotated[float, msgspec.Meta(ge=LEAST_RATE)] | None = None


async def order_of(request: web.Request) -> Order:
    """Raises `msgspec.MsgspecError`."""
    return msgspec.json.decode(await request.read(), type=Order)


async def report(request: web.Request, replay: Replay) -> web.StreamResponse:
    """Tell how far it is until it has ended; returns before that when nobody listens any more."""
    response = await _begin(request)
    with suppress(ConnectionError):  # the other side is gone
        while True:
            progress = replay.progress()
            await response.write(msgspec.json.encode(progress) + b"\n")
            if progress.ended:
                await response.write_eof()
                break
            await asyncio.sleep(REPORT_SECONDS)
    return response


async def stream(request: web.Request, portions: AsyncIterator[Sequence[Event]]) -> web.StreamResponse:
    """Write events, one line each; an empty line says only that the search goes on."""
    first = await anext(portions, ())  # what is refused must be known before the answer begins
    response = await _begin(request)
    with suppress(ConnectionError):
        try:
            await response.write(encode.lines(first, "raw") or b"\n")
            async for events in portions:
                await response.write(encode.lines(events, "raw") or b"\n")
        except SpoolError:
            if request.transport is not None:
                request.transport.close()  # an answer without its end
            return response
        await response.write_eof()
    return response


async def _begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": _NDJSON})
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response
