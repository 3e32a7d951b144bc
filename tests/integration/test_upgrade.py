"""USR2: the version that is installed now takes over, and the service manager is told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.support.lab import Lab
from tests.support.takeover import successor, twice
from zoomrelay.admin.client import ControlClient
from zoomrelay.errors import ControlRefused
from zoomrelay.takeover.journal import journals

RATE = 200


class Manager:
    """Hears what a service manager is told, and keeps its side of a barrier."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self._heard: list[str] = []

    def __enter__(self) -> Manager:
        asyncio.get_running_loop().add_reader(self._socket, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        with suppress(ProcessLookupError):
            os.kill(self.main_pid, signal.SIGKILL)

    def _hear(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 1)
        self._heard.append(data.decode())
        for descriptor in descriptors:
            os.close(descriptor)

    @property
    def main_pid(self) -> int:
        """That it was told last; one that does not exist if it was told none."""
        told = [line for text in self._heard for line in text.splitlines() if line.startswith("MAINPID=")]
        return int(told[-1].removeprefix("MAINPID=")) if told else 2**30

    def count(self, line: str) -> int:
        return sum(line in text.splitlines() for text in self._heard)


@asynccontextmanager
async def service(directory: Path, **options: str) -> AsyncIterator[tuple[Lab, Manager]]:
    """A relay that runs under a service manager."""
    address = str(directory / "notify")
    async with Lab(directory, seed=3) as lab:
        with Manager(address) as manager:
            await lab.start(environ={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000"} | options)
            yield lab, manager


async def test_the_new_process_is_the_service(tmp_path: Path) -> None:
    async with service(tmp_path) as (lab, manager):
        old = lab.relay.pid
        lab.zoom.set_rate(RATE)
        lab.relay.send(signal.SIGUSR2)
        assert await lab.relay.ended(60) == 0, lab.relay.tail()
        assert manager.main_pid not in (old, 2**30)
        assert manager.count("READY=1") == 2 and manager.count("STOPPING=1") == 0
        lab.zoom.set_rate(0)
        mark = await lab.zoom.emit({"event": "test.mark", "payload": {}})
        assert mark
        await _until(lambda: b"test.mark" in lab.archive_file.read_bytes(), lab, "the mark")
        os.kill(manager.main_pid, signal.SIGTERM)
        await _until(lambda: len(lab.relay.log("relay.stopped")) == 2, lab, "the end")
        lab.judge()
        assert not twice(lab.delivered()["archive"])
        assert [line["pid"] for line in lab.relay.log("relay.started")] == [old, manager.main_pid]


@pytest.mark.full
async def test_a_new_version_that_fails_changes_nothing(tmp_path: Path) -> None:
    async with service(tmp_path) as (lab, manager):
        good = lab.relay.config_file.read_text()
        lab.relay.config_file.write_text("nonsense = 1")
        with pytest.raises(ControlRefused, match="this one goes on"):
            await asyncio.to_thread(ControlClient(lab.state_dir, timeout_seconds=60).post, "/upgrade", dict)
        assert lab.relay.log("upgrade.failed")
        assert "nonsense" in lab.relay.log_text() and manager.main_pid == 2**30
        lab.relay.config_file.write_text(good)
        await lab.finish()
        await lab.relay.stop()
        assert len(lab.truth().connections) == 1


@pytest.mark.full
async def test_a_second_one_is_refused_and_a_stop_ends_both(tmp_path: Path) -> None:
    async with service(tmp_path) as (lab, manager):
        lab.zoom.faults.never_accept = True
        lab.relay.send(signal.SIGUSR2)
        await lab.relay.until(lambda: lab.relay.log("takeover.begun"), "the takeover")
        lab.relay.send(signal.SIGUSR2)
        await lab.relay.until(lambda: lab.relay.log("upgrade.refused"), "the refusal")
        assert lab.relay.log("upgrade.refused")[0]["reason"] == "one is under way"
        new = lab.relay.log("upgrade.begun")[0]["by"]
        os.kill(new, signal.SIGTERM)  # as a service manager does, who stops them all
        await lab.relay.stop()
        assert manager.main_pid == 2**30 and manager.count("STOPPING=1") >= 1
        await _until(lambda: not Path(f"/proc/{new}").exists(), lab, "the end of the new one")
        assert len(lab.relay.log("relay.stopped")) == 2
        assert not lab.relay.log("relay.stopped_at_once")
        assert len(journals(lab.state_dir)) <= 1


@pytest.mark.full
async def test_one_that_stands_by_goes_on_where_the_other_ends(tmp_path: Path) -> None:
    standby = ("-m", "zoomrelay", "run", "--takeover", "--standby")
    async with Lab(tmp_path, seed=3) as lab:
        await lab.start(module=standby)
        old = lab.relay
        new = successor(lab, module=standby)
        await new.until(lambda: new.log("takeover.done"), "the takeover")
        await old.until(lambda: old.log("standby.begun"), "the old one's patience")
        assert old.running
        third = successor(lab, module=standby)
        await third.until(lambda: len(third.log("takeover.done")) == 2, "the second takeover")
        await new.until(lambda: len(new.log("standby.begun")) == 2, "the next one's patience")
        await new.stop()
        assert not old.log("standby.needed")
        old.started_at = time.time()
        await third.stop()
        await old.until(lambda: old.log("standby.needed"), "the need")
        await lab.finish()
        await old.stop()
        lab.judge()


async def _until(happened: object, lab: Lab, what: str) -> None:
    await lab.relay.until(happened, what, may_end=True, seconds=60)  # type: ignore[arg-type]
