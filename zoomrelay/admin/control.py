"""The control socket: everything that looks into a running relay or changes it, HTTP over a unix socket.

    GET  /status          Status, with `ready` and `not_ready_because`
    GET  /gaps            [gap, …], those that last included
    GET  /dlq             [DeadLetter without content, …]; ?sink=NAME, ?limit=N (newest, oldest of them
                          first), ?before=N (only those with a smaller number)
    GET  /dlq/N           DeadLetter; its `content` is base64
    POST /dlq/redrive     {"numbers": [N, …]} -> {"count": how many there were}
    POST /dlq/discard     the same
    POST /replay          Order -> Progress, again and again until the end, one per line (see `replay`)
    POST /replay/read     Order -> the events themselves, one per line
    GET  /metrics         as the admin port has them, also where that is turned off; text
    GET  /stacks          what every thread and task is doing; text
    GET  /log             the last lines of the log; one JSON object per line
    POST /reload          -> {"added": [name, …], "removed": …, "changed": …, "waiting": …,
                          "needs_restart": …} (`zoomrelay.app.changes`)
    POST /upgrade         the installed version takes this one's place: the answer breaks off, or says why not
    POST /takeover        another relay takes this one's place (`zoomrelay.admin.takeover`)
    GET  /tap             events as they come (`zoomrelay.admin.tapping`); ?events=GLOB, ?source=NAME

Every refusal is {"error": words}; an invalid configuration (422) has {"problems": [{"where", "what",
"cure"}, …]} too. Who may open the socket may do all of this, so only the relay's own user may.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
from aiohttp import web

from zoomrelay.admin import replay, takeover
from zoomrelay.admin.health import Status, document
from zoomrelay.admin.socket_path import control_socket_path
from zoomrelay.admin.tapping import Feed, stream
from zoomrelay.errors import ConfigError, ControlRefused, ReplayRefused, SpoolError, StateDirectoryError
from zoomrelay.event import Event
from zoomrelay.spool.base import DeadLetter, Replay
from zoomrelay.telemetry.redaction import redact

log = structlog.get_logger()

DEFAULT_LIMIT = 1000
_LARGEST_BODY_BYTES = 8 * 1024 * 1024
_CLOSE_SECONDS = 0.2
_LOOK_SECONDS = 2.0


class ControlTarget(Protocol):
    """What a running relay can be asked and told."""

    @property
    def handover(self) -> takeover.Handover: ...

    def status(self) -> Status: ...

    def metrics(self) -> bytes: ...

    def stacks(self) -> str: ...

    def recent_log(self) -> str: ...

    async def gaps(self) -> Sequence[dict[str, Any]]:
        """Every gap of the ledger as JSON, those that last at the end."""
        ...

    async def reload(self) -> msgspec.Struct:
        """Read the configuration anew and take it over; what that came to, in names without values.
        Raises `ConfigError`, or `ControlRefused` at the wrong moment; then nothing was changed."""
        ...

    async def upgrade(self) -> None:
        """Let the version that is installed now take over; does not return where it does, else raises
        `ControlRefused`."""
        ...

    async def dead_letters(
        self, *, sink: str | None, limit: int, before: int | None
    ) -> Sequence[DeadLetter]: ...

    async def dead_letter(self, number: int) -> DeadLetter | None: ...

    async def redrive(self, numbers: Sequence[int]) -> int: ...

    async def discard(self, numbers: Sequence[int]) -> int: ...

    async def begin_replay(self, order: replay.Order) -> Replay:
        """As `Spool.begin_replay`; or raises `ControlRefused` at the wrong moment."""
        ...

    def end_replay(self, replay: Replay) -> None: ...

    def retained(self, order: replay.Order) -> AsyncIterator[Sequence[Event]]: ...

    def privacy_fields(self) -> Mapping[str, str | None]:
        """Kinds of field by name, where these differ from the built-in map; None: nothing personal."""
        ...

    def tap(self, events: Sequence[str], sources: Sequence[str]) -> AbstractContextManager[Feed]:
        """Events as they are held, while inside; `events` are globs as a sink has them. Raises
        `ControlRefused`."""
        ...


class Numbers(msgspec.Struct, forbid_unknown_fields=True):
    """Numbers of dead letters."""

    numbers: list[int]


class ControlServer:
    """Serves `target` at the control socket of `state_dir`, whose lock the caller holds."""

    def __init__(self, state_dir: Path, target: ControlTarget) -> None:
        self._state_dir = state_dir
        self._target = target
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        """Listen; a socket left behind by a killed relay is replaced. Raises `StateDirectoryError`."""
        listening = _listening_socket(control_socket_path(self._state_dir))
        app = web.Application(middlewares=[_explained], client_max_size=_LARGEST_BODY_BYTES)
        app.add_routes(self._routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_SECONDS)
        await self._runner.setup()
        await self._listen(listening)

    async def keep(self) -> None:
        """Listen anew wherever somebody has removed the socket; for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._is_there():
                continue
            try:
                listening = _listening_socket(control_socket_path(self._state_dir))
            except StateDirectoryError:
                continue  # there is no directory for it; the spool says so
            self._server.close()
            await self._listen(listening)
            log.info("control.listening_again")

    async def _listen(self, listening: socket.socket) -> None:
        assert self._runner is not None and self._runner.server is not None
        self._inode = control_socket_path(self._state_dir).stat().st_ino
        self._server = await asyncio.get_running_loop().create_unix_server(
            self._runner.server, sock=listening
        )

    def _is_there(self) -> bool:
        try:
            return control_socket_path(self._state_dir).stat().st_ino == self._inode
        except OSError:
            return False

    async def close(self) -> None:
        """Stop listening, and remove the socket. May be called without `open`, and twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._server.close()
            control_socket_path(self._state_dir).unlink(missing_ok=True)
            await runner.cleanup()

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/status", self._status),
            web.get("/gaps", self._gaps),
            web.get("/dlq", self._dead_letters),
            web.get("/dlq/{number}", self._dead_letter),
            web.post("/dlq/redrive", self._redrive),
            web.post("/dlq/discard", self._discard),
            web.post("/replay", self._replay),
            web.post("/replay/read", self._read),
            web.post("/reload", self._reload),
            web.post("/upgrade", self._upgrade),
            web.get("/tap", self._tap),
            web.get("/metrics", self._metrics),
            web.get("/stacks", self._stacks),
            web.get("/log", self._log),
            *takeover.routes(self._target),
        ]

    async def _status(self, _request: web.Request) -> web.Response:
        return _json(document(self._target.status()))

    async def _gaps(self, _request: web.Request) -> web.Response:
        return _json(await self._target.gaps())

    async def _dead_letters(self, request: web.Request) -> web.Response:
        limit = _number(request.query.get("limit", str(DEFAULT_LIMIT)))
        before = _number(request.query["before"]) if "before" in request.query else None
        letters = await self._target.dead_letters(sink=request.query.get("sink"), limit=limit, before=before)
        return _json([_clean(letter) for letter in letters])

    async def _dead_letter(self, request: web.Request) -> web.Response:
        number = _number(request.match_info["number"])
        letter = await self._target.dead_letter(number)
        if letter is None:
            raise web.HTTPNotFound(reason=f"there is no dead letter {number}")
        # The content is the event itself, byte for byte; only what is said about it is redacted.
        return _json_as_is(_clean(letter))

    async def _redrive(self, request: web.Request) -> web.Response:
        return _json({"count": await self._target.redrive(await _numbers(request))})

    async def _discard(self, request: web.Request) -> web.Response:
        return _json({"count": await self._target.discard(await _numbers(request))})

    async def _replay(self, request: web.Request) -> web.StreamResponse:
        order = await replay.order_of(request)
        begun = await self._target.begin_replay(order)
        try:
            return await replay.report(request, begun)
        finally:
            self._target.end_replay(begun)

    async def _read(self, request: web.Request) -> web.StreamResponse:
        order = await replay.order_of(request)
        return await replay.stream(request, self._target.retained(order))

    async def _reload(self, _request: web.Request) -> web.Response:
        return _json(await self._target.reload())

    async def _metrics(self, _request: web.Request) -> web.Response:
        return _text(self._target.metrics().decode())

    async def _stacks(self, _request: web.Request) -> web.Response:
        return _text(self._target.stacks())

    async def _log(self, _request: web.Request) -> web.Response:
        return _text(self._target.recent_log())

    async def _upgrade(self, _request: web.Request) -> web.Response:
        await self._target.upgrade()
        return _json({})

    async def _tap(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        with self._target.tap(query.getall("events", []), query.getall("source", [])) as feed:
            return await stream(request, feed, self._target.privacy_fields())


def _listening_socket(path: Path) -> socket.socket:
    """0600, and listening before it has its name: whoever sees the socket can connect."""
    unnamed = path.with_suffix(".new")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        unnamed.unlink(missing_ok=True)
        listening.bind(os.fspath(unnamed))
        unnamed.chmod(0o600)
        listening.listen(16)
        unnamed.rename(path)
    except OSError as error:
        listening.close()
        raise StateDirectoryError(f"cannot make the control socket {path}: {error.strerror}") from error
    listening.setblocking(False)
    return listening


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _explained(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Refusals in JSON, in words."""
    try:
        return await handler(request)
    except web.HTTPException as answer:
        return _json({"error": answer.reason}, answer.status)
    except msgspec.MsgspecError as error:
        return _json({"error": str(error)}, 400)
    except ConfigError as error:
        problems = [{"where": p.where, "what": p.what, "cure": p.cure} for p in error.problems]
        return _json({"error": f"the configuration is invalid: {error}", "problems": problems}, 422)
    except ControlRefused as error:
        return _json({"error": str(error)}, error.status)
    except ReplayRefused as error:
        return _json({"error": str(error)}, 409)
    except SpoolError as error:
        return _json({"error": str(error)}, 503)


async def _numbers(request: web.Request) -> list[int]:
    return msgspec.json.decode(await request.read(), type=Numbers).numbers


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise web.HTTPBadRequest(reason="must be a whole number")
    return int(text)


def _clean(letter: DeadLetter) -> DeadLetter:
    """What receivers answered may echo what they were sent."""
    return msgspec.structs.replace(letter, reason=redact(letter.reason), excerpt=redact(letter.excerpt))


def _text(text: str) -> web.Response:
    return web.Response(text=redact(text))


def _json(body: object, status: int = 200) -> web.Response:
    text = redact(msgspec.json.encode(body).decode())
    return web.Response(text=text, status=status, content_type="application/json")


def _json_as_is(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
