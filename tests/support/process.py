"""The real relay as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
RUN = ("-m", "zoomrelay", "run")
_TAIL = 30


class RelayProcess:
    """`zoomrelay run` with the configuration file in `directory`; may be started again and again.

    Standard error of all runs is in `log_file`, standard output in `stdout_file` unless it is given.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config_file = directory / "zoomrelay.toml"
        self.log_file = directory / "log.ndjson"
        self.stdout_file = directory / "stdout.ndjson"
        self.started_at = 0.0
        """Wall time of the last start."""
        self.ended_at = 0.0
        """Wall time, when the last `ended` or `kill` noticed the end."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        *,
        module: Sequence[str] = RUN,
        under: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        stdout: int | IO[bytes] | None = None,
    ) -> None:
        """Start it. `under` is a command to run it beneath (strace); `module` what Python is told to run."""
        command = [*under, sys.executable, *module, "--config", str(self.config_file)]
        self.started_at = time.time()
        with self.log_file.open("ab") as log, self.stdout_file.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=environment(environ or {}),
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> float:
        """SIGKILL; when it was sent, wall time."""
        self.ended_at = time.time()
        self.send(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        return self.ended_at

    async def ended(self, seconds: float) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        await self.until(lambda: not self.running, "the end of the relay", seconds=seconds, may_end=True)
        self.ended_at = time.time()
        return self._process.wait()

    async def stop(self, seconds: float = 60.0, number: signal.Signals = signal.SIGTERM) -> float:
        """Send this signal and see the end, with exit code 0; the seconds that took."""
        start = time.monotonic()
        self.send(number)
        code = await self.ended(seconds)
        assert code == 0, f"exit {code}\n{self.tail()}"
        return time.monotonic() - start

    def abandon(self) -> None:
        """Leave no process behind, however the test went."""
        if self.running:
            self.kill()

    def read_stdout(self) -> bytes:
        """What is left in the pipe of a relay that has ended."""
        assert self._process is not None and self._process.stdout is not None
        with self._process.stdout as pipe:
            return pipe.read()

    # --- waiting and reading ------------------------------------------------------------------------

    async def until(
        self, happened: Callable[[], object], what: str, *, seconds: float = 150.0, may_end: bool = False
    ) -> None:
        """Look every 10 ms until `happened()`; fails after `seconds`, or at once if the relay has ended."""
        deadline = time.monotonic() + seconds
        while not happened():
            ended = not (may_end or self.running)
            if (ended and not happened()) or time.monotonic() > deadline:
                raise AssertionError(
                    f"{what} did not come: {'the relay ended' if ended else f'{seconds:g} s'}\n{self.tail()}"
                )
            await asyncio.sleep(0.01)

    def log(self, event: str = "") -> list[dict[str, Any]]:
        """Lines of the log, of all or of one happening."""
        lines = self.log_text().splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [entry for entry in entries if not event or entry["event"] == event]

    def log_text(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def tail(self) -> str:
        """The last lines of our own loggers, for messages of failing tests."""
        lines = [line for line in self.log_text().splitlines() if not line.startswith('{"event": ')]
        return "\n".join(lines[-_TAIL:])


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Nothing of this process's settings; the code under test is the one of this tree."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_PROXY": "*", **more}
