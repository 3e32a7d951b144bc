"""The pretend Zoom behaves like the documented one, seen through a real client."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.zoom_client import accepted, content, dialled, message, token_of, url_of
from zoomrelay.simulator.journal import NOBODY
from zoomrelay.simulator.server import Simulator

HEARTBEAT = '{"module":"heartbeat"}'


@pytest.fixture
async def zoom() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


async def _refusal(socket: ClientConnection) -> tuple[str, int, str]:
    """The text of a refusal, and the code and reason of the close that follows."""
    frame = await message(socket)
    assert (frame["module"], frame["success"]) == ("build_connection", False)
    with pytest.raises(ConnectionClosed) as closed:
        await socket.recv()
    assert closed.value.rcvd is not None
    return frame["content"], closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize(("token", "text"), [("", "token is empty"), ("no.such.token", "Invalid Token")])
async def test_a_bad_token_is_refused(zoom: Simulator, token: str, text: str) -> None:
    async with dialled(zoom, token=token) as socket:
        assert await _refusal(socket) == (text, 1000, "Bye")
    assert zoom.journal.connections[0].ending == "refused"


async def test_an_expired_token_is_refused() -> None:
    async with Simulator(expires_in_seconds=0) as zoom, dialled(zoom) as socket:
        assert await _refusal(socket) == ("Token is invalid", 1000, "Bye")


async def test_an_unknown_subscription_is_refused(zoom: Simulator) -> None:
    async with dialled(zoom, subscription="ZhPGtK84QbapRWXzEBW7MA") as socket:
        assert (await _refusal(socket))[1:] == (1000, "Bye")


async def test_no_subscription_is_a_404(zoom: Simulator) -> None:
    from websockets.asyncio.client import connect

    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{zoom.ws_url}?access_token={token_of(zoom)}", proxy=None)
    assert refused.value.response.status_code == 404


async def test_heartbeats_are_answered_and_other_words_are_not(zoom: Simulator) -> None:
    async with accepted(zoom) as socket:
        for words in ("heartbeat", "{", '{"module":"chatter"}', '{"module":7}', "[]", HEARTBEAT):
            await socket.send(words)
        answer = await socket.recv()
        assert answer == '{"module":"heartbeat","success":true,"content":"live","header":{}}'
        await (await socket.ping())
    assert zoom.journal.connections[0].heartbeats == 1


async def test_events_arrive_in_order_and_byte_for_byte(zoom: Simulator) -> None:
    async with accepted(zoom) as socket:
        await zoom.burst(500)
        received = [await content(socket) for _ in range(500)]
    sent = list(zoom.journal.since())
    assert received == [entry.content for entry in sent]
    assert all(entry.heard and entry.connection == 1 for entry in sent)
    assert zoom.journal.connections[0].events == 500


async def test_a_given_event_goes_out_as_it_is(zoom: Simulator) -> None:
    odd = b'{ "event":"x",\n "payload":{"a\\/b":"\\ud83d"} }'
    async with accepted(zoom) as socket:
        assert await zoom.emit(odd)
        assert await content(socket) == odd
        assert await zoom.emit({"event": "y"})
        assert json.loads(await content(socket)) == {"event": "y"}


async def test_events_are_unsigned_unless_there_is_a_secret_token(zoom: Simulator) -> None:
    async with accepted(zoom) as socket:
        await zoom.burst(1)
        assert (await message(socket))["header"] == {}


async def test_signed_events_verify() -> None:
    async with Simulator(secret_token="sesame") as zoom, accepted(zoom) as socket:
        await zoom.burst(5)
        for _ in range(5):
            frame = await message(socket)
            stamp = frame["header"]["x-zm-request-timestamp"]
            signed = f"v0:{stamp}:{frame['content']}".encode()
            digest = hmac.new(b"sesame", signed, hashlib.sha256).hexdigest()
            assert frame["header"]["x-zm-signature"] == rf"v0\u003d{digest}"


async def test_what_nobody_hears_is_noted_and_gone(zoom: Simulator) -> None:
    assert not await zoom.emit({"event": "lost"})
    async with accepted(zoom) as socket:
        assert await zoom.emit({"event": "heard"})
        assert json.loads(await content(socket))["event"] == "heard"
    lost, heard = zoom.journal.since()
    assert (lost.connection, lost.heard) == (NOBODY, False)
    assert (heard.connection, heard.heard) == (1, True)


async def test_every_subscription_gets_every_event() -> None:
    names = ("first-subscription-000", "second-subscription-00")
    async with (
        Simulator(subscriptions=names) as zoom,
        accepted(zoom, subscription=names[0]) as one,
        accepted(zoom, subscription=names[1]) as two,
    ):
        assert await zoom.emit(b'{"event":"both"}')
        assert await content(one) == await content(two) == b'{"event":"both"}'
        assert await zoom.emit(b'{"event":"second"}', subscription=names[1])
        assert await content(two) == b'{"event":"second"}'
        assert zoom.accepted == 2
        with pytest.raises(ValueError):
            await zoom.emit(b'{"event":"x"}', subscription="third-subscription-000")


async def test_a_second_connection_kicks_the_first_out(zoom: Simulator) -> None:
    async with accepted(zoom) as first, accepted(zoom) as second:
        assert await _refusal(first) == ("Connected in another place", 1000, "Bye")
        await zoom.emit(b'{"event":"x"}')
        assert await content(second) == b'{"event":"x"}'
    assert [connection.ending for connection in zoom.journal.connections] == ["displaced", "client-closed"]


async def test_a_second_connection_is_refused_where_that_is_wanted(zoom: Simulator) -> None:
    zoom.on_second_connection = "refuse-new"
    async with accepted(zoom) as first, dialled(zoom) as second:
        assert await _refusal(second) == ("Connected in another place", 1000, "Bye")
        await zoom.emit(b'{"event":"x"}')
        assert await content(first) == b'{"event":"x"}'


async def test_both_connections_live_where_that_is_wanted(zoom: Simulator) -> None:
    zoom.on_second_connection = "allow-both"
    async with accepted(zoom) as first, accepted(zoom) as second:
        await zoom.emit(b'{"event":"x"}')
        assert await content(first) == await content(second) == b'{"event":"x"}'
    assert [entry.connection for entry in zoom.journal.since()] == [1, 2]


async def test_how_a_client_ends_is_noted(zoom: Simulator) -> None:
    async with accepted(zoom) as socket:
        await socket.close(1001, "enough")
    await zoom.until(lambda: not zoom.accepted)
    async with accepted(zoom) as socket:
        socket.transport.abort()
        await zoom.until(lambda: not zoom.accepted)
    closed, gone = zoom.journal.connections
    assert (closed.ending, closed.code, closed.reason) == ("client-closed", 1001, "enough")
    assert gone.ending == "client-gone"


async def test_the_end_of_the_simulator_is_a_proper_close() -> None:
    async with Simulator() as zoom:
        socket = await dialled(zoom).__aenter__()
        port = zoom.port
    with pytest.raises(ConnectionClosed) as closed:
        async for _ in socket:
            pass
        await socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
    async with Simulator(port=port) as again:
        assert again.port == port


async def test_a_taken_port_is_an_oserror(zoom: Simulator) -> None:
    with pytest.raises(OSError):
        async with Simulator(port=zoom.port):
            pass


async def test_the_stream_ends_after_its_count_and_heartbeats_come_through() -> None:
    async with Simulator() as zoom, accepted(zoom) as socket:
        zoom.set_rate(5000, count=500)
        await socket.send(HEARTBEAT)
        await zoom.until(lambda: zoom.finished)
        frames = [await message(socket) for _ in range(501)]
        assert sum(frame["module"] == "message" for frame in frames) == 500
        assert zoom.journal.count == 500


async def test_a_reader_that_pauses_holds_the_stream_up_and_loses_nothing(zoom: Simulator) -> None:
    async with accepted(zoom) as socket:
        burst = asyncio.create_task(zoom.burst(8_000))
        await zoom.until(lambda: zoom.journal.count > 0)
        received = [await content(socket) for _ in range(8_000)]
        await burst
    assert received == [entry.content for entry in zoom.journal.since()]
    assert url_of(zoom).startswith("ws://127.0.0.1:")
