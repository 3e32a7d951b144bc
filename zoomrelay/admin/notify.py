"""Tells the service manager how we are doing: systemd's notification protocol, sd_notify(3).

One datagram per message to the unix socket that `$NOTIFY_SOCKET` names; without it nothing is sent.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

log = structlog.get_logger()

_INTERVAL_SECONDS = 1.0


class Notifier:
    """Never raises and never waits: a service manager that does not listen is its own trouble."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._told = ""

    def ready(self) -> None:
        """The start is over: everything is open, and the first attempt to connect is under way."""
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Around a reload, whether it succeeds or not."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._send("READY=1")

    def status(self, words: str) -> None:
        """One line of state; said only when it changed."""
        if words != self._told:
            self._told = words
            self._send("STATUS=" + " ".join(words.split()))

    async def run(self, summary: Callable[[], str]) -> None:
        """Keep the line of state up to date, for ever."""
        while True:
            self.status(summary())
            await asyncio.sleep(_INTERVAL_SECONDS)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.setblocking(False)
                sending.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("notify.failed", error=error.strerror or str(error))


def _address(name: str) -> str:
    """`@name` is Linux's abstract name space; anything but that and a path is not for us."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""
