"""What a real client cannot be made to do quickly: never to read, never to answer a closing frame."""

import asyncio
from typing import Any

import pytest

from zoomrelay.clock import SystemClock
from zoomrelay.simulator.connection import Socket
from zoomrelay.simulator.journal import Connection

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class _Transport:
    """A transport that keeps what is written and never gets rid of it."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def get_extra_info(self, name: str) -> None:
        return None

    def abort(self) -> None:
        self.aborted = True


class _Writer:
    async def drain(self) -> None:
        await asyncio.Event().wait()


def _socket() -> tuple[Socket, Any]:
    transport: Any = _Transport()
    record = Connection(1, "main", 0.0, accepted_at=0.0)
    unused: Any = None
    writer: Any = _Writer()
    return Socket(unused, writer, transport, record, SystemClock()), transport


async def test_who_never_reads_is_reset() -> None:
    socket, transport = _socket()
    socket.write(b"event")
    await socket.drain(30)
    assert asyncio.get_running_loop().time() == 30
    assert transport.aborted
    assert socket.record.ending == "stalled"


async def test_a_close_that_is_not_answered_was_no_proper_close() -> None:
    socket, transport = _socket()
    socket.close(1000, "Bye", "closed")
    assert socket.record.ending == "closed"
    await asyncio.sleep(11)
    assert transport.aborted
    assert socket.record.ending == "reset"


async def test_nothing_is_written_after_the_end() -> None:
    socket, transport = _socket()
    socket.close(1000, "Bye", "closed")
    written = transport.written
    socket.write(b"event")
    socket.close(1001, "again", "closed")
    assert transport.written == written
    assert socket.record.code == 1000
    socket.release()
