"""Every command in a block of docs/operations.md is run as it stands there; only paths and numbers differ."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.support import books
from tests.support.lab import Lab
from tests.support.process import ROOT, environment
from tests.support.receiver import Receiver
from tests.support.require import require
from zoomrelay.cli.commands import COMMANDS
from zoomrelay.cli.entry import run

DOCUMENT = (ROOT / "docs" / "operations.md").read_text()
COMMANDS_OF_BLOCKS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
ELSEWHERE = {
    "zoomrelay run --takeover": "tests/fault/test_takeover.py, for it does not end by itself",
    "sudo /opt/zoomrelay/bin/zoomrelay upgrade": "tests/deploy/test_systemd.py",
    "docker run -d --name zoomrelay-2": "tests/deploy/test_container.py",
    "  -v zoomrelay-state:": "the same",
    "docker logs": "the same",
    "docker stop": "the same",
    "openssl rand -hex 32 | sudo install": "by hand: it needs sudo and /etc",
    "printf 'Authorization: Bearer": "by hand, with that token; tests/integration/test_ping.py asks so",
}
"""What is not run here (lines that begin so), and who runs it."""
HERE = [line for line in COMMANDS_OF_BLOCKS if not line.startswith(tuple(ELSEWHERE))]
OURS = [line for line in HERE if line.startswith("zoomrelay ")]
BENCH = ".venv/bin/python -m bench capacity"
OTHERS = [line for line in HERE if line not in [*OURS, BENCH]]
SECONDS = 120.0
REFUSED = "dead_letter_on = [422]"
RETAIN = {"ZOOMRELAY_SPOOL__RETAIN_SECONDS": "86400"}


@asynccontextmanager
async def _place(directory: Path) -> AsyncIterator[Lab]:
    """A relay that runs, in a place where `zoomrelay` is this tree's and finds its configuration."""
    (directory / "bin").mkdir()
    shim = directory / "bin" / "zoomrelay"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zoomrelay "$@"\n')
    shim.chmod(0o755)
    async with Lab(directory, seed=1, receiver=Receiver(status=422), http_options=REFUSED) as lab:
        await lab.start(environ=RETAIN)
        yield lab


