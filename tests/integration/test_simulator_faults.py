"""Every way of misbehaving, seen through a real client, and whether the journal tells the truth."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.zoom_client import accepted, content, dialled, message
from zoomrelay.simulator.faults import How
from zoomrelay.simulator.rubbish import Rubbish
from zoomrelay.simulator.server import Simulator

HEARTBEAT = '{"module":"heartbeat"}'
NOTHING_SECONDS = 0.15
"""How long a test listens to silence; too short could only let it pass."""


@pytest.fixture
async def zoom() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


async def _silence(socket: ClientConnection) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(NOTHING_SECONDS):
            await socket.recv()


async def _closed(socket: ClientConnection) -> ConnectionClosed:
    """Read on until the connection ends."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await socket.recv()
    return closed.value


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 4001])
async def test_a_proper_close_loses_nothing(zoom: Simulator, code: int) -> None:
    async with accepted(zoom) as socket:
        await zoom.burst(100)
        assert zoom.end("close", code, "because") == 1
        received = [await content(socket) for _ in range(100)]
        end = await _closed(socket)
    assert end.rcvd is not None and (end.rcvd.code, end.rcvd.reason) == (code, "because")
    assert received == [entry.content for entry in zoom.journal.since()]
    (connection,) = zoom.journal.connections
    assert (connection.ending, connection.code, connection.reason) == ("closed", code, "because")


async def test_events_after_the_close_go_to_nobody(zoom: Simulator) -> None:
    async with accepted(zoom) as socket:
        zoom.end()
        assert not await zoom.emit({"event": "lost"})
        await _closed(socket)
    (entry,) = zoom.journal.since()
    assert not entry.heard


async def test_a_reset_is_no_close(zoom: Simulator) -> None:
    async with accepted(zoom) as socket:
        zoom.end("reset")
        end = await _closed(socket)
        assert end.rcvd is None
        assert isinstance(end.__cause__, ConnectionResetError)
    assert zoom.journal.connections[0].ending == "reset"


async def test_a_half_open_connection_is_silent_and_stays_up(zoom: Simulator) -> None:
    async with accepted(zoom) as socket:
        zoom.end("half-open")
        await socket.send(HEARTBEAT)
        assert not await zoom.emit({"event": "into the void"})
        await _silence(socket)
        (entry,) = zoom.journal.since()
        assert (entry.connection, entry.heard) == (1, False)
        assert zoom.journal.connections[0].ending == "half-open"
        async with accepted(zoom) as second:
            assert await zoom.emit(b'{"event":"here again"}')
            assert await content(second) == b'{"event":"here again"}'
    assert zoom.journal.connections[0].heartbeats == 0


@pytest.mark.parametrize("how", ["close", "reset", "half-open"])
async def test_a_connection_ends_after_so_many_events(zoom: Simulator, how: How) -> None:
    zoom.faults.change({"end_after_events": 7, "end_how": how, "close_code": 1011})
    async with accepted(zoom) as socket:
        await zoom.burst(20)
        if how != "reset":
            assert [await content(socket) for _ in range(7)]
    entries = list(zoom.journal.since())
    assert [entry.heard for entry in entries] == [True] * 7 + [False] * 13
    (connection,) = zoom.journal.connections
    assert (connection.events, connection.ending) == (7, {"close": "closed"}.get(how, how))


async def test_a_connection_ends_after_so_many_seconds(zoom: Simulator) -> None:
    zoom.faults.change({"end_after_seconds": 0.05, "close_code": 1001, "close_reason": "restart"})
    async with accepted(zoom) as socket:
        end = await _closed(socket)
    assert end.rcvd is not None and (end.rcvd.code, end.rcvd.reason) == (1001, "restart")
    (connection,) = zoom.journal.connections
    assert connection.ended_at is not None and connection.accepted_at is not None
    assert connection.ended_at - connection.accepted_at >= 0.04


async def test_refusals_with_any_text_and_only_so_often(zoom: Simulator) -> None:
    zoom.faults.change({"refuse": "Token is invalid", "refuse_times": 1})
    async with dialled(zoom) as socket:
        frame = await message(socket)
        assert (frame["success"], frame["content"]) == (False, "Token is invalid")
        end = await _closed(socket)
        assert end.rcvd is not None and end.rcvd.code == 1000
    async with accepted(zoom):
        assert zoom.accepted == 1


