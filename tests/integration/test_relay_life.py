"""How the relay starts, stops and reloads, as a process that others send signals to."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.lab import STDOUT, Lab
from tests.support.process import environment
from tests.support.receiver import Receiver

BUSY_SECONDS = 3.0
"""What the end of a process may take beyond `drain_seconds`: a third of it on a calm machine (it is printed,
and near 0.3), but the tests run side by side."""


# --- start --------------------------------------------------------------------------------------------


async def test_from_start_to_acceptance_and_back_after_a_close(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=1) as lab:
        await lab.start()
        (first,) = lab.zoom.journal.connections
        started = (first.accepted_at or 0) - lab.relay.started_at
        lab.zoom.end("close", 1000, "Bye")
        await lab.accepted()
        second = lab.zoom.journal.connections[-1]
        again = (second.accepted_at or 0) - (first.ended_at or 0)
        print(f"start to accepted {started:.2f} s, closed to accepted {again * 1000:.0f} ms")
        await lab.end()
        assert again < 1.0, "the first attempt after a sound connection comes at once"


def test_without_a_configuration_it_says_how_to_begin(tmp_path: Path) -> None:
    done = _run(tmp_path)
    assert done.returncode == 78
    assert "ZOOM_ACCOUNT_ID" in done.stderr or "zoomrelay.toml" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "zoomrelay-state").exists()


async def test_a_state_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=1) as lab:
        lab.state_dir.write_text("a file is in the way")
        lab.relay.start()
        assert await lab.relay.ended(60) == 78
        assert str(lab.state_dir) in lab.relay.log_text()
        assert "Traceback" not in lab.relay.log_text()


async def test_a_second_relay_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=1) as lab:
        await lab.start()
        done = _run(tmp_path, "--config", str(lab.relay.config_file))
        assert done.returncode == 78
        assert str(lab.relay.pid) in done.stderr
        assert "Traceback" not in done.stderr
        await lab.end()
        assert len(lab.zoom.journal.connections) == 1


def _run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zoomrelay", "run", *arguments],
        cwd=directory,
        env=environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- stop ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)])
async def test_stops_in_order_while_events_pour_in(tmp_path: Path, number: signal.Signals) -> None:
    async with Lab(tmp_path, seed=2, receiver=Receiver(), drain_seconds=2) as lab:
        await lab.start()
        lab.zoom.set_rate(500)
        await lab.pause(0.5)
        seconds = await lab.relay.stop(number=number)
        assert seconds < 2 + BUSY_SECONDS
        await lab.start()
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        print(f"stopped in {seconds:.2f} s, {lab.figures()}")
        lab.judge()
        assert not lab.relay.log("relay.events_unheld")
        twice = {sink: len(got) - len(set(got)) for sink, got in lab.delivered().items()}
        assert not any(twice.values()), "a stop in order sends nothing twice"


async def test_a_receiver_that_hangs_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    receiver = Receiver()
    async with Lab(tmp_path, seed=3, receiver=receiver, drain_seconds=1) as lab:
        receiver.hanging = True
        await lab.start()
        await lab.zoom.burst(100)
        await lab.relay.until(lambda: receiver.requests, "a request that hangs")
        seconds = await lab.relay.stop()
        print(f"stopped in {seconds:.2f} s, of which 1 s to drain")
        assert seconds < 1 + BUSY_SECONDS
        receiver.hanging = False
        await lab.start()
        await lab.end()


async def test_a_full_pipe_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=4, more=STDOUT, drain_seconds=1) as lab:
        await lab.start(stdout=subprocess.PIPE)
        await lab.zoom.burst(500)
        await lab.relay.until(lambda: len(lab.delivered()["archive"]) == 500, "all in the archive")
        assert await lab.relay.stop() < 1 + BUSY_SECONDS
        in_the_pipe = lab.relay.read_stdout()
        assert 0 < len(in_the_pipe) <= 2**16
        lab.relay.stdout_file.write_bytes(in_the_pipe[: in_the_pipe.rindex(b"\n") + 1])
        await lab.start()
        await lab.end()


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    receiver = Receiver()
    async with Lab(tmp_path, seed=5, receiver=receiver, drain_seconds=60) as lab:
        receiver.hanging = True
        await lab.start()
        await lab.zoom.burst(50)
        await lab.relay.until(lambda: receiver.requests, "a request that hangs")
        lab.relay.send(signal.SIGTERM)
        await lab.relay.until(lambda: lab.relay.log("relay.stopping"), "the stop")
        assert await lab.relay.stop() < BUSY_SECONDS
        lab.kills.append(lab.relay.ended_at)  # what was on the way counts as killed
        receiver.hanging = False
        await lab.start()
        await lab.end()


async def test_in_memory_everything_is_drained_before_the_end(tmp_path: Path) -> None:
    async with Lab(
        tmp_path, seed=6, receiver=Receiver(), more=STDOUT, spool="memory", drain_seconds=30
    ) as lab:
        await lab.start()
        await lab.zoom.burst(2000)
        await lab.relay.stop()
        lab.judge()
        assert {sink: len(got) for sink, got in lab.delivered().items()} == dict.fromkeys(
            ("archive", "console", "crm"), 2000
        )


# --- reload -------------------------------------------------------------------------------------------


async def test_an_invalid_file_changes_nothing(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=7) as lab:
        await lab.start()
        lab.relay.config_file.write_text("state_dir = 1\n[sinks.archive]\ntype = 'nothing'\n")
        lab.relay.send(signal.SIGHUP)
        await lab.relay.until(lambda: lab.relay.log("config.invalid"), "the complaint")
        (complaint,) = lab.relay.log("config.invalid")
        assert any("sinks.archive" in problem for problem in complaint["problems"])
        await lab.zoom.burst(10)
        await lab.end()
        assert len(lab.zoom.journal.connections) == 1


async def test_sinks_come_and_go_without_touching_the_socket(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=8, receiver=Receiver()) as lab:
        second_file = tmp_path / "second.ndjson"
        second = f'[sinks.second]\ntype = "file"\npath = "{second_file}"\nfsync = false\n'
        await lab.start()
        lab.zoom.set_rate(200)
        await lab.pause(0.3)
        for reloads, more in enumerate((second, "", second), start=1):
            lab.configure(more=more)
            lab.relay.send(signal.SIGHUP)
            await lab.relay.until(lambda n=reloads: len(lab.relay.log("config.reloaded")) == n, "the reload")
            await lab.pause(0.3)
        lab.zoom.set_rate(0)
        await lab.end()
        assert len(lab.zoom.journal.connections) == 1
        got, everything = second_file.read_bytes().splitlines(), lab.delivered()["archive"]
        # It was away for a while, kept its backlog, and missed only what came before it was there.
        assert got == everything[-len(got) :]
        assert 0 < len(got) < len(everything)


async def test_logrotate(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=9) as lab:
        rotated = tmp_path / "events.ndjson.1"
        await lab.start()
        lab.zoom.set_rate(200)
        await lab.pause(0.3)
        lab.archive_file.rename(rotated)
        await lab.pause(0.2)
        lab.relay.send(signal.SIGHUP)
        await lab.relay.until(lab.archive_file.exists, "the new file")
        await lab.pause(0.2)
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        lab.archive_file.write_bytes(rotated.read_bytes() + lab.archive_file.read_bytes())
        lab.judge()


async def test_what_needs_a_restart_says_so(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=10) as lab:
        await lab.start()
        lab.configure(spool="memory", drain_seconds=1)
        file = lab.relay.config_file
        file.write_text(file.read_text().replace('format = "json"', 'format = "console"'))
        lab.relay.send(signal.SIGHUP)
        await lab.relay.until(lambda: lab.relay.log("config.reloaded"), "the warning")
        (warning,) = lab.relay.log("config.reloaded")
        assert warning["level"] == "warning"
        assert warning["needs_restart"] == ["spool.type", "log.format"]
        assert warning["changed"] == ["drain_seconds"]
        await lab.finish()
        before = time.monotonic()
        await lab.relay.stop()
        assert time.monotonic() - before < 1 + BUSY_SECONDS
