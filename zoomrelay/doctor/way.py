"""The way to one host: proxy, name, TCP, tunnel, TLS. Each step makes and drops a connection of its own."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from zoomrelay import causes
from zoomrelay.causes import Cause
from zoomrelay.doctor.certificate import read_certificate
from zoomrelay.doctor.finding import Finding, failed, passed, warned
from zoomrelay.doctor.proxies import Route, route
from zoomrelay.doctor.walk import Probe, Step

_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_HEAD_BYTES = 16 * 1024
_EXPIRES_SOON_DAYS = 14
_NOT_NOW = (9, 10)
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_ZOOM = (".zoom.us", ".zoomgov.com")

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Host:
    """Where a URL leads, and by which way."""

    scheme: str
    name: str
    port: int
    proxy: str = ""
    """The setting."""
    ca_file: Path | None = None

    @property
    def place(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"

    @property
    def secure(self) -> bool:
        return self.scheme in ("https", "wss")


def host_of(url: str, *, proxy: str = "", ca_file: Path | None = None) -> Host:
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    return Host(parts.scheme, parts.hostname or "", port, proxy, ca_file)


class Way:
    """To one host. `steps` are those that apply; `reached` is the last of them."""

    def __init__(
        self,
        host: Host,
        *,
        source: str = "",
        sink: str = "",
    ) -> None:
        self._host = host
        self._route = route(
            host.scheme,
            host.name,
            host.proxy,
            getproxies(),
            lambda name: bool(proxy_bypass(name)),
            plain=bool(sink),
        )

        def step(name: str, probe: Probe, *before: Step) -> Step:
            return Step(name, probe, before, source, sink, host.place)

        self.steps = [step("proxy", self.proxy)]
        self.steps.append(step("dns", self.dns, self.steps[-1]))
        self.steps.append(step("tcp", self.tcp, self.steps[-1]))
        if self._tunnelled:
            self.steps.append(step("tunnel", self.tunnel, self.steps[-1]))
        if host.secure:
            self.steps.append(step("tls", self.tls, self.steps[-1]))
        self.reached = self.steps[-1]

    @property
    def _tunnelled(self) -> bool:
        return bool(self._route.url) and self._host.scheme != "http"

    @property
    def _first(self) -> tuple[str, int]:
        """Host and port to which TCP goes."""
        return (self._route.host, self._route.port) if self._route.url else (self._host.name, self._host.port)

    # --- the steps ----------------------------------------------------------------------------------

    async def proxy(self) -> Finding:
        if self._route.url and not self._route.supported:
            return failed(causes.PROXY, f"{self._route.why}; only http:// and https:// are supported")
        return passed(self._route.why)

    async def dns(self) -> Finding:
        name, port = self._first
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            return failed(
                causes.DNS, f"{name} has no address ({getattr(error, 'strerror', None) or 'odd name'})"
            )
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        more = f" and {len(addresses) - 4} more" if len(addresses) > 4 else ""
        return passed(f"{name} is {', '.join(addresses[:4])}{more}")

    async def tcp(self) -> Finding:
        name, port = self._first
        cause = causes.PROXY if self._route.url else causes.TCP
        try:
            _, writer = await _open(name, port)
        except OSError as error:
            return failed(cause, f"no connection to {name}:{port} ({_words(error)})")
        peer = writer.get_extra_info("peername")
        writer.transport.abort()
        return passed(f"{'the proxy ' if self._route.url else ''}{peer[0]} port {peer[1]} takes connections")

    async def tunnel(self) -> Finding:
        try:
            async with self._reached():
                return passed(f"the proxy lets {self._host.place} pass")
        except _Refused as refused:
            return failed(refused.cause, str(refused))
        except (OSError, EOFError) as error:
            return failed(causes.PROXY, f"the proxy broke off ({_words(error)})")

    async def tls(self) -> Finding:
        try:
            der = await self._handshake(_trusting(self._host.ca_file))
        except ssl.SSLCertVerificationError as error:
            issuer = await self._issuer()
            cause = causes.TLS_DATE if error.verify_code in _NOT_NOW else causes.TLS
            return failed(
                cause, f"the certificate is not trusted: {error.verify_message} (issued by {issuer})"
            )
        except ssl.SSLError as error:
            return failed(causes.TLS, f"the handshake failed: {error.reason or 'no TLS there'}")
        except (_Refused, OSError, EOFError) as error:
            return failed(causes.TLS, f"the handshake was broken off ({_words(error)})")
        except ValueError as error:
            return failed(causes.CA_FILE, str(error))
        return await self._judge(der)

    async def _judge(self, der: bytes) -> Finding:
        try:
            certificate = read_certificate(der)
        except ValueError:
            return passed("the certificate is trusted; its issuer could not be read")
        left_days = (certificate.not_after - datetime.now(UTC)).days
        detail = f"issued by {certificate.issuer}, valid until {certificate.not_after:%Y-%m-%d}"
        if f".{self._host.name}".endswith(_ZOOM) and not await self._public():
            return warned(causes.INTERCEPTED, f"{detail}; that is no public authority")
        if left_days < _EXPIRES_SOON_DAYS:
            return warned(causes.TLS_DATE, f"{detail}, in {left_days} days")
        return passed(detail)

    async def _public(self) -> bool:
        """Whether the certificate holds by the public authorities too, whatever else is trusted here."""
        try:
            await self._handshake(ssl.create_default_context(cafile=certifi.where()))
        except ssl.SSLCertVerificationError:
            return False
        except OSError:
            pass  # another trouble, which says nothing about the issuer
        return True

    async def _issuer(self) -> str:
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        try:
            return read_certificate(await self._handshake(blind)).issuer
        except (OSError, EOFError, ValueError, _Refused):
            return "an issuer that could not be read"

    async def _handshake(self, context: ssl.SSLContext) -> bytes:
        """The other side's certificate, in DER. Sends nothing over it."""
        async with self._reached() as (_, writer):
            await writer.start_tls(context, server_hostname=self._host.name)
            found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return found or b""

    # --- connecting ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[_Streams]:
        """A connection to the host itself, through the tunnel where there is one."""
        proxy_tls = _trusting(self._host.ca_file) if self._route.url.startswith("https:") else None
        reader, writer = await _open(*self._first, tls=proxy_tls)
        try:
            if self._tunnelled:
                await _ask_for_tunnel(reader, writer, self._route, self._host.place)
            yield reader, writer
        finally:
            writer.transport.abort()


class _Refused(Exception):
    """The proxy said no."""

    def __init__(self, cause: Cause, words: str) -> None:
        super().__init__(words)
        self.cause = cause


async def _ask_for_tunnel(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, route: Route, place: str
) -> None:
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", *_credentials(route.url)]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise _Refused(causes.PROXY, "the proxy does not answer in HTTP") from error
    status = head.split(b" ", 2)[1:2]
    if not head.startswith(b"HTTP/") or not status or not status[0].isdigit():
        raise _Refused(causes.PROXY, "the proxy does not answer in HTTP")
    if not 200 <= int(status[0]) < 300:
        raise _Refused(causes.PROXY, f"the proxy answers HTTP {int(status[0])} to CONNECT {place}")


def _credentials(url: str) -> list[str]:
    parts = urlsplit(url)
    if parts.username is None:
        return []
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return [f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}"]


async def _open(name: str, port: int, *, tls: ssl.SSLContext | None = None) -> _Streams:
    return await asyncio.open_connection(
        name, port, ssl=tls, limit=_HEAD_BYTES, happy_eyeballs_delay=0.25 if tls is None else None
    )


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{ca_file} cannot be read as a file of certificates") from error


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) if isinstance(error, _Refused) else type(error).__name__
