"""Replay with the real process: to an HTTP receiver beside live events, to a file, and to standard output."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.support.lab import Lab
from tests.support.process import environment
from tests.support.receiver import Receiver
from zoomrelay.admin.client import ControlClient

RETAIN = {"ZOOMRELAY_SPOOL__RETAIN_SECONDS": "3600"}


async def under_way(lab: Lab, receiver: Receiver) -> asyncio.subprocess.Process:
    """A slow replay of 200 events, of which some have arrived."""
    await lab.start(environ=RETAIN)
    await lab.zoom.burst(200)
    await lab.finish()
    process = await command(lab, "--to", "crm", "--rate", "50")
    await lab.relay.until(lambda: len(receiver.replayed) > 20, "the beginning of the replay")
    return process


async def command(lab: Lab, *arguments: str) -> asyncio.subprocess.Process:
    """`zoomrelay replay`, begun."""
    config = "--config", str(lab.relay.config_file)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "zoomrelay", "replay", *config, *arguments),
        cwd=lab.relay.directory,
        env=environment(RETAIN),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def replay(lab: Lab, *arguments: str) -> tuple[int, bytes, str]:
    process = await command(lab, *arguments)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out, err.decode()


@pytest.mark.full
async def test_everything_once_more(tmp_path: Path) -> None:
    receiver = Receiver()
    async with Lab(tmp_path, seed=1, receiver=receiver) as lab:
        await lab.start(environ=RETAIN)
        await lab.zoom.burst(300)
        await lab.finish()
        sent = lab.delivered()["archive"]

        assert await replay(lab) == (0, b"".join(line + b"\n" for line in sent), "")
        code, out, _ = await replay(lab, "--events", "meeting.*,!meeting.ended", "--since", "1h")
        assert code == 0
        chosen = [line for line in sent if b'"meeting.' in line[:60] and b'"meeting.ended"' not in line[:60]]
        assert out.splitlines() == chosen and chosen

        assert await replay(lab, "--to", "crm") == (0, b"%d replayed\n" % len(sent), "")
        assert sorted(receiver.replayed) == sorted(sent)
        assert len(receiver.taken) == len(sent)
        await replay(lab, "--to", "archive")
        assert lab.delivered()["archive"] == sent * 2
        lab.archive_file.write_bytes(b"".join(line + b"\n" for line in sent))

        code, _, err = await replay(lab, "--to", "nowhere")
        assert (code, "no sink nowhere" in err) == (1, True)
        await lab.ask()
        metrics = lab.answers["admin /metrics"].decode()
        assert re.search(rf'zoomrelay_sink_replayed_total{{sink="crm"}} {len(sent)}\.0', metrics)
        assert re.search(rf"zoomrelay_spool_retained_events {len(sent)}\.0", metrics)
        await lab.relay.stop()
        assert (await replay(lab))[1].splitlines() == sent
        code, _, err = await replay(lab, "--to", "crm")
        assert (code, "no relay is running" in err) == (1, True)
        lab.judge()


@pytest.mark.full
async def test_nothing_is_kept_unless_it_is_wanted(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=2) as lab:
        await lab.start()
        code, out, err = await replay(lab)
        assert (code, out, "spool.retain_seconds" in err) == (1, b"", True)
        await lab.relay.stop()


async def test_interrupted_it_ends_cleanly_and_says_where_to_go_on(tmp_path: Path) -> None:
    receiver = Receiver()
    async with Lab(tmp_path, seed=3, receiver=receiver) as lab:
        process = await under_way(lab, receiver)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            _, err = await process.communicate()
        assert process.returncode == 130
        assert b"cancelled; go on with --since 20" in err and b"Traceback" not in err
        await lab.relay.until(lambda: lab.relay.log("replay.cancelled"), "the end of the replay")
        assert len(receiver.replayed) < 200
        since = err.split()[-1].decode()
        assert (await replay(lab, "--to", "crm", "--since", since))[0] == 0
        assert set(receiver.replayed) == set(receiver.taken)
        await lab.relay.stop()
        lab.judge()


@pytest.mark.full
async def test_a_kill_during_a_replay_costs_nothing_but_the_replay(tmp_path: Path) -> None:
    receiver = Receiver()
    async with Lab(tmp_path, seed=4, receiver=receiver) as lab:
        process = await under_way(lab, receiver)
        lab.kill()
        async with asyncio.timeout(20):
            _, err = await process.communicate()
        assert process.returncode == 1
        assert b"a replay ends with the relay; go on with --since 20" in err and b"Traceback" not in err
        await receiver.left()
        await lab.start(environ=RETAIN)
        since = re.findall(r"--since (\S+)", err.decode())[0]
        assert (await replay(lab, "--to", "crm", "--since", since))[0] == 0
        assert set(receiver.replayed) >= {one for one in receiver.taken if b"test.mark" not in one}
        await lab.end()


@pytest.mark.full
async def test_live_events_are_not_delayed_by_a_replay(tmp_path: Path) -> None:
    """Latencies of live events, alone and beside a replay; half a second would be a queue."""
    receiver, count = Receiver(), 8_000
    async with Lab(tmp_path, seed=5, receiver=receiver) as lab:
        await lab.start(environ=RETAIN)
        await lab.zoom.burst(count)
        await lab.finish()
        alone = await latencies(lab, receiver)
        process = await command(lab, "--to", "crm")
        await lab.relay.until(lambda: receiver.replayed, "the beginning of the replay")
        beside = await latencies(lab, receiver)
        done = len(receiver.replayed)
        async with asyncio.timeout(100):
            await process.communicate()
        print(
            f"\np99 alone {alone * 1000:.1f} ms, beside a replay {beside * 1000:.1f} ms ({done} of {count})"
        )
        assert beside < 5.0, "live events wait for the replay"
        await lab.finish()
        status = await asyncio.to_thread(ControlClient(lab.state_dir).get, "/status", dict)
        assert {sink["conservation_error"] for sink in status["sinks"]} == {0}
        await lab.relay.stop()
        lab.judge()


async def latencies(lab: Lab, receiver: Receiver) -> float:
    """The p99, in seconds, of a hundred live events, one every 5 ms."""
    loop = asyncio.get_running_loop()
    found = []
    for _ in range(100):
        taken, began = len(receiver.taken), loop.time()
        await lab.zoom.burst(1)
        await lab.relay.until(lambda taken=taken: len(receiver.taken) > taken, "a live event")  # type: ignore[misc]
        found.append(loop.time() - began)
        await asyncio.sleep(0.005)
    return sorted(found)[98]
