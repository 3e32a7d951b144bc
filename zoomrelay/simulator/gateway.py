"""The event WebSocket: who may connect, what they are told, and where events go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec
import structlog
from aiohttp import WSMsgType, web

from zoomrelay.clock import Clock
from zoomrelay.simulator import wire
from zoomrelay.simulator.connection import Socket
from zoomrelay.simulator.faults import Faults, How
from zoomrelay.simulator.journal import NOBODY, Journal
from zoomrelay.simulator.tokens import TokenBook
from zoomrelay.simulator.wire import Frame

OnSecondConnection = Literal["kick-old", "refuse-new", "allow-both"]

ELSEWHERE = "Connected in another place"
UNKNOWN_SUBSCRIPTION = "Subscription does not exist"
"""Invented: nobody has published what Zoom says to this."""

_STALLED_AFTER_SECONDS = 30.0

log = structlog.get_logger()


class Gateway:
    """Serves `/ws` and carries events to whoever is accepted there."""

    def __init__(
        self,
        tokens: TokenBook,
        faults: Faults,
        journal: Journal,
        clock: Clock,
        *,
        subscriptions: Iterable[str],
        on_second_connection: OnSecondConnection,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called whenever a connection is accepted, ends or sends something."""
        self.on_second_connection = on_second_connection
        self.subscriptions = tuple(subscriptions)
        self._tokens = tokens
        self._faults = faults
        self._journal = journal
        self._clock = clock
        self._changed = changed
        self._sockets: list[Socket] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        subscription = request.query.get("subscriptionId", "")
        if not subscription:
            return web.Response(status=404)
        if status := self._faults.take_upgrade_status():
            return web.Response(status=status)
        # Signs of life are answered here and in the open, because faults withhold them.
        websocket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False)
        writer = await websocket.prepare(request)
        transport = request.transport
        if transport is None:
            return websocket  # the client is gone already
        record = self._journal.connected(subscription, self._clock.wall())
        socket = Socket(websocket, writer, transport, record, self._clock)
        self._sockets.append(socket)
        try:
            self._welcome(socket, request.query.get("access_token", ""))
            await self._listen(socket)
        finally:
            self._forget(socket)
        return websocket

    def deliver(self, subscription: str, frames: Sequence[Frame]) -> bool:
        """Put these on every open connection of the subscription; whether there is any."""
        if self._faults.end_after_events and len(frames) > 1:
            return [self.deliver(subscription, [frame]) for frame in frames][-1]
        now = self._clock.wall()
        listeners = self._listeners(subscription)
        for socket in listeners:
            self._carry(socket, frames, now)
        if not listeners:
            # Zoom believes in a half-open connection until somebody takes its place.
            number = next((lost.record.number for lost in self._half_open(subscription)), NOBODY)
            self._journal.note(frames, now, subscription, number, heard=False)
        return bool(listeners)

    async def drain(self) -> None:
        """Wait until all who are connected have read enough."""
        for socket in self._listeners():
            await socket.drain(_STALLED_AFTER_SECONDS)

    def end(self, how: How, code: int, reason: str, subscription: str | None = None) -> int:
        """End the open connections (of one subscription) in this way; how many there were."""
        sockets = self._listeners(subscription)
        for socket in sockets:
            socket.end(how, code, reason)
        self._changed()
        return len(sockets)

    def part(self) -> None:
        """Say 1001 to everybody."""
        for socket in self._sockets:
            socket.close(1001, "going away", "closed")

    @property
    def parting(self) -> bool:
        """Somebody has yet to answer a closing frame."""
        return any(socket.record.ending != "half-open" for socket in self._sockets)

    def abort(self) -> None:
        """Take everything down at once."""
        for socket in self._sockets:
            socket.abort()

    # --- connecting ---------------------------------------------------------------------------------

    def _welcome(self, socket: Socket, token: str) -> None:
        if text := self._refusal(socket.record.subscription, token):
            socket.write(wire.reply("build_connection", text, success=False))
            socket.close(1000, "Bye", "refused")
            log.info("simulator.refused", connection=socket.record.number, text=text)
        elif not self._faults.never_accept:
            self._accept(socket)
        self._changed()

    def _refusal(self, subscription: str, token: str) -> str:
        if text := self._faults.take_refusal():
            return text
        if text := self._tokens.judge(token, self._clock.wall()):
            return text
        if subscription not in self.subscriptions:
            return UNKNOWN_SUBSCRIPTION
        taken = bool(self._listeners(subscription))
        return ELSEWHERE if taken and self.on_second_connection == "refuse-new" else ""

    def _accept(self, socket: Socket) -> None:
        record, faults = socket.record, self._faults
        if self.on_second_connection == "kick-old":
            for older in [*self._listeners(record.subscription), *self._half_open(record.subscription)]:
                self._displace(older)
        record.accepted_at = self._clock.wall()
        socket.write(wire.reply("build_connection", "ok"))
        if faults.end_after_seconds:
            socket.after(faults.end_after_seconds, faults.end_how, faults.close_code, faults.close_reason)
        log.info("simulator.accepted", connection=record.number, subscription=record.subscription)

    def _displace(self, socket: Socket) -> None:
        if socket.record.ending == "half-open":
            socket.abort()
            return
        socket.write(wire.reply("build_connection", ELSEWHERE, success=False))
        socket.close(1000, "Bye", "displaced")

    # --- an open connection -------------------------------------------------------------------------

    async def _listen(self, socket: Socket) -> None:
        while True:
            kind, data, extra = await socket.receive()
            if kind is WSMsgType.TEXT and isinstance(data, str):
                self._answer(socket, data)
            elif kind is WSMsgType.PING and isinstance(data, bytes | bytearray):
                if not self._faults.stop_answering:
                    socket.pong(bytes(data))
            elif kind is WSMsgType.CLOSE and isinstance(data, int):
                return socket.answer_close(data, extra if isinstance(extra, str) else "")
            elif kind not in (WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG):
                return socket.lost()

    def _answer(self, socket: Socket, text: str) -> None:
        """Reply to a heartbeat; everything else is ignored, as Zoom knows no other message."""
        try:
            beat = msgspec.json.decode(text, type=_Message).module == "heartbeat"
        except msgspec.DecodeError:
            return
        if not beat:
            return
        socket.record.heartbeats += 1
        if not self._faults.stop_answering:
            refusal = self._faults.refuse_heartbeat
            socket.write(wire.reply("heartbeat", refusal or "live", success=not refusal))
        self._changed()

    def _carry(self, socket: Socket, frames: Sequence[Frame], now: float) -> None:
        """Put frames on one connection, and end it where it has carried as many as it should."""
        socket.carry(frames)
        record, faults = socket.record, self._faults
        self._journal.note(frames, now, record.subscription, record.number, heard=True)
        if faults.end_after_events and record.events >= faults.end_after_events:
            socket.end(faults.end_how, faults.close_code, faults.close_reason)
            self._changed()

    def _listeners(self, subscription: str | None = None) -> list[Socket]:
        """Open connections, of one subscription or of all."""
        return [
            socket
            for socket in self._sockets
            if socket.record.open
            and socket.writable
            and (subscription is None or socket.record.subscription == subscription)
        ]

    def _half_open(self, subscription: str) -> list[Socket]:
        return [
            socket
            for socket in self._sockets
            if socket.record.ending == "half-open" and socket.record.subscription == subscription
        ]

    def _forget(self, socket: Socket) -> None:
        socket.release()
        socket.lost()
        self._sockets.remove(socket)
        self._changed()
        record = socket.record
        log.info("simulator.ended", connection=record.number, ending=record.ending, code=record.code)


class _Message(msgspec.Struct):
    module: str = ""
