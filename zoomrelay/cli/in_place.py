"""An upgrade in place: what is installed now takes over from this process, as the same service.

The new process must be the service manager's own child before it becomes the service's main process: systemd
does not wait for the end of any other one, and kills it at once when it is to stop. So a shell starts it,
says its process id, and ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from zoomrelay.errors import ControlRefused

log = structlog.get_logger()

_SHELL = ("/bin/sh", "-c", 'exec 3>&0; "$@" >&3 3>&- & echo $!', "zoomrelay")
"""Runs what follows; standard output comes in as its standard input, since the process id goes out there."""
STOP = signal.SIGUSR1
"""To the new process, when this one is to end. Not TERM, which a service manager sends to both: a second
one would end it at once."""
_START_SECONDS = 10.0
_BEGIN_SECONDS = 120.0
"""So long the new process may take until it asks to take over; then it hangs."""


class Upgrade:
    """One at a time."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], pid: int) -> None:
        """`command` starts the new version (see `command_again`); `environ` and `pid` are this process's."""
        self._command = command
        # Whom the watchdog is meant for is known only when it has started; without a name, it is meant.
        self._environ = {name: value for name, value in environ.items() if name != "WATCHDOG_PID"}
        self._refusal = _refusal(environ, pid)
        self._descriptor: int | None = None
        self.pid = 0
        """Of the new process; 0 while there is none."""

    async def run(self, is_taking_over: Callable[[], bool]) -> None:
        """Start the new version. If it takes over, this process ends meanwhile; returns, and says so in the
        log, when it came to nothing. Raises `ControlRefused` where nothing was started."""
        if self._refusal:
            raise ControlRefused(self._refusal, status=409)
        if self.pid:
            raise ControlRefused("one is under way", status=409)
        self.pid = -1  # starting
        try:
            self.pid = await asyncio.to_thread(_start, self._command, self._environ)
            log.info("upgrade.begun", by=self.pid, command=self._command[0])
            await self._watch(is_taking_over)
        finally:
            self.pid = 0
        hint = "the new version has ended, its own lines say why; nothing was changed, this one goes on"
        log.error("upgrade.failed", hint=hint)

    async def _watch(self, is_taking_over: Callable[[], bool]) -> None:
        """Until it has ended, if need be by force."""
        try:
            self._descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            while not await self._ended(_BEGIN_SECONDS):
                if not is_taking_over():
                    log.warning(
                        "upgrade.hangs", by=self.pid, hint="it did not ask to take over: it is killed"
                    )
                    self._send(signal.SIGKILL)
        finally:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    async def _ended(self, seconds: float) -> bool:
        assert self._descriptor is not None
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, ended.set)
        try:
            async with asyncio.timeout(seconds):
                return await ended.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._descriptor)

    def stop(self) -> None:
        """This process is to end: so is the new one."""
        self._send(STOP)

    def _send(self, number: signal.Signals) -> None:
        if self._descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)


def command_again(arguments: Sequence[str], original: Sequence[str], executable: str) -> list[str]:
    """What starts this program anew, to take over: `sys.argv`, `sys.orig_argv` and `sys.executable`.

    A program file is named by the path that it was started by, which may lead to another version by now."""
    program = arguments[0]
    again = [str(Path(program).absolute()), *arguments[1:]]
    if not os.access(program, os.X_OK):
        again = [executable, *original[1:]]
    return again if "--takeover" in again else [*again, "--takeover"]


def of_this_process() -> Upgrade:
    return Upgrade(command_again(sys.argv, sys.orig_argv, sys.executable), os.environ, os.getpid())


def _refusal(environ: Mapping[str, str], pid: int) -> str:
    if pid == 1:
        return "this is the first process of a container, which ends with it: start another container"
    if not environ.get("NOTIFY_SOCKET"):
        return "there is no service manager to tell: start `zoomrelay run --takeover`"
    return ""


def _start(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """The process id of the new process, whose parent has ended. Raises `ControlRefused`."""
    try:
        shell = subprocess.run(
            [*_SHELL, *command],
            stdin=1,
            stdout=subprocess.PIPE,
            env=dict(environ),
            check=True,
            timeout=_START_SECONDS,
        )
        return int(shell.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ControlRefused(
            f"the new version cannot be started: {type(error).__name__}", status=409
        ) from error