async def test_upgrades_are_refused_with_a_status(zoom: Simulator) -> None:
    zoom.faults.change({"upgrade_status": 503, "upgrade_times": 1})
    with pytest.raises(InvalidStatus) as refused:
        async with dialled(zoom):
            pass
    assert refused.value.response.status_code == 503
    async with accepted(zoom):
        pass


async def test_a_connection_that_is_never_accepted_hears_nothing(zoom: Simulator) -> None:
    zoom.faults.never_accept = True
    async with dialled(zoom) as socket:
        await zoom.until(lambda: len(zoom.journal.connections) == 1)
        assert not await zoom.emit({"event": "lost"})
        await _silence(socket)
    assert zoom.journal.connections[0].accepted_at is None


async def test_unanswered_heartbeats_while_events_go_on(zoom: Simulator) -> None:
    async with accepted(zoom) as socket:
        zoom.faults.stop_answering = True
        await socket.send(HEARTBEAT)
        await socket.ping()
        await zoom.until(lambda: zoom.journal.connections[0].heartbeats == 1)
        await zoom.emit(b'{"event":"x"}')
        assert await content(socket) == b'{"event":"x"}'


async def test_refused_heartbeats(zoom: Simulator) -> None:
    async with accepted(zoom) as socket:
        zoom.faults.refuse_heartbeat = "Invalid Token"
        await socket.send(HEARTBEAT)
        frame = await message(socket)
        assert (frame["module"], frame["success"], frame["content"]) == ("heartbeat", False, "Invalid Token")


@pytest.mark.parametrize("kind", ["not-json", "truncated", "binary", "empty", "no-event"])
async def test_harmless_rubbish_arrives_and_the_connection_lives(zoom: Simulator, kind: str) -> None:
    async with accepted(zoom) as socket:
        assert await zoom.send_rubbish(Rubbish(kind))
        raw = await socket.recv()
        await zoom.emit(b'{"event":"x"}')
        assert await content(socket) == b'{"event":"x"}'
    rubbish, event = zoom.journal.since()
    assert (rubbish.kind, event.kind) == (kind, "event")
    assert (raw.encode() if isinstance(raw, str) else raw) == rubbish.content
    assert (zoom.journal.connections[0].events, zoom.journal.connections[0].rubbish) == (1, 1)


@pytest.mark.parametrize(("kind", "code"), [("invalid-utf8", 1007), ("oversize", 1009)])
async def test_rubbish_that_ends_the_connection(zoom: Simulator, kind: str, code: int) -> None:
    async with accepted(zoom) as socket:
        await zoom.send_rubbish(Rubbish(kind))
        await _closed(socket)
        await zoom.until(lambda: not zoom.accepted)
    assert (zoom.journal.connections[0].ending, zoom.journal.connections[0].code) == ("client-closed", code)


async def test_fragmented_events_are_whole_again(zoom: Simulator) -> None:
    zoom.faults.fragment_every = 1
    async with accepted(zoom) as socket:
        await zoom.burst(50)
        pieces = [piece async for piece in socket.recv_streaming()]
        received = [json.loads("".join(map(str, pieces)))["content"].encode()]
        received += [await content(socket) for _ in range(49)]
    assert len(pieces) == 5
    assert received == [entry.content for entry in zoom.journal.since()]


@pytest.mark.parametrize(
    ("faults", "numbers"),
    [
        ({"duplicate_every": 2}, [1, 2, 2, 3, 4, 4]),
        ({"reorder_every": 2}, [1, 3, 2, 4]),  # the 4th waits for a 5th in vain, then goes alone
        ({"late_every": 2, "late_seconds": 0.05}, [1, 3, 2, 4]),
    ],
)
async def test_disorder_reaches_the_wire_and_the_journal(
    zoom: Simulator, faults: dict[str, Any], numbers: list[int]
) -> None:
    zoom.faults.change(faults)
    async with accepted(zoom) as socket:
        for number in range(1, 5):
            await zoom.emit({"event": "x", "number": number})
        received = [json.loads(await content(socket))["number"] for _ in numbers]
    assert received == numbers
    assert [json.loads(entry.content)["number"] for entry in zoom.journal.since()] == numbers
