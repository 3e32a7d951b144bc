"""A Debian that has booted, with systemd as its first process, in a container of this machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.debian import call, tree
from tests.support.require import require

_BOOT_SECONDS = 90.0


class Machine:
    """Shares the network of its host; what it writes is gone with it."""

    def __init__(self, pid: int) -> None:
        """`pid`: of its systemd, as the host sees it."""
        self.root = Path(f"/proc/{pid}/root")
        """Its files, for reading and writing."""
        self._enter = ("nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--pid", "--cgroup")

    def run(self, *command: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run this inside, as root, in its root directory."""
        return subprocess.run(
            [*self._enter, f"--wd={self.root}", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def call(self, *command: str, seconds: float = 60.0) -> str:
        """The same; fails where it fails. What it prints."""
        ended = self.run(*command, seconds=seconds)
        assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}{ended.stderr}\n{self.journal()}"
        return ended.stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def show(self, unit: str, *names: str) -> tuple[str, ...]:
        """Properties of a unit."""
        lines = self.call("systemctl", "show", unit, *(f"--property={name}" for name in names)).splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return tuple(found[name] for name in names)

    def journal(self, *arguments: str) -> str:
        return self.run("journalctl", "--no-pager", "--lines=200", "--output=cat", *arguments).stdout

    def until(self, happened: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
        """For a caller without an event loop; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"{what} did not come in {seconds:g} s\n{self.journal()}"
            time.sleep(0.1)


@contextmanager
def booted(bound: Sequence[Path] = ()) -> Iterator[Machine]:
    """A machine that has finished booting. The directories `bound` are there at the same path, read-only."""
    nspawn, nsenter = require("systemd-nspawn"), require("nsenter")
    assert nsenter
    options = ["--quiet", "--boot", "--volatile=overlay", "--register=no", "--keep-unit", "--console=pipe"]
    options += [f"--bind-ro={directory}" for directory in bound]
    container = subprocess.Popen(
        [nspawn, f"--directory={tree()}", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _up(container)
    finally:
        container.terminate()
        try:
            container.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            container.kill()
            container.communicate()


def _up(container: subprocess.Popen[str]) -> Machine:
    deadline = time.monotonic() + _BOOT_SECONDS
    while time.monotonic() < deadline:
        if container.poll() is not None:
            assert container.stderr is not None
            raise AssertionError(f"systemd-nspawn ended: {container.stderr.read()}")
        for pid in _children(container.pid):
            machine = Machine(pid)
            if machine.run("systemctl", "is-system-running").stdout.strip() == "running":
                return machine
        time.sleep(0.2)
    raise AssertionError(f"the machine did not boot in {_BOOT_SECONDS:g} s")


def _children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "--parent", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def install_zoomrelay(machine: Machine, packages: Path, wheel: Path) -> None:
    """As the README says, but without a network. `packages` and the wheel's directory are bound."""
    machine.call("python3", "-m", "venv", "/opt/zoomrelay")
    pip = ("/opt/zoomrelay/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--no-index")
    lock = f"{wheel.parent}/requirements.lock"
    machine.call(*pip, f"--find-links={packages}", "--require-hashes", f"--requirement={lock}", seconds=180)
    machine.call(*pip, "--no-deps", str(wheel))


__all__ = ["Machine", "booted", "call", "install_zoomrelay"]
