"""What a request looks like on the wire, and when its connection is used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from multidict import CIMultiDict, istr
from yarl import URL

from tests.unit.sinks.receiver import OK, Receiver, Request, serving
from zoomrelay.sinks.http_poster import Poster, Reply

Make = Callable[..., Poster]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def made(url: str, proxy: str | None = None, **headers: str) -> Poster:
            own = CIMultiDict({"user-agent": "test", **headers})
            poster = Poster(URL(url), own, connections=1, tls=True, proxy=proxy)
            stack.push_async_callback(poster.close)
            return poster

        yield made


async def post(poster: Poster, body: bytes = b"{}", **headers: str) -> int:
    """The status."""
    reply = await poster.post(body, {istr(name): value for name, value in headers.items()})
    reply.release()
    return reply.status


async def test_every_header_comes_once(there: Receiver, make: Make) -> None:
    poster = make(there.url + "/a?b=c", Kept="1", Replaced="2")
    await post(poster, b"first", replaced="3")
    await post(poster, b"second", other="4")
    host = there.url.removeprefix("http://")
    first, second = there.requests
    assert (first.line, first.body) == ("POST /a?b=c HTTP/1.1", b"first")
    always = {"host": host, "user-agent": "test", "kept": "1"}
    assert first.headers == {**always, "replaced": "3", "content-length": "5"}
    assert second.headers == {**always, "replaced": "2", "other": "4", "content-length": "6"}


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0b", "\x1f", "\x7f"])
async def test_a_header_cannot_bring_others(there: Receiver, make: Make, value: str) -> None:
    poster = make(there.url)
    with pytest.raises(ValueError, match="control character"):
        await post(poster, name=value)
    assert await post(poster, name="ö\tä") == 200
    assert [request.headers["name"] for request in there.requests] == ["ö\tä"]


async def test_interim_answers_are_passed_over(there: Receiver, make: Make) -> None:
    there.say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK)
    poster = make(there.url)
    assert [await post(poster), await post(poster)] == [200, 200]
    assert there.connections == 1


async def test_an_answer_before_the_request_is_taken_costs_the_connection(make: Make) -> None:
    """What is left of the request would be read as the next one."""
    connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too large\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.Event().wait()

    async with serving(refuse) as place:
        poster = make(f"http://{place}")
        assert [await post(poster, b"x" * 50_000_000) for _ in range(2)] == [413, 413]
    assert connections == 2


async def test_an_answer_that_nobody_asked_for_answers_nothing(there: Receiver, make: Make) -> None:
    writers = []

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(OK)

    there.answer = answer
    poster = make(there.url)
    reply: Reply = await poster.post(b"1", {})
    protocol = reply.connection.protocol
    assert protocol is not None
    reply.release()
    writers[0].write(OK)
    async with asyncio.timeout(10):
        while not protocol.should_close:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    with pytest.raises(ConnectionError):
        await poster.post(b"2", {})
    assert await post(poster, b"2") == 200
    assert [(request.connection, request.body) for request in there.requests] == [(1, b"1"), (2, b"2")]


@pytest.mark.parametrize("kind", ["proxy", "direct"])
async def test_a_proxy_is_told_the_whole_address_and_who_asks(there: Receiver, make: Make, kind: str) -> None:
    proxy = there.url.replace("http://", "http://user:pass@")
    poster = make("http://crm.internal/a?b", proxy) if kind == "proxy" else make(there.url + "/a?b")
    await post(poster)
    await post(poster)
    target = "http://crm.internal/a?b" if kind == "proxy" else "/a?b"
    assert [request.line for request in there.requests] == [f"POST {target} HTTP/1.1"] * 2
    expected = "Basic dXNlcjpwYXNz" if kind == "proxy" else None
    assert [request.headers.get("proxy-authorization") for request in there.requests] == [expected] * 2
