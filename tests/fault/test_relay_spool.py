"""Trouble with the spool under the real relay: it stays connected, says so, and recovers by itself."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from tests.support import books
from tests.support.lab import Lab
from tests.support.receiver import Receiver
from tests.support.small_disk import failing_disk, no_file_beyond, small_disk
from zoomrelay.spool.sqlite_file import FORMAT
from zoomrelay.spool.statedir import StateDirectory

MIB = 1024**2
PAGE_BYTES = 8192


async def asked(lab: Lab, path: str) -> str:
    address = lab.relay.log("admin.listening")[-1]["addresses"][0]
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as answer:
        return await answer.text()


async def not_ready_because(lab: Lab) -> str:
    reasons: list[str] = json.loads(await asked(lab, "/readyz"))["not_ready_because"]
    return "; ".join(reasons)


async def metric(lab: Lab, name: str) -> float:
    (value,) = [
        line.split()[-1]
        for line in (await asked(lab, "/metrics")).splitlines()
        if line.startswith(name + " ")
    ]
    return float(value)


async def logged(lab: Lab, event: str, count: int = 1) -> dict[str, Any]:
    """The line of the log that tells of this, once there are so many."""
    await lab.relay.until(lambda: len(lab.relay.log(event)) >= count, event, seconds=30)
    return lab.relay.log(event)[-1]


async def stays_connected_and_loses_nothing(lab: Lab) -> None:
    """Everything that was sent arrives; the first connection is the only one; the books balance."""
    await lab.relay.until((lab.state_dir / "control.sock").exists, "the control socket")
    await lab.finish()
    assert await not_ready_because(lab) == ""
    await lab.relay.stop()
    print(lab.figures())
    lab.judge()
    assert len(lab.zoom.journal.connections) == 1
    assert lab.zoom.journal.unheard == 0
    sent = {one.content for one in lab.zoom.journal.since()}
    assert sent <= set(lab.delivered()["archive"])


async def paused_while_it_lasts(lab: Lab, words: str) -> asyncio.Task[bool]:
    """More comes than may wait in memory; what the relay says about that."""
    flood = asyncio.create_task(lab.zoom.flood(lab.zoom.prepare(12_000)))
    assert words in (await logged(lab, "spool.write_failed"))["error"]
    assert "tried again" in (await logged(lab, "intake.spool_unavailable"))["hint"]
    for _ in range(3):
        await lab.pause(0.7)
        assert words in await not_ready_because(lab)
        assert await metric(lab, "zoomrelay_spool_writable") == 0
    assert await metric(lab, "zoomrelay_intake_paused_seconds_total") > 0.5
    assert 500 <= await metric(lab, "zoomrelay_intake_events") < 5_000  # of 12,000
    assert len(lab.relay.log("spool.write_failed")) == 1
    return flood


# --- a disk that takes nothing ----------------------------------------------------------------------


@pytest.mark.full
async def test_disk_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state", 40 * MIB) as disk:
        async with Lab(tmp_path, seed=1) as lab:
            await lab.start()
            await lab.zoom.burst(50)
            disk.fill()
            flood = await paused_while_it_lasts(lab, "disk is full")
            disk.free()
            await flood
            assert (await logged(lab, "intake.spool_available"))["unavailable_seconds"] > 1
            await logged(lab, "spool.write_recovered")
            await stays_connected_and_loses_nothing(lab)


@pytest.mark.full
async def test_retained_events_make_way_on_a_full_disk(tmp_path: Path) -> None:
    """Nobody needs to free anything, and nothing waits."""
    with small_disk(tmp_path / "state", 24 * MIB):
        async with Lab(tmp_path, seed=12) as lab:
            await lab.start(environ={"ZOOMRELAY_SPOOL__RETAIN_SECONDS": "3600"})
            for _ in range(4):
                await lab.zoom.flood(lab.zoom.prepare(5_000))
                await lab.finish(ask=False)
            retained = await metric(lab, "zoomrelay_spool_retained_events")
            assert 100 < retained < 19_000
            assert lab.relay.log("spool.write_failed") == []
            await stays_connected_and_loses_nothing(lab)


@pytest.mark.full
async def test_a_disk_that_the_spool_has_filled(tmp_path: Path) -> None:
    """Nobody needs to free anything: once the sink takes events again, there is room for more."""
    receiver = Receiver(refuse_part=1.0)
    with small_disk(tmp_path / "state", 24 * MIB):
        async with Lab(tmp_path, seed=11, receiver=receiver) as lab:
            await lab.start()
            flood = asyncio.create_task(lab.zoom.flood(lab.zoom.prepare(20_000)))
            assert "disk is full" in (await logged(lab, "spool.write_failed"))["error"]
            await lab.pause(1)
            assert "disk is full" in await not_ready_because(lab)
            receiver.refuse_part = 0.0
            await logged(lab, "intake.spool_available")
            await flood
            await stays_connected_and_loses_nothing(lab)


async def test_io_error(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=2) as lab:
        await lab.start()
        for _ in range(20):  # every commit writes whole pages, so this log is by far the longest file
            await lab.zoom.burst(5)
        await lab.pause(1)
        wal_bytes = (lab.state_dir / "spool.sqlite-wal").stat().st_size
        with no_file_beyond(lab.relay.pid, wal_bytes + 1000):
            flood = await paused_while_it_lasts(lab, "disk I/O error")
        await flood
        await logged(lab, "spool.write_recovered")
        await stays_connected_and_loses_nothing(lab)


@pytest.mark.full
async def test_read_only(tmp_path: Path) -> None:
    """As a kernel does it that has found an error. Such a file system is unmounted sooner or later; what was
    on it is then put into what stands there instead."""
    with failing_disk(tmp_path / "state", 40 * MIB) as disk:
        async with Lab(tmp_path, seed=7) as lab:
            await lab.start()
            await lab.zoom.burst(50)
            await lab.pause(1)
            disk.fail()
            flood = await paused_while_it_lasts(lab, "disk I/O error")
            disk.take_away()
            await flood
            await logged(lab, "spool.put_back")
            await logged(lab, "spool.write_recovered")
            await stays_connected_and_loses_nothing(lab)


@pytest.mark.full
async def test_started_on_a_full_disk(tmp_path: Path) -> None:
    """It ends with 1, not 78, and says why: whoever starts it again does so until there is room."""
    with small_disk(tmp_path / "state", 16 * MIB) as disk:
        async with Lab(tmp_path, seed=8) as lab:
            disk.fill()
            lab.relay.start()
            assert await lab.relay.ended(30) == 1
            assert "disk is full" in lab.relay.log_text()
            assert "Traceback" not in lab.relay.log_text()
            disk.free()
            await lab.start()
            await lab.zoom.burst(50)
            await stays_connected_and_loses_nothing(lab)


# --- files that somebody takes away -----------------------------------------------------------------


def remove_directory(state: Path) -> None:
    state.rename(state.with_name("going"))  # at once: the relay writes there every second
    shutil.rmtree(state.with_name("going"))


def move_directory_away(state: Path) -> None:
    state.rename(state.with_name("elsewhere"))


def empty_directory(state: Path) -> None:
    for part in state.iterdir():
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def remove_log(state: Path) -> None:
    (state / "spool.sqlite-wal").unlink()


def replace_file(state: Path) -> None:
    (state / "other").write_bytes(b"dear diary, " * 5000)
    (state / "other").rename(state / "spool.sqlite")


@pytest.mark.parametrize(
    "take",
    [
        remove_directory,
        pytest.param(move_directory_away, marks=pytest.mark.full),
        pytest.param(empty_directory, marks=pytest.mark.full),
        pytest.param(remove_log, marks=pytest.mark.full),
        pytest.param(replace_file, marks=pytest.mark.full),
    ],
)
async def test_what_was_taken_away_is_put_back(tmp_path: Path, take: Callable[[Path], None]) -> None:
    """With everything that it held: a kill and a new start show that."""
    receiver = Receiver(refuse_part=1.0)
    async with Lab(tmp_path, seed=3, receiver=receiver) as lab:
        await lab.start()
        await lab.zoom.burst(200)
        await lab.relay.until(lambda: len(lab.delivered()["archive"]) == 200, "the archive")
        take(lab.state_dir)
        await lab.zoom.burst(200)
        assert (await logged(lab, "spool.put_back"))["events"] == 200
        await lab.relay.until(lambda: len(lab.delivered()["archive"]) == 400, "the archive")
        assert await not_ready_because(lab) == ""
        await lab.relay.until((lab.state_dir / "control.sock").exists, "the control socket")
        await lab.ask()
        await lab.pause(1.5)  # a sign of life for the ledger
        lab.kill()
        assert len(lab.zoom.journal.connections) == 1
        await lab.start()
        receiver.refuse_part = 0.0
        await lab.end()
        assert len(set(receiver.taken)) == 401
        assert len(set(lab.delivered()["archive"])) == 401


async def test_a_directory_that_cannot_be_made_anew(tmp_path: Path) -> None:
    """Something else has its name: events wait in memory until somebody acts."""
    async with Lab(tmp_path, seed=4) as lab:
        await lab.start()
        await lab.zoom.burst(50)
        await lab.pause(1)
        lab.state_dir.rename(tmp_path / "elsewhere")
        lab.state_dir.write_bytes(b"")
        await lab.zoom.burst(50)
        assert "state directory" in (await logged(lab, "spool.write_failed"))["error"]
        assert "state directory" in await not_ready_because(lab)
        lab.state_dir.unlink()
        (tmp_path / "elsewhere").rename(lab.state_dir)
        await logged(lab, "spool.write_recovered")
        assert not lab.relay.log("spool.put_back")  # it is the same file again
        await stays_connected_and_loses_nothing(lab)


@pytest.mark.full
async def test_a_directory_that_another_relay_took(tmp_path: Path) -> None:
    """Its lock is another process's: nothing in it is touched."""
    async with Lab(tmp_path, seed=5) as lab:
        await lab.start()
        await lab.zoom.burst(50)
        await lab.pause(1)
        lab.state_dir.rename(tmp_path / "elsewhere")
        other = StateDirectory(lab.state_dir)
        other.acquire(create=True)
        await lab.zoom.burst(50)
        assert "in use by the process" in (await logged(lab, "spool.write_failed"))["error"]
        assert "in use by the process" in await not_ready_because(lab)
        assert not list(lab.state_dir.glob("spool.sqlite*"))
        other.release()
        await logged(lab, "spool.put_back")
        await stays_connected_and_loses_nothing(lab)


