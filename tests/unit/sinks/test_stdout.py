"""Standard output as a sink, on a real pipe."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoomrelay.config.models import StdoutSinkConfig
from zoomrelay.errors import SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.sinks.stdout import StdoutSink

BATCH = [
    Event(bytes(16), "main", "abc", "x", None, "", 0, b'{"event":"x","n":%d,"filler":"%b"}' % (n, b"x" * 900))
    for n in range(500)
]
EXPECTED = b"".join(event.content + b"\n" for event in BATCH)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            pass


class Reader(threading.Thread):
    """Reads until the pipe ends."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self._descriptor = descriptor
        self.received = b""
        self.start()

    def run(self) -> None:
        while chunk := os.read(self._descriptor, 1000):
            self.received += chunk


@pytest.mark.parametrize("blocking", [True, False])
async def test_more_than_a_pipe_holds_goes_through(pipe: tuple[int, int], blocking: bool) -> None:
    reading, writing = pipe
    os.set_blocking(writing, blocking)
    reader = Reader(reading)
    sink = StdoutSink(StdoutSinkConfig(name="console"), writing)
    await sink.open()
    await sink.send(BATCH, 1)
    await sink.close()
    os.close(writing)
    reader.join(5)
    assert reader.received == EXPECTED


async def test_a_closed_pipe_is_a_sink_that_is_down(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    sink = StdoutSink(StdoutSinkConfig(name="console"), writing)
    await sink.open()
    with pytest.raises(SinkUnavailable, match="whatever read it has gone"):
        await sink.send(BATCH[:1], 1)
    await sink.close()


async def test_a_closed_descriptor_is_found_at_open(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    os.close(writing)
    with pytest.raises(SinkUnavailable, match="standard output cannot be written"):
        await StdoutSink(StdoutSinkConfig(name="console"), writing).open()


async def test_a_line_that_was_torn_by_a_failure_is_ended(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when standard output is a file on a disk that is full for a while."""
    reading, writing = pipe
    room = 10
    real_write = os.write

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal room
        if descriptor != writing:
            return real_write(descriptor, data)
        if room == 0:
            room = 1 << 20
            raise OSError(28, "No space left on device")
        written = real_write(descriptor, data[:room])
        room -= written
        return written

    monkeypatch.setattr("zoomrelay.sinks.stdout.os.write", write)
    sink = StdoutSink(StdoutSinkConfig(name="console"), writing)
    with pytest.raises(SinkUnavailable, match="No space left"):
        await sink.send(BATCH[:1], 1)
    await sink.send(BATCH[:2], 2)
    await sink.close()
    lines = os.read(reading, 65536).split(b"\n")
    assert lines == [BATCH[0].content[:10], BATCH[0].content, BATCH[1].content, b""]


def test_a_reader_that_never_reads_does_not_hold_up_the_end_of_the_process() -> None:
    program = """
        import asyncio, sys
        from zoomrelay.config.models import StdoutSinkConfig
        from zoomrelay.event import Event
        from zoomrelay.sinks.stdout import StdoutSink

        async def main():
            sink = StdoutSink(StdoutSinkConfig(name="console"))
            await sink.open()
            event = Event(bytes(16), "main", "abc", "x", None, "", 0, b"x" * 10_000_000)
            stuck = asyncio.create_task(sink.send([event], 1))
            await asyncio.sleep(0.05)
            stuck.cancel()
            await asyncio.wait([stuck])
            await sink.close()

        asyncio.run(main())
        print("ended", file=sys.stderr)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    try:
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == b"ended\n"
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()


async def test_the_loop_runs_on_while_the_pipe_is_full(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sink = StdoutSink(StdoutSinkConfig(name="console"), writing)
    stuck = asyncio.create_task(sink.send(BATCH, 1))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not stuck.done()
    reader = Reader(reading)
    await stuck
    await sink.close()
    os.close(writing)
    reader.join(5)
    assert reader.received == EXPECTED


async def test_a_file_that_a_kill_left_with_half_a_line_gets_its_end_first(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b'{"event":"whole"}\n{"event":"ha')
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
    sink = StdoutSink(StdoutSinkConfig(name="console"), descriptor)
    try:
        await sink.open()
        await sink.send([Event(b"0" * 16, "main", "sub", "a", None, "", 0, b'{"event":"a"}')], 1)
    finally:
        await sink.close()
        os.close(descriptor)
    assert file.read_bytes() == b'{"event":"whole"}\n{"event":"ha\n{"event":"a"}\n'