async def _begun(lab: Lab, line: str) -> asyncio.subprocess.Process:
    directory = lab.relay.directory
    path = f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
    line = line.replace("/var/lib/zoomrelay", str(lab.state_dir)).replace("/root/", f"{directory}/")
    return await asyncio.create_subprocess_exec(
        *("sh", "-c", f"exec {line}" if ">" not in line else line),
        cwd=directory,
        env=environment({"PATH": path, "ZOOMRELAY_CONFIG": str(lab.relay.config_file), **RETAIN}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _run(lab: Lab, line: str) -> str:
    """What it prints; it must end with 0 and complain of nothing."""
    process = await _begun(lab, line)
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode == 0, f"{line}\n{out.decode()}{err.decode()}"
    return out.decode()


# --- zoomrelay's own --------------------------------------------------------------------------------


@pytest.mark.full
async def test_commands_of_zoomrelay(tmp_path: Path) -> None:
    assert len(OURS) >= 15
    async with _place(tmp_path) as lab:
        await lab.zoom.burst(40)
        await lab.finish()
        for line in OURS:
            if line.startswith("zoomrelay tap"):
                await _tapped(lab, line)
            elif line.startswith("zoomrelay dlq"):
                await _on_dead_letters(lab, line)
            else:
                await _run(lab, line)
        assert (tmp_path / "events.ndjson").read_bytes().count(b"\n") >= 40


async def _tapped(lab: Lab, line: str) -> None:
    """It shows an event that comes while it runs, and Ctrl-C ends it."""
    process = await _begun(lab, line)
    assert process.stdout

    async def send() -> None:
        while True:
            await lab.zoom.emit({"event": "meeting.started", "payload": {"object": {"id": "1"}}})
            await asyncio.sleep(0.1)

    sender = asyncio.create_task(send())
    async with asyncio.timeout(SECONDS):
        assert await process.stdout.readline(), line
    sender.cancel()
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(SECONDS):
        await process.communicate()
    assert process.returncode == 0, line


async def _on_dead_letters(lab: Lab, line: str) -> None:
    """Number 17 is one that is there."""
    if not (numbers := _dead(lab)):
        numbers = await _refused(lab)
    said = await _run(lab, re.sub(r"\b17\b", str(numbers[0]), line))
    if "list" in line and "--until" not in line:
        assert str(numbers[0]) in said


async def _refused(lab: Lab) -> list[int]:
    assert lab.receiver is not None
    lab.receiver.refuse_part = 1.0
    await lab.zoom.burst(5)
    await lab.relay.until(lambda: len(_dead(lab)) >= 5, "dead letters")
    lab.receiver.refuse_part = 0.0
    return _dead(lab)


def _dead(lab: Lab) -> list[int]:
    with closing(sqlite3.connect(f"file:{lab.state_dir}/spool.sqlite?mode=ro", uri=True)) as spool:
        return [number for (number,) in spool.execute("SELECT number FROM dead WHERE NOT redriving")]


# --- the others -------------------------------------------------------------------------------------


@pytest.mark.full
async def test_reading_backing_up_and_restoring(tmp_path: Path) -> None:
    """The rest of the blocks, in order: what waited at the time of the backup is delivered from it."""
    assert {line.split()[0] for line in OTHERS} == {"sqlite3", "cp", "rm", "chmod", "chown", "systemctl"}
    require("sqlite3")
    async with _place(tmp_path) as lab:
        receiver = lab.receiver
        assert receiver is not None
        lab.zoom.end("close")  # the ledger has something to tell
        await lab.accepted()
        receiver.status, receiver.refuse_part = 503, 1.0
        await lab.zoom.burst(40)
        await lab.relay.until(lambda: books.accounts(lab.state_dir)["archive"].pending == 0, "the archive")
        for line in OTHERS:
            match shlex.split(line)[:3]:
                case ["systemctl", "stop", "zoomrelay"]:
                    await lab.relay.stop()
                    shutil.rmtree(lab.state_dir)  # the disk was lost
                    lab.state_dir.mkdir(mode=0o700)
                case ["systemctl", "start", "zoomrelay"]:
                    await lab.start(environ=RETAIN)
                case _:
                    await _run(lab, line)
        receiver.refuse_part = 0.0
        await lab.finish()
        assert set(lab.delivered()["archive"]) == set(lab.delivered()["crm"])
        assert books.accounts(lab.state_dir)["crm"].conservation_error == 0
        kept = (tmp_path / "gaps-backup.ndjson").read_text().splitlines()
        assert all(json.loads(line) for line in kept)


@pytest.mark.full
async def test_moving_the_state_directory(tmp_path: Path) -> None:
    """Another machine is another directory: what waited is delivered there, and nothing is unlisted."""
    async with _place(tmp_path) as lab:
        assert lab.receiver is not None
        lab.receiver.status, lab.receiver.refuse_part = 503, 1.0
        await lab.zoom.burst(40)
        await lab.relay.until(lambda: books.accounts(lab.state_dir)["archive"].pending == 0, "the archive")
        await lab.relay.stop()
        moved = tmp_path / "elsewhere"
        shutil.copytree(lab.state_dir, moved, ignore=shutil.ignore_patterns("tokens"))
        shutil.rmtree(lab.state_dir)
        lab.state_dir = moved
        lab.configure()
        lab.receiver.refuse_part = 0.0
        await lab.start()
        await lab.finish()
        await lab.relay.stop()
        assert len(lab.receiver.taken) == 41  # and the mark
        lab.judge()


@pytest.mark.full
def test_the_bench_is_there(tmp_path: Path) -> None:
    """It takes minutes, so only its smallest part is run: a relay at rest."""
    assert BENCH in COMMANDS_OF_BLOCKS
    code = "from bench.capacity import running\nwith running(count=64, rate=0) as one: one.until('file0', 64)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment({}), cwd=ROOT, timeout=SECONDS, check=False
    )
    assert done.returncode == 0


# --- in the text ------------------------------------------------------------------------------------

TEXT = re.sub(r"^```.*?^```$", "", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("span", sorted(set(re.findall(r"`(zoomrelay [a-z][^`]*)`", TEXT))))
def test_commands_in_the_text_exist(span: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, name, *arguments = shlex.split(span)
    assert name in COMMANDS
    command = [name, *[word for word in arguments[:1] if re.fullmatch("[a-z]+", word)]]
    assert run([*command, "--help"]) == 0
    told = capsys.readouterr().out
    assert [flag for flag in arguments if flag.startswith("--") and flag not in told] == []
