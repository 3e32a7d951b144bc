"""The WebSocket itself. The only room of the relay that knows the `websockets` library."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect, get_proxy  # type: ignore[attr-defined]
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.frames import CloseCode
from websockets.protocol import State

from zoomrelay import __version__, causes
from zoomrelay.causes import Cause
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import ConnectionEnded, DialError
from zoomrelay.session.cutter import Cutter
from zoomrelay.session.hearing import Hearing
from zoomrelay.session.inbox import Inbox
from zoomrelay.session.spread import Addresses

OPEN_TIMEOUT_SECONDS = 15.0
"""From the look-up of the name to the end of the upgrade."""
ADDRESS_TIMEOUT_SECONDS = 4.0
"""For TCP and TLS at one address, while the name has others."""
CLOSE_TIMEOUT_SECONDS = 2.0
"""For the other side's close frame; short, for a stop waits for it."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to addresses, see `look_up`."""
Route = Callable[[str, int], AsyncIterator[tuple[str, float | None]]]

_USER_AGENT = f"zoomrelay/{__version__}"

# Outside the tree of loggers: at DEBUG the library prints the request's URL, which holds the token.
_SILENT = logging.Logger("websockets", level=logging.CRITICAL + 1)


class StampedConnection(ClientConnection):
    """`zoomrelay.session.ports.Connection`, over the library's connection."""

    def __init__(self, *args: Any, max_message_bytes: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_message_bytes = max_message_bytes
        self.last_received = self.loop.time()
        self.hearing = Hearing(self.last_received)
        self._cutter: Cutter | None = None
        self._head_end = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        stream = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's
        self._inbox = Inbox(pause=stream.pause_reading, resume=stream.resume_reading)
        self.recv_messages = self._inbox  # type: ignore[assignment]

    @property
    def reading(self) -> bool:
        return not self._inbox.paused

    def data_received(self, data: bytes) -> None:
        self.last_received = self.loop.time()
        self.hearing.read(len(data), self.last_received)
        if self._cutter is None:
            data = self._shake_hands(data)
        if self._cutter is None:
            return
        for piece in self._cutter.feed(data):
            if isinstance(piece, list):
                self._inbox.put_messages(piece)
            else:
                super().data_received(piece)
                if self.protocol.parser_exc is not None:
                    self._cutter.surrender()

    def _shake_hands(self, data: bytes) -> bytes:
        """Give the library its handshake's answer; returns what came after it."""
        head = self._head_end + data
        end = head.find(b"\r\n\r\n") + 4
        if end < 4:
            self._head_end = head[-3:]
            super().data_received(data)
            return b""
        split = end - len(self._head_end)
        super().data_received(data[:split])
        self._cutter = Cutter(self._max_message_bytes)
        if self.protocol.state is not State.OPEN:
            self._cutter.surrender()
        return data[split:]

    @property
    def waiting_since(self) -> float | None:
        return self._inbox.since

    def rest(self) -> list[bytes]:
        return self._inbox.rest()

    async def receive(self) -> list[bytes]:
        try:
            return await self._inbox.take()
        except EOFError:
            pass
        await asyncio.shield(self.connection_lost_waiter)
        error = self.close_exc
        raise _ended(error) from error

    async def send_text(self, text: str) -> None:
        try:
            await self.send(text)
        except ConnectionClosed as error:
            raise _ended(error) from error

    def abort(self) -> None:
        self.transport.abort()


class Dialler:
    """Opens WebSockets of one path, with its source's proxy, certificates and limits."""

    def __init__(
        self,
        source: SourceConfig,
        path: str = "",
        addresses: Addresses | None = None,
        *,
        resolve: Resolve | None = None,
        open_timeout_seconds: float = OPEN_TIMEOUT_SECONDS,
    ) -> None:
        """`addresses` is shared by the paths of the source, which use different ones where there are
        several and no proxy is in between."""
        self._source = source
        self._path = path
        self._addresses = addresses or Addresses()
        self._resolve = resolve or look_up
        self._open_timeout_seconds = open_timeout_seconds

    async def dial(self, url: str) -> StampedConnection:
        """Raises `DialError`."""
        try:
            connection = await _Connect(url, self._route, **self._options(url))
        except InvalidURI:
            # Without its cause, which quotes the URL.
            raise DialError("the WebSocket's address is no ws:// or wss:// URL", stage="url") from None
        except _FOREIGN as error:
            self._addresses.failed(self._path)
            raise _dial_error(error) from error
        assert isinstance(connection, StampedConnection)
        return connection

    def _options(self, url: str) -> dict[str, Any]:
        options: dict[str, Any] = {
            "create_connection": functools.partial(
                StampedConnection, max_message_bytes=self._source.max_message_bytes
            ),
            "user_agent_header": _USER_AGENT,
            "proxy": self._source.proxy or True,
            "open_timeout": self._open_timeout_seconds,
            "close_timeout": CLOSE_TIMEOUT_SECONDS,
            # Zoom's keepalive is a JSON heartbeat; whether it answers pings nobody has documented.
            "ping_interval": None,
            "max_size": self._source.max_message_bytes,
            "logger": _SILENT,
        }
        if url.startswith("wss:"):
            options["ssl"] = self._tls
        if self._source.proxy.startswith("https:"):
            options["proxy_ssl"] = self._tls
        return options

    async def _route(self, host: str, port: int) -> AsyncIterator[tuple[str, float | None]]:
        """Addresses to try, best first, each with the seconds that it may take; None: what is left."""
        *others, last = self._addresses.in_order(self._path, await self._resolve(host, port))
        for address, seconds in [*((one, ADDRESS_TIMEOUT_SECONDS) for one in others), (last, None)]:
            self._addresses.using(self._path, address)
            yield address, seconds

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._source.ca_file)


