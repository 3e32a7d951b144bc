"""The promises of a sink, kept by every implementation."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from tests.unit.sinks.receiver import OK, Receiver, Request, receiver
from zoomrelay.clock import SystemClock
from zoomrelay.config.models import FileSinkConfig, HttpSinkConfig, StdoutSinkConfig
from zoomrelay.errors import SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.sinks import registry
from zoomrelay.sinks.base import Sink
from zoomrelay.sinks.disk import SystemDisk
from zoomrelay.sinks.file import FileSink
from zoomrelay.sinks.stdout import StdoutSink

PIPE_BYTES = 4096


class Place:
    """Where a sink delivers to, and what can go wrong there."""

    sink: Sink

    async def arrived(self) -> list[bytes]:
        """The contents that have arrived so far, in order, as a reader sees them now."""
        raise NotImplementedError

    def break_down(self) -> None:
        """From now on nothing can be delivered."""
        raise NotImplementedError

    def mend(self) -> None:
        raise NotImplementedError

    def stall(self) -> None:
        """From now on deliveries get stuck."""
        raise NotImplementedError

    def go_on(self) -> None:
        raise NotImplementedError


class Pipe(Place):
    """Standard output, piped into a program."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self._received = b""
        self._stalled = False
        self._small()
        self.sink = StdoutSink(StdoutSinkConfig(name="console"), self._writing)

    def _small(self) -> None:
        fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._reading, False)

    async def arrived(self) -> list[bytes]:
        with suppress(BlockingIOError):
            while chunk := os.read(self._reading, 65536):
                self._received += chunk
        return self._received.splitlines()

    def break_down(self) -> None:
        os.close(self._reading)

    def mend(self) -> None:
        self._reading, writing = os.pipe()
        os.dup2(writing, self._writing)
        os.close(writing)
        self._small()

    def stall(self) -> None:
        os.write(self._writing, b"\n" * PIPE_BYTES)

    def go_on(self) -> None:
        """Read what filled the pipe, which was not an event."""
        got = b""
        while len(got) < PIPE_BYTES:
            got += os.read(self._reading, PIPE_BYTES - len(got))
        assert got == b"\n" * PIPE_BYTES

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


class TroubledDisk(SystemDisk):
    """The real disk, until it is full or hangs."""

    def __init__(self) -> None:
        self.full = False
        self.turning = threading.Event()
        self.turning.set()

    def write(self, descriptor: int, data: memoryview) -> int:
        self.turning.wait()
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(descriptor, data)


class Log(Place):
    """A file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._disk = TroubledDisk()
        self.sink = FileSink(FileSinkConfig(name="archive", path=path), self._disk)

    async def arrived(self) -> list[bytes]:
        return self._path.read_bytes().splitlines()

    def break_down(self) -> None:
        self._disk.full = True

    def mend(self) -> None:
        self._disk.full = False

    def stall(self) -> None:
        self._disk.turning.clear()

    def go_on(self) -> None:
        self._disk.turning.set()


class Segments(Log):
    """A folder of segments."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "unused")
        self._directory = directory
        template = directory / "{source}" / "{event_family}.ndjson"
        config = FileSinkConfig(name="archive", path=template, rotate_bytes=100, min_free_bytes=1)
        self.sink = FileSink(config, self._disk)

    async def arrived(self) -> list[bytes]:
        found = [path.read_bytes() for path in sorted(self._directory.glob("main/x-*.ndjson"))]
        found += [path.read_bytes() for path in self._directory.glob("main/x.ndjson.part")]
        return b"".join(found).splitlines()


class Web(Place):
    """A web server."""

    def __init__(self, it: Receiver) -> None:
        self._receiver = it
        self.sink = registry.build(HttpSinkConfig(name="crm", url=it.url), SystemClock())

    async def arrived(self) -> list[bytes]:
        return [request.body for request in self._receiver.requests]

    def break_down(self) -> None:
        async def refuse(request: Request, writer: asyncio.StreamWriter) -> None:
            self._receiver.requests.remove(request)
            writer.write(b"HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n")

        self._receiver.answer = refuse

    def mend(self) -> None:
        self._receiver.answer = None

    def stall(self) -> None:
        going = self._going = asyncio.Event()

        async def wait(_: Request, writer: asyncio.StreamWriter) -> None:
            await going.wait()
            writer.write(OK)

        self._receiver.answer = wait

    def go_on(self) -> None:
        self._going.set()
        self._receiver.answer = None


