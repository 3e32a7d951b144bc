"""Tapping a whole relay: it shows what passes, and whoever looks harms nobody."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fronted import Running, running, toml
from zoomrelay.admin import tapping
from zoomrelay.admin.socket_path import control_socket_path
from zoomrelay.delivery.taps import MOST_TAPS
from zoomrelay.errors import ControlRefused
from zoomrelay.simulator.server import Simulator


@pytest.fixture
async def zoom() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def relay(tmp_path: Path, zoom: Simulator) -> AsyncIterator[Running]:
    config = tmp_path / "zoomrelay.toml"
    config.write_text(toml(zoom, tmp_path))
    async with running(config) as one:
        await one.until_ready(True)
        yield one


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110 - nobody says so
            await asyncio.sleep(0.01)


def made(number: int, name: str = "meeting.started", **more: Any) -> dict[str, Any]:
    return {"event": name, "event_ts": number, "payload": {"object": {"id": number, **more}}}


def archived(relay: Running) -> int:
    file = relay.file.parent / "archive.ndjson"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def tapper(relay: Running, *options: str) -> subprocess.Popen[bytes]:
    call = [sys.executable, "-m", "zoomrelay", "tap", "--config", str(relay.file), *options]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))


def hung(relay: Running) -> socket.socket:
    """Somebody who asks, and then reads nothing."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.connect(os.fspath(control_socket_path(relay.relay.config.state_dir)))
    one.sendall(b"GET /tap HTTP/1.1\r\nhost: localhost\r\n\r\n")
    return one


async def test_the_command_shows_what_it_was_asked_for(relay: Running, zoom: Simulator) -> None:
    options = ("--events", "meeting.*,!meeting.ended", "--source", "main")
    one = tapper(relay, *options, "--redact", "--fields", "event,payload.object.host_email")
    try:
        await until(lambda: relay.relay.taps._taps)
        for number, name in enumerate(["meeting.started", "meeting.ended", "phone.x", "meeting.x"]):
            await zoom.emit(made(number, name, host_email="ada@example.com"))
        assert one.stdout and one.stderr
        lines = [await asyncio.wait_for(asyncio.to_thread(one.stdout.readline), 20) for _ in range(2)]
        assert [json.loads(line) for line in lines] == [
            {"event": name, "payload.object.host_email": "a***@example.com"}
            for name in ("meeting.started", "meeting.x")
        ]
        one.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(one.wait, 20) == 0
        assert one.stderr.read() == b""
    finally:
        one.kill()
        one.communicate()


async def test_a_reader_that_goes_away_ends_the_command(relay: Running, zoom: Simulator) -> None:
    one = tapper(relay)
    try:
        await until(lambda: relay.relay.taps._taps)
        assert one.stdout and one.stderr
        one.stdout.close()
        await zoom.emit(made(1))
        assert await asyncio.to_thread(one.wait, 20) == 0
        assert one.stderr.read() == b""
    finally:
        one.kill()
        one.wait()
        one.stderr.close()


async def test_who_hangs_misses_events_and_nobody_else_does(relay: Running, zoom: Simulator) -> None:
    count, filler = 3000, "x" * 4000  # more than the kernel, the server and the tap hold
    hangs = hung(relay)
    await until(lambda: relay.relay.taps._taps)
    for number in range(count):
        await zoom.emit(made(number, filler=filler))
    await until(lambda: archived(relay) == count)
    (tap,) = relay.relay.taps._taps
    assert tap._missed > 0
    assert tap._bytes <= 4 * 1024 * 1024

    def account() -> tuple[int, int]:
        hangs.settimeout(20)
        found, seen, dropped = b"", 0, 0
        while seen + dropped < count:
            found += hangs.recv(1 << 20)
            whole, _, found = found.rpartition(b"\n")
            seen += whole.count(b'"event_ts":')
            dropped += sum(map(int, re.findall(rb'"dropped":(\d+)', whole)))
        return seen, dropped

    seen, dropped = await asyncio.to_thread(account)
    assert (seen > 0, dropped > 0, seen + dropped) == (True, True, count)
    hangs.close()


async def test_who_vanishes_is_forgotten(relay: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tapping, "BEAT_SECONDS", 0.05)
    for _ in range(2 * MOST_TAPS):
        gone = hung(relay)
        await until(lambda: relay.relay.taps._taps)
        gone.close()
        await until(lambda: not relay.relay.taps._taps)


async def test_one_that_hangs_does_not_hold_up_the_stop(tmp_path: Path, zoom: Simulator) -> None:
    config = tmp_path / "zoomrelay.toml"
    config.write_text(toml(zoom, tmp_path))
    loop = asyncio.get_running_loop()
    async with running(config) as one:
        await one.until_ready(True)
        hangs = hung(one)
        await until(lambda: one.relay.taps._taps)
        began = loop.time()
    assert loop.time() - began < 5
    hangs.close()


async def test_refusals(relay: Running) -> None:
    def first(*query: tuple[str, str]) -> bytes:
        return next(iter(relay.control.stream("/tap", query=query)))

    with pytest.raises(ControlRefused, match="there is no source mian") as caught:
        await asyncio.to_thread(first, ("source", "mian"))
    assert caught.value.status == 400
    many = [hung(relay) for _ in range(MOST_TAPS)]
    await until(lambda: len(relay.relay.taps._taps) == MOST_TAPS)
    with pytest.raises(ControlRefused, match="too many"):
        await asyncio.to_thread(first)
    for one in many:
        one.close()