# --- files that somebody spoils ---------------------------------------------------------------------


def cut_file(state: Path) -> None:
    file = state / "spool.sqlite"
    assert file.stat().st_size > 4 * MIB  # there was a checkpoint
    os.truncate(file, file.stat().st_size // 2)


def cut_log(state: Path) -> None:
    os.truncate(state / "spool.sqlite-wal", 100_000)


def cut_file_to_nothing(state: Path) -> None:
    os.truncate(state / "spool.sqlite", 0)


@pytest.mark.full
@pytest.mark.parametrize("cut", [cut_file, cut_file_to_nothing, cut_log])
async def test_cut_while_it_runs(tmp_path: Path, cut: Callable[[Path], None]) -> None:
    """Found at the next commit, before anything is written behind the cut: what is readable is kept, the
    rest counts as dead, and what comes afterwards is held."""
    receiver = Receiver(refuse_part=1.0)
    async with Lab(tmp_path, seed=6, receiver=receiver) as lab:
        await lab.start()
        await lab.zoom.flood(lab.zoom.prepare(9_000))
        await lab.relay.until(lambda: len(lab.delivered()["archive"]) == 9_000, "the archive")
        await lab.pause(1)
        cut(lab.state_dir)
        await lab.zoom.burst(100)
        await logged(lab, "spool.damaged")
        recovered = (await logged(lab, "spool.recovered"))["events_recovered"]
        await lab.pause(1.5)
        lab.kill()
        await lab.start()
        receiver.refuse_part = 0.0
        await lab.finish()
        account = books.accounts(lab.state_dir)["crm"]
        await lab.relay.stop()
        print(recovered, account, lab.figures())
        assert account.conservation_error == account.pending == 0
        assert len(set(lab.delivered()["archive"])) == 9_101
        assert len(set(receiver.taken)) == 9_101 - account.counts["dead"]
        assert account.counts["dead"] <= 9_000 - recovered
        assert len(list(lab.state_dir.glob("spool.sqlite.damaged-*"))) >= 1


# --- files that were spoilt before the start --------------------------------------------------------


def zero_the_head(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(bytes(PAGE_BYTES))


def overwrite_the_middle(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2 // PAGE_BYTES * PAGE_BYTES)
        opened.write(Random(1).randbytes(10 * PAGE_BYTES))


def cut_the_tail(file: Path) -> None:
    os.truncate(file, file.stat().st_size * 3 // 4)


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b'"payload"', len(data) // 2) + 2] ^= 0x10
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "set_aside", "at_most"),
    [
        (zero_the_head, 1, 0),
        pytest.param(overwrite_the_middle, None, 900, marks=pytest.mark.full),
        pytest.param(cut_the_tail, 1, 900, marks=pytest.mark.full),
        pytest.param(flip_a_byte, 0, 1, marks=pytest.mark.full),
    ],
)
async def test_spoilt_before_the_start(
    tmp_path: Path, spoil: Callable[[Path], None], set_aside: int | None, at_most: int
) -> None:
    """What is readable is delivered, the rest counts as dead, and the relay goes on."""
    receiver = Receiver(refuse_part=1.0)
    async with Lab(tmp_path, seed=9, receiver=receiver) as lab:
        await lab.start()
        for held in range(100, 1001, 100):  # ten commits at least, so that not all of them are hit
            await lab.zoom.burst(100)
            await lab.relay.until(lambda held=held: len(lab.delivered()["archive"]) == held, "the archive")
        await lab.relay.stop()
        spoil(lab.state_dir / "spool.sqlite")
        receiver.refuse_part = 0.0
        await lab.start()
        await lab.zoom.burst(100)
        newest = {one.content for one in list(lab.zoom.journal.since())[-100:]}
        await lab.relay.until(lambda: newest <= set(receiver.taken), "the newest, behind all others")
        await lab.finish()
        account = books.accounts(lab.state_dir)["crm"]
        await lab.relay.stop()
        print(account)
        assert account.conservation_error == account.pending == 0
        assert account.counts["dead"] <= at_most
        assert len(set(receiver.taken)) == 1101 - account.counts["dead"]
        sent = {one.content for one in lab.zoom.journal.since()}
        assert set(receiver.taken) <= sent
        if set_aside is not None:
            assert len(list(lab.state_dir.glob("spool.sqlite.damaged-*"))) == set_aside


async def test_a_newer_format_is_left_untouched(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=10) as lab:
        await lab.start()
        await lab.zoom.burst(20)
        await lab.relay.stop()
        with closing(sqlite3.connect(lab.state_dir / "spool.sqlite")) as shell:
            shell.execute(f"PRAGMA user_version = {FORMAT + 1}")
        before = (lab.state_dir / "spool.sqlite").read_bytes()
        lab.relay.start()
        assert await lab.relay.ended(30) == 78
        assert "newer version" in lab.relay.log_text()
        assert (lab.state_dir / "spool.sqlite").read_bytes() == before
