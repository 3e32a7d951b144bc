"""The WebSocket itself, against a real server on loopback."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from tests.unit.session.fakes import source_config
from zoomrelay.errors import ConnectionEnded, DialError
from zoomrelay.session import transport
from zoomrelay.session.spread import Addresses
from zoomrelay.session.transport import Dialler, StampedConnection

PEM = Path(__file__).with_name("localhost.pem")
TOKEN = "planted-token"
Handler = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def silent(connection: ServerConnection) -> None:
    await connection.wait_closed()


@asynccontextmanager
async def server(handler: Handler = silent, **options: object) -> AsyncIterator[int]:
    async with serve(handler, "127.0.0.1", 0, **options) as listening:  # type: ignore[arg-type]
        yield listening.sockets[0].getsockname()[1]


@asynccontextmanager
async def tcp(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    listening = await asyncio.start_server(handler, "127.0.0.1", 0)  # type: ignore[arg-type]
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def dial(port: int, scheme: str = "ws", host: str = "127.0.0.1", **source: object) -> StampedConnection:
    dialler = Dialler(source_config(**source), open_timeout_seconds=5)
    return await dialler.dial(f"{scheme}://{host}:{port}/ws?access_token={TOKEN}")


async def everything(connection: StampedConnection) -> tuple[list[bytes], ConnectionEnded]:
    frames: list[bytes] = []
    try:
        while True:
            frames += await connection.receive()
    except ConnectionEnded as ended:
        return frames, ended


async def test_messages_come_as_bytes_whole_and_in_order_and_then_the_end() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("text é")
        await connection.send(b"\xff\x00")
        await connection.send(["frag", "men", "ted"])
        for number in range(5000):
            await connection.send(str(number))
        await connection.close(4321, "over")

    async with server(handler) as port:
        frames, ended = await everything(await dial(port))
    assert frames[:3] == ["text é".encode(), b"\xff\x00", b"fragmented"]
    assert frames[3:] == [str(number).encode() for number in range(5000)]
    assert (ended.cause, ended.code, ended.reason, ended.clean) == ("closed", 4321, "over", True)


async def test_every_byte_is_stamped_pings_included() -> None:
    go = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await go.wait()
        await (await connection.ping())
        await connection.close()

    async with server(handler) as port:
        connection = await dial(port)
        before = connection.last_received
        await asyncio.sleep(0.01)
        go.set()
        assert (await everything(connection))[0] == []
        assert connection.last_received > before


async def test_a_reset_is_told_from_a_close() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("last")
        await connection.recv()
        raw = connection.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.transport.abort()

    async with server(handler) as port:
        connection = await dial(port)
        assert await connection.receive() == [b"last"]
        await connection.send_text("taken")
        _, ended = await everything(connection)
    assert (ended.cause, ended.clean) == ("reset", False)


async def test_an_oversize_message_ends_it_after_what_came_before() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("before")
        await connection.send("x" * 2000)
        await connection.wait_closed()

    async with server(handler) as port:
        frames, ended = await everything(await dial(port, max_message_bytes=1000))
    assert frames == [b"before"]
    assert (ended.cause, ended.clean) == ("oversize", False)


async def test_broken_framing_is_a_protocol_end() -> None:
    async def handler(connection: ServerConnection) -> None:
        connection.transport.write(b"\x8f\x00")  # no such opcode
        await connection.wait_closed()

    async with server(handler) as port:
        _, ended = await everything(await dial(port))
    assert ended.cause == "protocol"


async def test_close_takes_in_what_still_comes() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("one")
        await connection.wait_closed()
        closed.append((connection.close_code, connection.close_reason))

    closed: list[tuple[int | None, str | None]] = []
    async with server(handler) as port:
        connection = await dial(port)
        _, (frames, ended) = await asyncio.gather(connection.close(), everything(connection))
    assert frames == [b"one"]
    assert (ended.cause, ended.clean) == ("closed", True)
    assert closed == [(1000, "")]


async def test_sending_after_the_end_says_so() -> None:
    async def handler(connection: ServerConnection) -> None:
        assert await connection.recv() == "hello"

    async with server(handler) as port:
        connection = await dial(port)
        await connection.send_text("hello")
        await everything(connection)
        with pytest.raises(ConnectionEnded):
            await connection.send_text("again")


@pytest.mark.parametrize("status", [302, 401, 404, 429, 503])
async def test_a_refused_upgrade_tells_its_status_and_is_not_followed(status: int) -> None:
    reached: list[str] = []

    async def elsewhere(connection: ServerConnection) -> None:
        reached.append(connection.request.path if connection.request else "")

    async with server(elsewhere) as other:

        def refuse(connection: ServerConnection, request: Request) -> Response:
            response = connection.respond(HTTPStatus(status), request.path)
            response.headers["Location"] = f"ws://127.0.0.1:{other}{request.path}"
            response.headers["Retry-After"] = "7"
            return response

        async with server(process_request=refuse) as port:
            error = await failure(port)
    assert (error.stage, error.status, error.retry_after) == ("upgrade", status, 7)
    assert error.cure
    assert reached == []


async def failure(port: int, **options: object) -> DialError:
    """The error of an attempt; nowhere in it is the token."""
    with pytest.raises(DialError) as caught:
        await dial(port, **options)  # type: ignore[arg-type]
    assert TOKEN not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    return caught.value


async def test_stages_of_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert (await failure(unused.getsockname()[1])).stage == "tcp"
    assert (await failure(1, scheme="http")).stage == "url"

    async def not_found(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", not_found)
    assert (await failure(1, host="nowhere.invalid")).stage == "dns"


# --- several addresses ------------------------------------------------------------------------------

NEAR = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


class Places:
    """One server per loopback address, all on one port, and the name that leads to them."""

    def __init__(self) -> None:
        self.port = 0
        self.answers = list(NEAR)
        """Of the resolver."""
        self.asked: list[tuple[str, int]] = []
        self.hosts: list[str | None] = []
        """The Host header of each request."""
        self.sick: set[str] = set()
        """Addresses whose upgrade is answered with 503."""
        self._stack = AsyncExitStack()

    async def open(self, *addresses: str, context: ssl.SSLContext | None = None) -> None:
        for address in addresses:
            how = {"process_request": self._look, "ssl": context}
            listening = serve(silent, address, self.port, **how)  # type: ignore[arg-type]
            opened = await self._stack.enter_async_context(listening)
            self.port = opened.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Places:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _look(self, connection: ServerConnection, request: Request) -> Response | None:
        self.hosts.append(request.headers["Host"])
        if connection.local_address[0] in self.sick:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "sick\n")
        return None

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return list(self.answers)

    def dialler(self, path: str, addresses: Addresses, **source: object) -> Callable[[], Awaitable[str]]:
        """What dials, and says which address it came to."""
        dialler = Dialler(
            source_config(**source), path, addresses, resolve=self.resolve, open_timeout_seconds=5
        )
        scheme = "wss" if source else "ws"

        async def dial() -> str:
            connection = await dialler.dial(f"{scheme}://localhost:{self.port}/ws?access_token={TOKEN}")
            address: str = connection.remote_address[0]
            await connection.close()
            return address

        return dial


async def test_each_path_has_an_address_of_its_own_and_keeps_it() -> None:
    async with Places() as places:
        await places.open(*NEAR)
        addresses = Addresses()
        paths = [places.dialler(path, addresses) for path in "abc"]
        assert await asyncio.gather(*(dial() for dial in paths)) == NEAR
        places.answers.reverse()
        assert [await dial() for dial in paths] == NEAR
        assert set(places.asked) == {("localhost", places.port)}
        assert set(places.hosts) == {f"localhost:{places.port}"}


async def test_the_name_is_checked_in_tls_and_not_the_address() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    names: list[object] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    async with Places() as places:
        # 127.0.0.2 is not in the certificate, the name is.
        await places.open("127.0.0.2", context=context)
        places.answers = ["127.0.0.2"]
        assert await places.dialler("a", Addresses(), ca_file=PEM)() == "127.0.0.2"
    assert names == ["localhost"]


async def test_an_address_where_nobody_listens_costs_only_the_next_one() -> None:
    async with Places() as places:
        await places.open("127.0.0.2", "127.0.0.3")
        addresses = Addresses()
        assert await places.dialler("a", addresses)() == "127.0.0.2"
        assert await places.dialler("b", addresses)() == "127.0.0.3"
        places.answers = ["127.0.0.1"]
        with pytest.raises(DialError) as caught:
            await places.dialler("c", addresses)()
        assert caught.value.stage == "tcp"


async def test_an_address_that_never_answers_is_left_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "ADDRESS_TIMEOUT_SECONDS", 0.2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with Places() as places:
        await places.open("127.0.0.2", context=context)
        async with await asyncio.start_server(mute, "127.0.0.1", places.port):
            assert await places.dialler("a", Addresses(), ca_file=PEM)() == "127.0.0.2"


async def test_an_address_that_refuses_the_upgrade_comes_last_the_next_time() -> None:
    async with Places() as places:
        await places.open(*NEAR)
        places.sick = {"127.0.0.1"}
        dial = places.dialler("a", Addresses())
        with pytest.raises(DialError) as caught:
            await dial()
        assert (caught.value.stage, caught.value.status) == ("upgrade", 503)
        assert await dial() == "127.0.0.2"


async def test_behind_a_proxy_the_name_is_left_to_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    async with Places() as places, tcp(proxy) as proxy_port:
        await places.open("127.0.0.1", context=context)
        for source in ({"proxy": f"http://127.0.0.1:{proxy_port}"}, {}):
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy_port}")
            await places.dialler("a", Addresses(), ca_file=PEM, **source)()
        assert [request.split()[1] for request in proxy.requests] == [f"localhost:{places.port}"] * 2
        assert places.asked == []


async def test_what_is_no_websocket_and_what_never_answers() -> None:
    async def html(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"<html>\r\n\r\n")
        writer.close()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with tcp(html) as port:
        assert (await failure(port)).stage == "upgrade"
    async with tcp(mute) as port:
        with pytest.raises(DialError) as caught:
            await Dialler(source_config(), open_timeout_seconds=0.1).dial(f"ws://127.0.0.1:{port}/")
        assert caught.value.stage == "timeout"


async def test_a_private_authority_is_trusted_by_ca_file_only(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    async with server(ssl=context) as port:
        connection = await dial(port, "wss", "localhost", ca_file=PEM)
        await connection.close()
        error = await failure(port, scheme="wss")
        assert (error.stage, "ca_file" in error.cure) == ("tls", True)
        assert (await failure(port, scheme="wss", ca_file=tmp_path / "none.pem")).stage == "tls"
        (tmp_path / "junk.pem").write_text("junk")
        assert (await failure(port, scheme="wss", ca_file=tmp_path / "junk.pem")).stage == "tls"


class Proxy:
    """An HTTP proxy that knows CONNECT."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.requests: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(request)
        writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
        if "200" in self.status:
            host, _, port = request.split()[1].rpartition(":")
            there, thither = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_pump(reader, thither), _pump(there, writer))
        writer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
    target.close()


@pytest.mark.parametrize("how", ["setting", "environment"])
async def test_a_proxy_is_used(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    async with server(ssl=context) as port, tcp(proxy) as proxy_port:
        source: dict[str, object] = {"ca_file": PEM}
        if how == "setting":
            source["proxy"] = f"http://127.0.0.1:{proxy_port}"
        else:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy_port}")
        connection = await dial(port, "wss", **source)
        await connection.close()
        assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{port} ")
        assert TOKEN not in proxy.requests[0]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        if how == "environment":
            await (await dial(port, "wss", **source)).close()
            assert len(proxy.requests) == 1


async def test_a_proxy_that_refuses_is_named_as_the_stage() -> None:
    async with server() as port, tcp(Proxy("407 Proxy Authentication Required")) as proxy_port:
        error = await failure(port, proxy=f"http://127.0.0.1:{proxy_port}")
    assert error.stage == "proxy"


async def test_nothing_is_logged_even_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def handler(connection: ServerConnection) -> None:
        await connection.send("x")

    quiet = logging.Logger("quiet", logging.CRITICAL)
    async with server(handler, logger=quiet) as port:
        await everything(await dial(port))
    assert TOKEN not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("websockets")]
