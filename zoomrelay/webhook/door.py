"""The listening address of a webhook: who is let in, how many, and for how long they may say nothing.

A stranger costs work before it shows that he is one: a connection, a TLS handshake, a request, a hash. So
connections are accepted at a bounded rate, and those that turn out to be Zoom's do not count. A refused
request ends its connection (`reception`), hence the rate of connections bounds that of refusals. While
strangers use it up nothing is accepted, which costs nothing: the rest waits with the system, or goes away,
and Zoom tries again later.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from zoomrelay.config.addresses import listen_address
from zoomrelay.errors import ConfigError, Problem
from zoomrelay.webhook.budget import Budget

log = structlog.get_logger()

STRANGERS_PER_SECOND = 25.0
STRANGERS_AT_ONCE = 50
MAX_CONNECTIONS = 128
FIRST_REQUEST_SECONDS = 5.0
"""For the TLS handshake, and again for the first request's headers."""
IDLE_SECONDS = 75.0
_BACKLOG = 128
_AT_ONCE = 8
"""Connections accepted in one turn of the loop."""
_LOOK_AGAIN_SECONDS = 0.05
_NO_DESCRIPTOR_SECONDS = 1.0

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def bind(listen: str, setting: str) -> list[socket.socket]:
    """Sockets of this address, which do not listen yet. Raises `ConfigError`, which names the setting."""
    host, port = listen_address(listen) or ("", 0)
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            sockets.append(one := socket.socket(family, socket.SOCK_STREAM))
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            if not address[1]:
                break  # the system has chosen a port, which another family may not have free
    except OSError as error:
        for one in sockets:
            one.close()
        known = error.errno and not isinstance(error, socket.gaierror)
        why = os.strerror(error.errno) if known and error.errno else error.strerror
        cure = "stop what uses it, or choose another address"
        raise ConfigError([Problem(setting, f"cannot listen on {listen}: {why}", cure)]) from error
    return sockets


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    families = (socket.AF_INET, socket.AF_INET6) if socket.has_ipv6 else (socket.AF_INET,)
    known = [(family, address) for family, *_, address in found if family in families]
    return list(dict.fromkeys(known))  # type: ignore[arg-type]  # of these families


class Certificate:
    """What the door shows to those who knock; may be read anew."""

    def __init__(self, cert_file: Path, key_file: Path | None, setting: str) -> None:
        """Raises `ConfigError`."""
        self._files = cert_file, key_file
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(self.context, setting)

    def reload(self, setting: str) -> None:
        """New connections get what is in the files now. Raises `ConfigError`; then nothing has changed."""
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), setting)
        self._load(self.context, setting)

    def _load(self, context: ssl.SSLContext, setting: str) -> None:
        cert_file, key_file = self._files
        try:
            context.load_cert_chain(cert_file, key_file, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            why = (
                f"{cert_file} and its key cannot be used: {getattr(error, 'reason', None) or error.strerror}"
            )
            raise ConfigError([Problem(setting, why, "PEM files, the key without a password")]) from error


class Door:
    """Accepts connections on `sockets` and hands requests to `answer`."""

    def __init__(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        self._sockets = list(sockets)
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._budget = Budget(STRANGERS_PER_SECOND, STRANGERS_AT_ONCE, self._loop.time())
        self._greeting: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}
        self._resume: asyncio.TimerHandle | None = None
        self._server: web.Server | None = None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [one.getsockname()[:2] for one in self._sockets]

    def open(self, answer: Answer) -> None:
        self._server = web.Server(
            answer,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=0.0,  # what a refused request still sends is not read
            auto_decompress=False,  # the signature is over what was sent
            max_headers=64,
        )
        for one in self._sockets:
            one.listen(_BACKLOG)
        self._accept_on()

    def heard(self, request: web.BaseRequest) -> None:
        """A request has come on its connection."""
        if timer := self._silent.pop(request.protocol, None):
            timer.cancel()

    def is_no_stranger(self) -> None:
        """A request was Zoom's."""
        self._budget.give_back()

    async def close(self, seconds: float) -> None:
        """Accept no more; whoever is being answered gets the answer within so many seconds."""
        self._accept_off()
        if self._resume is not None:
            self._resume.cancel()
        for one in self._sockets:
            one.close()
        self._sockets.clear()
        for task in self._greeting:
            task.cancel()
        for timer in self._silent.values():
            timer.cancel()
        if self._server is not None:
            self._server.pre_shutdown()
            await self._server.shutdown(seconds)
            self._server = None

    # --- accepting ----------------------------------------------------------------------------------

    def _accept_on(self) -> None:
        self._resume = None
        for one in self._sockets:
            self._loop.add_reader(one, self._ready, one)

    def _accept_off(self) -> None:
        for one in self._sockets:
            self._loop.remove_reader(one)

    def _pause(self, seconds: float) -> None:
        self._accept_off()
        self._resume = self._loop.call_later(seconds, self._accept_on)

    def _ready(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            if not self._accept(listener):
                return

    def _accept(self, listener: socket.socket) -> bool:
        """Whether there may be another."""
        if self._open_connections() >= MAX_CONNECTIONS:
            self._pause(_LOOK_AGAIN_SECONDS)
            return False
        if not self._budget.take(self._loop.time()):
            self._pause(max(_LOOK_AGAIN_SECONDS, self._budget.seconds_until_next()))
            return False
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            self._budget.give_back()
            return False
        except OSError as error:
            log.error("webhook.accept_failed", error=error.strerror)
            self._pause(_NO_DESCRIPTOR_SECONDS)
            return False
        self._greet(connection)
        return True

    def _open_connections(self) -> int:
        assert self._server is not None
        return len(self._greeting) + len(self._server.connections)

    def _greet(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        task = self._loop.create_task(self._shake_hands(connection), name="webhook.greet")
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)

    async def _shake_hands(self, connection: socket.socket) -> None:
        assert self._server is not None
        try:
            transport, protocol = await self._loop.connect_accepted_socket(
                self._server,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=FIRST_REQUEST_SECONDS if self._tls else None,
            )
        except OSError:  # no TLS there, or nobody any more
            connection.close()
            return
        except asyncio.CancelledError:
            connection.close()
            raise
        if not transport.is_closing():
            timer = self._loop.call_later(FIRST_REQUEST_SECONDS, self._cut, transport, protocol)
            self._silent[protocol] = timer

    def _cut(self, transport: asyncio.Transport, protocol: RequestHandler) -> None:
        self._silent.pop(protocol, None)
        transport.abort()
