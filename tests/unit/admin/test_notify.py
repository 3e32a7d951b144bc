"""The service manager's notification protocol."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    assert manager.heard() == ["READY=1", "STOPPING=1"]


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
    words = iter(["a", "a", "b", "two\nlines", "two\nlines", "two\nlines"])
    task = asyncio.create_task(notifier.run(lambda: next(words)))
    await asyncio.sleep(0.5)
    assert manager.heard() == ["STATUS=a"]
    await asyncio.sleep(4)
    task.cancel()
    assert manager.heard() == ["STATUS=b", "STATUS=two lines"]


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
