"""The way to a host: names, TCP, proxies, certificates, on loopback."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.examined import without_proxies
from zoomrelay.doctor.finding import Report, Verdict
from zoomrelay.doctor.walk import walk
from zoomrelay.doctor.way import Way, host_of

HERE = Path(__file__).parent
AUTHORITY = HERE / "authority.pem"


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)


async def walked(url: str, *, proxy: str = "", ca_file: Path | None = None) -> list[Report]:
    way = Way(host_of(url, proxy=proxy, ca_file=ca_file), source="main")
    return [report async for report in walk(way.steps, step_seconds=5)]


def outline(reports: Sequence[Report]) -> list[tuple[str, str, str]]:
    return [(one.step, one.verdict.value, one.reason) for one in reports if one.verdict is not Verdict.PASS]


@asynccontextmanager
async def tls_server(pem: str) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(HERE / pem)
    async with serving(_swallow, tls=context) as port:
        yield port


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.read()
    except OSError:
        pass
    writer.transport.abort()


@asynccontextmanager
async def serving(handler: object, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)  # type: ignore[arg-type]
    async with server:
        yield server.sockets[0].getsockname()[1]


class Proxy:
    """Tunnels everything to one port of this machine, or answers what it is told to."""

    def __init__(self, to_port: int = 0, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self.to_port = to_port
        self.answer = answer
        self.heads: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return writer.transport.abort()
        self.heads.append(head.decode())
        writer.write(self.answer)
        if not self.to_port:
            await writer.drain()
            return writer.close()
        back, forth = await asyncio.open_connection("127.0.0.1", self.to_port)
        await asyncio.gather(_pump(reader, forth), _pump(back, writer))
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    writer.transport.abort()


# --- names and TCP --------------------------------------------------------------------------------------


async def test_no_name() -> None:
    reports = await walked("https://nowhere.invalid/oauth/token")
    assert outline(reports) == [("dns", "fail", "dns"), ("tcp", "skipped", ""), ("tls", "skipped", "")]
    assert "nowhere.invalid" in reports[1].detail and reports[2].detail == "dns of nowhere.invalid:443 failed"


async def test_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        reports = await walked(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert outline(reports) == [("tcp", "fail", "tcp")]
    assert "Connection refused" in reports[2].detail


async def test_plain_http_is_not_asked_for_a_certificate() -> None:
    async with serving(_swallow) as port:
        reports = await walked(f"ws://127.0.0.1:{port}/ws")
    assert [report.step for report in reports] == ["proxy", "dns", "tcp"]
    assert outline(reports) == []


# --- certificates -----------------------------------------------------------------------------------------


async def test_a_certificate_of_a_foreign_authority_names_its_issuer() -> None:
    async with tls_server("good.pem") as port:
        reports = await walked(f"https://127.0.0.1:{port}/")
    assert outline(reports) == [("tls", "fail", "tls")]
    assert "issued by Example Interception, Example Root" in reports[-1].detail
    assert "ca_file" in reports[-1].cure


async def test_with_its_authority_it_is_trusted() -> None:
    async with tls_server("good.pem") as port:
        reports = await walked(f"https://127.0.0.1:{port}/", ca_file=AUTHORITY)
    assert outline(reports) == []
    assert "issued by Example Interception, Example Root, valid until 2" in reports[-1].detail


async def test_an_expired_certificate() -> None:
    async with tls_server("expired.pem") as port:
        reports = await walked(f"wss://127.0.0.1:{port}/", ca_file=AUTHORITY)
    assert outline(reports) == [("tls", "fail", "tls_date")]
    assert "expired" in reports[-1].detail and "clock" in reports[-1].cure


async def test_a_certificate_for_another_name() -> None:
    async with tls_server("good.pem") as port, serving(Proxy(port)) as proxy_port:
        reports = await walked(
            "https://crm.example/", proxy=f"http://127.0.0.1:{proxy_port}", ca_file=AUTHORITY
        )
    assert outline(reports) == [("tls", "fail", "tls")]
    assert "mismatch" in reports[-1].detail


async def test_no_tls_there() -> None:
    async def impolite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.read(1)
        writer.close()

    async with serving(impolite) as port:
        reports = await walked(f"https://127.0.0.1:{port}/")
    assert outline(reports) == [("tls", "fail", "tls")]


async def test_a_file_of_authorities_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    async with tls_server("good.pem") as port:
        reports = await walked(f"https://127.0.0.1:{port}/", ca_file=tmp_path / "ca.pem")
    assert outline(reports) == [("tls", "fail", "ca_file")]


async def test_something_that_opens_tls_before_zoom_is_named() -> None:
    async with tls_server("good.pem") as port:
        proxy = Proxy(port)
        async with serving(proxy) as proxy_port:
            reports = await walked(
                "https://zoom.us/oauth/token", proxy=f"http://127.0.0.1:{proxy_port}", ca_file=AUTHORITY
            )
    assert outline(reports) == [("tls", "warn", "intercepted")]
    assert "Example Interception" in reports[-1].detail
    assert [report.step for report in reports] == ["proxy", "dns", "tcp", "tunnel", "tls"]
    assert proxy.heads[0].startswith("CONNECT zoom.us:443 HTTP/1.1\r\nHost: zoom.us:443\r\n")


# --- proxies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "HTTP 407"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP 403"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not answer in HTTP"),
        (b"", "broke off"),
    ],
)
async def test_a_proxy_that_refuses(answer: bytes, words: str) -> None:
    async with serving(Proxy(answer=answer)) as port:
        reports = await walked("wss://ws.zoom.us/ws", proxy=f"http://127.0.0.1:{port}")
    assert outline(reports) == [("tunnel", "fail", "proxy"), ("tls", "skipped", "")]
    assert words in reports[3].detail


async def test_credentials_of_a_proxy_are_sent_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy(answer=b"HTTP/1.1 407 No\r\n\r\n")
    async with serving(proxy) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:planted%20secret@127.0.0.1:{port}")
        reports = await walked("https://zoom.us/oauth/token")
    pair = base64.b64encode(b"me:planted secret").decode()
    assert f"Proxy-Authorization: Basic {pair}\r\n" in proxy.heads[0]
    assert "planted" not in repr(reports) and pair not in repr(reports)
    assert reports[0].detail == f"http proxy 127.0.0.1:{port}, by HTTPS_PROXY"


async def test_a_proxy_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        reports = await walked("https://zoom.us/", proxy=f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert outline(reports)[0] == ("tcp", "fail", "proxy")


async def test_socks_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    assert outline(await walked("https://zoom.us/"))[0] == ("proxy", "fail", "proxy")


async def test_an_odd_proxy_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://host:planted-no-port")
    reports = await walked("https://zoom.us/")
    assert outline(reports)[0] == ("proxy", "fail", "proxy")
    assert "planted" not in repr(reports)