@pytest.fixture(params=["stdout", "file", "segments", "http"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        made: Place
        match request.param:
            case "stdout":
                made = pipe = Pipe()
                stack.callback(pipe.close)
            case "file":
                made = Log(tmp_path / "events.ndjson")
            case "segments":
                made = Segments(tmp_path)
            case _:
                made = Web(await stack.enter_async_context(receiver()))
        stack.push_async_callback(made.sink.close)
        yield made


def events(*numbers: int) -> list[Event]:
    return [
        Event(
            number.to_bytes(16), "main", "abc", "x", number, "k", 0, b'{"event":"x","event_ts":%d}' % number
        )
        for number in numbers
    ]


def contents(given: Sequence[Event]) -> list[bytes]:
    return [event.content for event in given]


async def send(sink: Sink, given: Sequence[Event]) -> None:
    """As delivery does it, one call after the other."""
    for start in range(0, len(given), sink.max_batch):
        await sink.send(given[start : start + sink.max_batch], 1)


async def test_what_send_acknowledged_has_arrived_in_order(place: Place) -> None:
    await place.sink.open()
    first, second = events(*range(20)), events(*range(20, 30))
    await send(place.sink, first)
    assert await place.arrived() == contents(first)
    await send(place.sink, second)
    assert await place.arrived() == contents(first + second)


async def test_it_says_how_much_it_takes(place: Place) -> None:
    assert place.sink.name
    assert place.sink.max_batch >= 1
    assert place.sink.concurrency >= 1


async def test_what_failed_is_taken_when_it_is_sent_again(place: Place) -> None:
    await place.sink.open()
    before, batch = events(1), events(2)
    await place.sink.send(before, 1)
    received = await place.arrived()
    place.break_down()
    for attempt in (1, 2):
        with pytest.raises(SinkUnavailable) as caught:
            await place.sink.send(batch, attempt)
        assert caught.value.reason
    place.mend()
    await place.sink.send(batch, 3)
    assert received == contents(before)
    assert await place.arrived() == contents(before + batch)


async def test_send_may_be_cancelled_and_the_sink_works_on(place: Place) -> None:
    await place.sink.open()
    place.stall()
    stuck = asyncio.create_task(place.sink.send(events(1), 1))
    await asyncio.sleep(0.02)  # any moment will do
    assert not stuck.done()
    stuck.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stuck
    place.go_on()
    await place.sink.send(events(1), 2)
    await place.sink.send(events(2), 1)
    found = await place.arrived()
    assert found[-2:] == contents(events(1, 2))
    assert set(found) == set(contents(events(1, 2)))  # whole, if perhaps twice


async def test_a_call_cancelled_before_its_turn_delivers_nothing(place: Place) -> None:
    await place.sink.open()
    never = asyncio.create_task(place.sink.send(events(1), 1))
    never.cancel()
    with pytest.raises(asyncio.CancelledError):
        await never
    await place.sink.send(events(2), 1)
    assert await place.arrived() == contents(events(2))


async def test_close_is_prompt_while_a_delivery_is_stuck(place: Place) -> None:
    await place.sink.open()
    place.stall()
    stuck = asyncio.create_task(place.sink.send(events(1), 1))
    await asyncio.sleep(0.02)
    stuck.cancel()
    await asyncio.wait([stuck])
    await asyncio.wait_for(place.sink.close(), 1.0)
    place.go_on()


async def test_close_without_open_and_twice(place: Place) -> None:
    await place.sink.close()
    await place.sink.open()
    await place.sink.send(events(1), 1)
    await place.sink.close()
    await place.sink.close()
    assert await place.arrived() == contents(events(1))


async def test_open_twice_and_after_close(place: Place) -> None:
    await place.sink.open()
    await place.sink.open()
    await place.sink.send(events(1), 1)
    await place.sink.close()
    await place.sink.open()
    await place.sink.send(events(2), 1)
    assert await place.arrived() == contents(events(1, 2))


async def test_reopen_loses_nothing(place: Place) -> None:
    await place.sink.open()
    await place.sink.send(events(1), 1)
    await place.sink.reopen()
    await place.sink.send(events(2), 1)
    assert await place.arrived() == contents(events(1, 2))


@pytest.mark.parametrize(
    "config",
    [
        StdoutSinkConfig(name="a"),
        FileSinkConfig(name="b", path=Path("/nowhere/at/all")),
        HttpSinkConfig(name="c", url="http://127.0.0.1:1", concurrency=3),
    ],
    ids=lambda config: config.type,
)
def test_the_registry_builds_each_kind(config: StdoutSinkConfig | FileSinkConfig | HttpSinkConfig) -> None:
    make: Callable[..., Sink] = registry.build
    sink = make(config, SystemClock())
    assert sink.name == config.name
    assert sink.concurrency == (3 if config.type == "http" else 1)
