"""The service manager's notification protocol."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.admin.fakes import lost_path, source, status
from zoomrelay.admin.notify import Notifier


class Manager:
    """Listens as systemd does."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


@pytest.fixture
def notifier(tmp_path: Path) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})


def test_ready_and_stopping(manager: Manager, notifier: Notifier) -> None:
    notifier.ready()
    notifier.stopping()
    assert manager.heard() == ["READY=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000"]


def test_a_reload_says_since_when_and_ends_however_it_goes(manager: Manager, notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1000
    with pytest.raises(ValueError), notifier.reloading():
        raise ValueError
    reloading, ready = manager.heard()
    first, _, second = reloading.partition("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert ready == "READY=1"


@pytest.mark.looptime
async def test_state_is_told_when_it_changes_at_most_once_a_second(
    manager: Manager, notifier: Notifier
) -> None:
    well, lost = status(), status(sources=[source(lost_path(cure=""))])
    states = iter([well, well, status(starting=True), lost, lost, lost])
    task = asyncio.create_task(notifier.run(lambda: next(states)))
    await asyncio.sleep(0.5)
    assert manager.heard() == ["STATUS=1 of 1 subscription accepted"]
    await asyncio.sleep(4)
    task.cancel()
    starting, troubled = manager.heard()
    assert starting == "STATUS=Starting" and troubled.endswith("the client secret is wrong")


def test_state_is_one_line(manager: Manager, notifier: Notifier) -> None:
    notifier.status("two\nlines")
    assert manager.heard() == ["STATUS=two lines"]


@pytest.mark.looptime
async def test_the_watchdog_is_fed_every_second_and_not_while_something_is_stuck(
    manager: Manager, tmp_path: Path
) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "5000000"}
    states = [status()]
    task = asyncio.create_task(Notifier(environ).run(lambda: states[-1]))
    await asyncio.sleep(2.5)
    assert manager.heard().count("WATCHDOG=1") == 3
    states.append(status(stuck=["spool"]))
    await asyncio.sleep(60)
    assert manager.heard() == []
    states.append(status())
    await asyncio.sleep(1)
    task.cancel()
    assert manager.heard() == ["WATCHDOG=1"]


@pytest.mark.looptime
@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}])
async def test_a_watchdog_that_is_not_ours_is_not_fed(
    manager: Manager, tmp_path: Path, more: dict[str, str]
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), **more})
    notifier.watchdog([])
    assert manager.heard() == []


@pytest.mark.looptime
async def test_a_stop_asks_for_patience_as_long_as_it_lasts(manager: Manager, notifier: Notifier) -> None:
    notifier.stopping()
    task = asyncio.create_task(notifier.run(lambda: status(stopping=True)))
    await asyncio.sleep(4.5)
    task.cancel()
    asked = [line for line in manager.heard() if "EXTEND_TIMEOUT_USEC=10000000" in line]
    assert len(asked) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux'")
def test_abstract_sockets(tmp_path: Path) -> None:
    manager = Manager(f"\0{tmp_path.name}")
    Notifier({"NOTIFY_SOCKET": f"@{tmp_path.name}"}).ready()
    assert manager.heard() == ["READY=1"]
    manager.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_service_manager_nothing_is_sent(manager: Manager, environ: dict[str, str]) -> None:
    Notifier(environ).ready()
    assert manager.heard() == []


def test_a_service_manager_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    Notifier({"NOTIFY_SOCKET": "/" + "x" * 200}).ready()
