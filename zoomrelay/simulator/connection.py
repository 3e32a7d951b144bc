"""One upgraded connection, with the power to end badly.

aiohttp does the handshake and reads; everything is written to the transport directly, so that frames
can be sent many at a time, broken, or not at all.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from zoomrelay.clock import Clock
from zoomrelay.simulator.faults import How
from zoomrelay.simulator.journal import Connection
from zoomrelay.simulator.wire import Frame, Opcode, close_frame, encode_frame

_CLOSE_TIMEOUT_SECONDS = 10.0
_LINGER_NOT = struct.pack("ii", 1, 0)
"""SO_LINGER with 0 seconds: closing sends a reset and drops what is buffered."""


class Socket:
    """The transport of one `Connection`; keeps its record true."""

    def __init__(
        self,
        websocket: web.WebSocketResponse,
        writer: AbstractStreamWriter,
        transport: asyncio.Transport,
        record: Connection,
        clock: Clock,
    ) -> None:
        self.record = record
        self._websocket = websocket
        self._writer = writer
        self._transport = transport
        self._clock = clock
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def writable(self) -> bool:
        """What is written now gets as far as the operating system."""
        return not self.record.ending and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send, or do nothing if the connection has ended."""
        if self.writable:
            self._transport.write(data)

    def carry(self, frames: Sequence[Frame]) -> None:
        self.write(b"".join([frame.wire for frame in frames]))
        rubbish = sum(frame.kind != "event" for frame in frames)
        self.record.events += len(frames) - rubbish
        self.record.rubbish += rubbish

    async def drain(self, timeout_seconds: float) -> None:
        """Wait until the other side has read enough; reset the connection if it does not in time."""
        if not self.writable or not self._transport.get_write_buffer_size():
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._writer.drain()
        except TimeoutError:
            self.reset("stalled")
        except ConnectionError:
            pass  # the reading side notices and takes it down

    async def receive(self) -> tuple[WSMsgType, object, object]:
        """The next message: its type, data and extra. Of pings and closing frames too."""
        message = await self._websocket.receive()
        return message.type, message.data, message.extra

    def pong(self, payload: bytes) -> None:
        self.write(encode_frame(Opcode.PONG, payload))

    def after(self, seconds: float, how: How, code: int, reason: str) -> None:
        """Come to an end in this way later, if it has not ended by then."""
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(seconds, self.end, how, code, reason))

    def end(self, how: How, code: int = 1000, reason: str = "Bye") -> None:
        if how == "reset":
            self.reset("reset")
        elif how == "half-open":
            self.fall_silent()
        else:
            self.close(code, reason, "closed")

    def close(self, code: int, reason: str, ending: str) -> None:
        """Send a closing frame. The handler takes the connection down when it is answered."""
        if not self.writable:
            return
        self._transport.write(close_frame(code, reason))
        self._ended(ending, code, reason)
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(_CLOSE_TIMEOUT_SECONDS, self._not_answered))

    def reset(self, ending: str) -> None:
        if self.record.ending and self.record.ending != "half-open":
            return
        self._ended(ending)
        self.abort()

    def fall_silent(self) -> None:
        """Neither read nor write from now on, and keep TCP up."""
        if not self.writable:
            return
        self._transport.pause_reading()
        self._ended("half-open")

    def answer_close(self, code: int, reason: str) -> None:
        """The other side sent a closing frame: answer it and hang up."""
        if not self.record.ending:
            self.write(close_frame(code, reason))
            self._ended("client-closed", code, reason)
        self._transport.close()

    def lost(self) -> None:
        """The other side vanished."""
        if not self.record.ending:
            self._ended("client-gone")
        self._transport.close()

    def abort(self) -> None:
        """Take TCP down at once, with a reset."""
        raw = self._transport.get_extra_info("socket")
        if raw is not None and not self._transport.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._transport.abort()

    def release(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _not_answered(self) -> None:
        self.record.ending = "reset"
        self.abort()

    def _ended(self, ending: str, code: int | None = None, reason: str = "") -> None:
        record = self.record
        record.ending, record.code, record.reason = ending, code, reason
        record.ended_at = self._clock.wall()