async def look_up(host: str, port: int) -> list[str]:
    """The host's addresses, at least one, as the system orders them. Raises `socket.gaierror`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class _Connect(connect):
    """To the addresses of `route`, unless a proxy looks the name up; without following redirects."""

    def __init__(self, uri: str, route: Route, **options: Any) -> None:
        super().__init__(uri, **options)
        self._route = route

    async def open_tcp_connection(self) -> ClientConnection:
        if self.proxy is not True or get_proxy(self.ws_uri) is not None:
            return await super().open_tcp_connection()
        error = OSError()
        async for address, seconds in self._route(self.ws_uri.host, self.ws_uri.port):
            # The server's name in TLS and the Host header stay those of the URL.
            self.create_connection_kwargs |= {"host": address, "port": self.ws_uri.port}
            try:
                async with asyncio.timeout(seconds):
                    return await super().open_tcp_connection()
            except OSError as failed:
                error = failed
        raise error

    def process_redirect(self, exc: Exception) -> Exception | str:
        # A redirect would take the token in the query to wherever it says.
        return exc


_FOREIGN = (InvalidHandshake, InvalidProxy, ConnectionClosed, OSError, EOFError, ImportError, ValueError)
"""What the library and the loop raise while a connection is opened. TimeoutError and ssl.SSLError are
OSErrors; ImportError says that a SOCKS proxy needs another library."""


def _dial_error(error: Exception) -> DialError:
    match error:
        case TimeoutError():
            return DialError("no answer in time", stage="timeout", cure=causes.TIMEOUT.cure)
        case InvalidStatus():
            return _upgrade_refused(error)
        case ProxyError() | InvalidProxy() | ImportError():
            return DialError(
                f"the proxy refused or cannot be used ({type(error).__name__})",
                stage="proxy",
                cure=causes.PROXY.cure,
            )
        case ssl.SSLError():
            words = getattr(error, "verify_message", "") or error.reason or "handshake failed"
            return DialError(f"TLS: {words}", stage="tls", cure=_tls_cause(error).cure)
        case socket.gaierror():
            return DialError(f"the name was not found ({error.strerror})", stage="dns", cure=causes.DNS.cure)
        case FileNotFoundError() | PermissionError():
            return DialError("ca_file cannot be read", stage="tls", cure=causes.CA_FILE.cure)
        case OSError():
            return DialError(
                f"no connection ({error.strerror or type(error).__name__})", stage="tcp", cure=causes.TCP.cure
            )
        case _:
            return DialError(
                f"no WebSocket there ({type(error).__name__})",
                stage="upgrade",
                cure=causes.UPGRADE_REFUSED.cure,
            )


_NOT_NOW = (9, 10)
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def _tls_cause(error: ssl.SSLError) -> Cause:
    return causes.TLS_DATE if getattr(error, "verify_code", None) in _NOT_NOW else causes.TLS


def _upgrade_refused(error: InvalidStatus) -> DialError:
    status = error.response.status_code
    return DialError(
        f"the upgrade was answered with HTTP {status}",
        stage="upgrade",
        cure=(causes.UPGRADE.by_status(status) or causes.UPGRADE_REFUSED).cure,
        status=status,
        retry_after=_seconds(error.response.headers.get("Retry-After")),
    )


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.strip().isdecimal() else None


def _ended(error: ConnectionClosed) -> ConnectionEnded:
    ours, theirs = error.sent, error.rcvd
    if ours is not None and not error.rcvd_then_sent and ours.code == CloseCode.MESSAGE_TOO_BIG:
        return ConnectionEnded("oversize", code=ours.code, reason=ours.reason)
    if ours is not None and not error.rcvd_then_sent and ours.code in _PROTOCOL_CODES:
        return ConnectionEnded("protocol", code=ours.code, reason=ours.reason)
    if theirs is not None:
        return ConnectionEnded("closed", code=theirs.code, reason=theirs.reason, clean=True)
    return ConnectionEnded("reset")


_PROTOCOL_CODES = (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA, CloseCode.UNSUPPORTED_DATA)
