"""Both ends of a takeover's conversation over the control socket (see `zoomrelay.takeover.messages`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec
from aiohttp import web

from zoomrelay.admin.socket_path import control_socket_path
from zoomrelay.errors import ControlRefused, RelayNotRunning, TakeoverRefused
from zoomrelay.takeover.messages import Begin, Line, Offer, Paths

BEAT_SECONDS = 0.1
_ANSWER_SECONDS = 30.0
_NDJSON = "application/x-ndjson"


class Handover(Protocol):
    """The old side (`zoomrelay.app.handover`)."""

    def begin(self, asked: Begin) -> Line: ...

    async def refused(self, told: Paths) -> None: ...

    def ready(self, told: Paths) -> None: ...

    def gone(self, journal: str) -> None: ...

    async def line(self, journal: str, beat_seconds: float) -> Line | None: ...


class Target(Protocol):
    """Whose place is taken."""

    @property
    def handover(self) -> Handover: ...


# --- the old one's end ------------------------------------------------------------------------------


def routes(target: Target) -> list[web.RouteDef]:
    """POST /takeover, /takeover/refused and /takeover/ready."""

    async def begin(request: web.Request) -> web.StreamResponse:
        return await _conversation(request, target.handover)

    async def refused(request: web.Request) -> web.Response:
        await target.handover.refused(msgspec.json.decode(await request.read(), type=Paths))
        return web.json_response({})

    async def ready(request: web.Request) -> web.Response:
        with _as_conflict():
            target.handover.ready(msgspec.json.decode(await request.read(), type=Paths))
        return web.json_response({})

    return [
        web.post("/takeover", begin),
        web.post("/takeover/refused", refused),
        web.post("/takeover/ready", ready),
    ]


async def _conversation(request: web.Request, handover: Handover) -> web.StreamResponse:
    asked = msgspec.json.decode(await request.read(), type=Begin)
    with _as_conflict():
        offer = handover.begin(asked)
    response = web.StreamResponse(headers={"Content-Type": _NDJSON})
    response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        await response.write(_line(offer))
        while (line := await handover.line(asked.journal, BEAT_SECONDS)) is None:
            await response.write(b"\n")
        await response.write(_line(line))
        await response.write_eof()
    except ConnectionError:
        pass  # the other side is gone
    finally:
        handover.gone(asked.journal)
    return response


def _line(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"


@contextmanager
def _as_conflict() -> Iterator[None]:
    """Refusals as the control socket tells them."""
    try:
        yield
    except TakeoverRefused as error:
        raise ControlRefused(str(error), status=409) from error


# --- the new one's end ------------------------------------------------------------------------------


class Predecessor:
    """The line to the relay that runs. `run` listens to it after `begin`."""

    def __init__(self, state_dir: Path, journal: str) -> None:
        """`journal`: the name of ours; by it the other knows us."""
        self._journal = journal
        self.ended = asyncio.Event()
        """It has said its last word, or is gone."""
        self.timeless: list[bytes] = []
        self._state_dir = state_dir
        self._cancelled: str | None = None
        self._session: aiohttp.ClientSession | None = None
        self._answer: aiohttp.ClientResponse | None = None

    async def begin(self, begin: Begin) -> Offer:
        """Raises `RelayNotRunning` where nobody answers, and `TakeoverRefused`."""
        connector = aiohttp.UnixConnector(path=str(control_socket_path(self._state_dir)))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_SECONDS)
        self._session = aiohttp.ClientSession("http://localhost", connector=connector, timeout=timeout)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                self._answer = await self._session.post("/takeover", data=msgspec.json.encode(begin))
                if self._answer.status != 200:
                    raise TakeoverRefused(await _why(self._answer))
                line = msgspec.json.decode(await self._answer.content.readline(), type=Line)
        except (aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
            raise RelayNotRunning(f"no relay is running on {self._state_dir}") from error
        if line.offer is None:
            raise TakeoverRefused("the running relay made no offer")
        return line.offer

    async def run(self) -> None:
        """Hear what it says, until it says no more."""
        assert self._answer is not None
        try:
            with suppress(aiohttp.ClientError, OSError, msgspec.MsgspecError):
                async for text in self._answer.content:
                    if text.strip():
                        self._hear(msgspec.json.decode(text, type=Line))
        finally:
            self.ended.set()

    def _hear(self, line: Line) -> None:
        if line.cancelled is not None:
            self._cancelled = line.cancelled
        if line.released is not None:
            self.timeless = [bytes.fromhex(digest) for digest in line.released.timeless]

    def check(self) -> None:
        """Raises `TakeoverRefused` where it goes on by itself."""
        if self._cancelled is not None:
            raise TakeoverRefused(f"the running relay goes on: {self._cancelled}")

    async def refused(self, paths: list[str]) -> None:
        """Returns when it has closed these, or is gone."""
        await self._post("/takeover/refused", paths)

    async def ready(self, paths: list[str]) -> None:
        """From its answer on it stops. Raises `TakeoverRefused`; returns also when it is gone."""
        await self._post("/takeover/ready", paths)

    async def _post(self, path: str, paths: list[str]) -> None:
        assert self._session is not None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                async with self._session.post(
                    path, data=msgspec.json.encode(Paths(self._journal, paths))
                ) as answer:
                    if answer.status != 200:
                        raise TakeoverRefused(await _why(answer))
        except (aiohttp.ClientError, OSError):
            pass  # that it is gone shows in `ended`, and in the lock

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _why(answer: aiohttp.ClientResponse) -> str:
    if answer.status == 404:
        return "the running relay is of a version that cannot be taken over: stop it, then start this one"
    try:
        return f"the running relay refuses: {msgspec.json.decode(await answer.read())['error']}"
    except (msgspec.MsgspecError, KeyError, TypeError):
        return f"the running relay answered {answer.status}"
