"""Tells the service manager how we are doing: systemd's notification protocol, sd_notify(3).

One datagram per message to the unix socket that `$NOTIFY_SOCKET` names; without it nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from zoomrelay.admin import words
from zoomrelay.admin.health import Status

log = structlog.get_logger()

_INTERVAL_SECONDS = 1.0
_BARRIER_SECONDS = 5
_EXTEND_SECONDS = 10
"""A stop may take as long as `drain_seconds` says, but no longer than this without a sign of life."""


class Notifier:
    """Never raises and never waits: a service manager that does not listen is its own trouble."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog = _watchdog_wanted(environ)
        self._told = ""
        self._stuck: list[str] = []
        self._stopping = False

    def ready(self) -> None:
        """The start is over: everything is open, and the first attempt to connect is under way."""
        self._send("READY=1")

    def stopping(self) -> None:
        """From now on the service manager's patience is asked for, second by second."""
        self._stopping = True
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={_EXTEND_SECONDS * 1_000_000}")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Around a reload, whether it succeeds or not."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._send("READY=1")

    def successor(self, pid: int) -> None:
        """The service is another process from now on. Returns when that is understood, or after some
        seconds: only then this one may end."""
        self._send(f"MAINPID={pid}")
        self._barrier()

    async def beat(self) -> None:
        """Feed the watchdog and nothing else, for ever: while somebody else is waited for."""
        while True:
            self.watchdog([])
            await asyncio.sleep(_INTERVAL_SECONDS)

    def status(self, words: str) -> None:
        """One line of state; said only when it changed."""
        if words != self._told:
            self._told = words
            self._send("STATUS=" + " ".join(words.split()))

    def watchdog(self, stuck: list[str]) -> None:
        """Feed the watchdog, unless something is stuck: then the service manager ends us before long."""
        if stuck != self._stuck:
            self._stuck = stuck
            log.error("watchdog.starving", stuck=stuck) if stuck else log.info("watchdog.fed_again")
        if self._watchdog and not stuck:
            self._send("WATCHDOG=1")

    async def run(self, status: Callable[[], Status]) -> None:
        """Keep the line of state up to date and the watchdog fed, for ever."""
        while True:
            now = status()
            self.status(words.summary(now))
            self.watchdog(now.stuck)
            if self._stopping:
                self._send(f"EXTEND_TIMEOUT_USEC={_EXTEND_SECONDS * 1_000_000}")
            await asyncio.sleep(_INTERVAL_SECONDS)

    def _barrier(self) -> None:
        """sd_notify_barrier(3): the manager closes what it is sent when it has come so far."""
        if not self._address:
            return
        ours, theirs = os.pipe()
        try:
            self._send("BARRIER=1", descriptors=[theirs])
        finally:
            os.close(theirs)
        poll = select.poll()
        poll.register(ours, 0)  # the other end's close is told in any case
        poll.poll(_BARRIER_SECONDS * 1000)
        os.close(ours)

    def _send(self, *lines: str, descriptors: Sequence[int] = ()) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.setblocking(False)
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
                sending.sendmsg(["\n".join(lines).encode()], rights if descriptors else [], 0, self._address)
        except OSError as error:
            log.warning("notify.failed", error=error.strerror or str(error))


def _watchdog_wanted(environ: Mapping[str, str]) -> bool:
    """sd_watchdog_enabled(3): a period is set, and it is meant for this process."""
    return environ.get("WATCHDOG_USEC", "") != "" and environ.get("WATCHDOG_PID", str(os.getpid())) == str(
        os.getpid()
    )


def _address(name: str) -> str:
    """`@name` is Linux's abstract name space; anything but that and a path is not for us."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""
