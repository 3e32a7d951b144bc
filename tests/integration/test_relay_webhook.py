"""The real relay with a webhook: beside sockets that fail, and alone; every event once, and nothing lost."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import crash, oracle
from tests.support.hooked import SECRET, HookedLab, free_port
from tests.support.process import environment
from zoomrelay.admin.client import ControlClient
from zoomrelay.app import Relay
from zoomrelay.config.load import load
from zoomrelay.errors import ConfigError, ControlRefused
from zoomrelay.event import WEBHOOK
from zoomrelay.intake import ledger
from zoomrelay.intake.identity import Identifier
from zoomrelay.simulator.webhooks import Posted

SIXTIETH = 1 / 60
"""Zoom's minutes are seconds."""


def contents(lab: HookedLab) -> tuple[int, int]:
    """(events that were sent, those of them that are in the archive), whichever copies."""
    read = Identifier("main").read
    sent = {read(one.content, "", 0).digest for one in lab.zoom.journal.since() if one.kind == "event"}
    archive = {read(line, "", 0).digest for line in lab.delivered()["archive"]}
    return len(sent), len(sent & archive)


async def test_sockets_down_for_ten_minutes_lose_nothing(tmp_path: Path) -> None:
    """Zoom's minutes are seconds here: ten of them without a socket, and the relay killed on the way."""
    async with HookedLab(tmp_path, seed=21, retry_scale=SIXTIETH) as lab:
        await lab.hooked()
        await lab.accepted()
        lab.zoom.set_rate(40)
        await lab.pause(1)
        lab.zoom.faults.change({"upgrade_status": 503})
        lab.zoom.end("close", 1000, "Bye")
        await lab.pause(5.5)
        lab.kill()
        await lab.pause(0.5)
        await lab.open()
        await lab.pause(4)
        lab.zoom.faults.change({"upgrade_status": 0})
        lab.relay.send(signal.SIGHUP)  # do not wait for the next attempt
        await lab.accepted()
        await lab.pause(0.5)
        lab.zoom.set_rate(0)
        await lab.settled()
        (outage,) = [gap for gap in ledger.read(lab.state_dir) if gap.subscription != WEBHOOK]
        status = lab.status()
        await lab.relay.stop()

        sent, arrived = contents(lab)
        assert sent == arrived > 100, f"{sent - arrived} lost"
        lab.judge_webhook(once=False)
        twice = len(lab.delivered()["archive"]) - arrived
        assert twice <= 40, "only what was under way when it was killed may come again"
        assert outage.healed and outage.lossless and not outage.covered_by and outage.seconds > 9
        assert outage.healed_events > arrived / 2, "most of the time there was no socket"
        (source,) = status.sources
        socket, webhook = source.paths
        assert source.conservation_error == 0 and not socket.deaf and not webhook.deaf
        assert webhook.first >= outage.healed_events and webhook.merged and socket.missed == 0
        assert any(len(post.statuses) > 1 for post in lab.zoom.webhooks.since()), "Zoom tried again"


async def test_each_event_comes_once_whichever_way(tmp_path: Path) -> None:
    """Both ways, with duplicates, swapped and late ones on each; nobody is killed."""
    async with HookedLab(tmp_path, seed=22, retry_scale=SIXTIETH) as lab:
        await lab.hooked()
        await lab.accepted()
        lab.zoom.faults.change(
            {"duplicate_every": 5, "reorder_every": 7, "late_every": 11, "late_seconds": 0.3}
        )
        for _ in range(3):
            await lab.zoom.burst(100)
            lab.zoom.end("close", 1000, "Bye")
            await lab.zoom.burst(20)
            await lab.accepted()
        await lab.pause(1.5)
        await lab.settled()
        status = lab.status()
        await lab.relay.stop()
        sent, arrived = contents(lab)
        assert sent == arrived
        lab.judge_webhook(once=True)
        (source,) = status.sources
        assert source.conservation_error == 0
        assert sum(path.first + path.merged for path in source.paths) == (
            source.counts.appended + source.counts.merged
        )


@pytest.mark.full
async def test_a_durable_receiver_of_webhooks(tmp_path: Path) -> None:
    """A source without any app; stopped and started while Zoom sends."""
    async with HookedLab(tmp_path, seed=23, retry_scale=SIXTIETH / 5) as lab:
        lab.without_app()
        await lab.hooked()
        lab.zoom.set_rate(100)
        for _ in range(2):
            await lab.pause(0.5)
            await lab.relay.stop()
            await lab.open()
        await lab.pause(0.5)
        lab.zoom.set_rate(0)
        await lab.settled()
        status = lab.status()
        assert status.ready and [path.subscription for path in status.sources[0].paths] == [WEBHOOK]
        assert not status.sources[0].conservation_error
        await lab.relay.stop()
        lab.judge_webhook(once=True)
        posts = list(lab.zoom.webhooks.since())
        assert posts and all(post.taken for post in posts)
        gaps = ledger.read(lab.state_dir)
        assert {(gap.subscription, gap.cause) for gap in gaps} == {(WEBHOOK, "stopped")}
        assert all(gap.lossless for gap in gaps)


@pytest.mark.full
async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    deaths = [
        ("webhook.push.before", 3),
        ("webhook.push.after", 3),
        ("webhook.held.after", 3),
        ("webhook.answer.after", 3),
        ("commit.before", 4),
        ("commit.after", 4),
    ]
    async with HookedLab(tmp_path, seed=24, retry_scale=SIXTIETH / 10) as lab:
        lab.without_app()
        await lab.hooked()
        lab.zoom.set_rate(30)
        await lab.pause(0.3)
        lab.kill()
        for point, passage in deaths:
            lab.relay.start(module=crash.MODULE, environ={crash.VARIABLE: f"{point}:{passage}"})
            assert await lab.relay.ended(60) == -signal.SIGKILL, f"{point}\n{lab.relay.tail()}"
        await lab.open()
        lab.zoom.set_rate(0)
        await lab.settled()
        assert not lab.status().sources[0].conservation_error
        await lab.relay.stop()
        lab.judge_webhook(once=False)
        taken = [post for post in lab.zoom.webhooks.since() if post.taken]
        assert taken and all(post.taken for post in lab.zoom.webhooks.since() if len(post.statuses) < 4)


async def test_the_command_sends_webhooks(tmp_path: Path) -> None:
    """`zoomrelay simulate --webhook`, to a relay that has nothing else."""
    async with HookedLab(tmp_path, seed=25) as lab:
        lab.without_app()
        await lab.open()
        command = [sys.executable, "-m", "zoomrelay", "simulate", "--port", "0", "--rate", "50"]
        command += ["--webhook", lab.url, "--webhook-secret", SECRET, "--seed", "1"]
        simulator = subprocess.Popen(  # noqa: ASYNC220 - it takes a moment, and nothing else goes on
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment({})
        )
        try:
            await lab.relay.until(lambda: len(lab.delivered()["archive"]) > 20, "events by webhook")
        finally:
            simulator.send_signal(signal.SIGTERM)
            printed, _ = await asyncio.to_thread(simulator.communicate, timeout=30)
        assert b" sent by webhook, " in printed
        await lab.relay.stop()
        assert all(json.loads(line)["event"] for line in lab.delivered()["archive"])


def test_the_oracle_sees_what_is_missing() -> None:
    event = b'{"event":"x","event_ts":1}'
    taken = Posted(1, 0.0, event, statuses=[503, 200], ended=True)
    assert oracle.by_webhook([taken], [event], "main", once=True) == []
    assert oracle.by_webhook([taken], [], "main", once=True)
    assert oracle.by_webhook([taken], [event, event], "main", once=True)
    assert oracle.by_webhook([Posted(1, 0.0, event, statuses=[503])], [], "main", once=True) == []


async def test_a_certificate_that_cannot_be_used_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nonsense")
    async with HookedLab(tmp_path, seed=27, settings=f'cert_file = "{tmp_path}/cert.pem"') as lab:
        lab.relay.start()
        assert await lab.relay.ended(60) == 78
        assert "sources.main.webhook.cert_file" in lab.relay.log_text()
        assert "Traceback" not in lab.relay.log_text()
        assert not lab.zoom.journal.connections
        with pytest.raises(ConfigError, match="cert_file"):  # before the one that runs is asked to stop
            await Relay(load(lab.relay.config_file, environ={}).config).succeed()


async def test_a_webhook_comes_and_goes_with_its_source(tmp_path: Path) -> None:
    """By reload; an address that cannot be had changes nothing."""
    async with HookedLab(tmp_path, seed=26) as lab:
        lab.without_app()
        await lab.hooked()
        before = lab.relay.config_file.read_text()
        port = free_port()
        table = f'[sources.more.webhook]\nlisten = "127.0.0.1:{port}"\nsecret_token = "{SECRET}"\n'
        lab.relay.config_file.write_text(before + table)
        client = ControlClient(lab.state_dir)
        with socket.create_server(("127.0.0.1", port)):
            with pytest.raises(ControlRefused, match=r"sources\.more\.webhook\.listen"):
                await asyncio.to_thread(client.post, "/reload", dict)
            assert [source.name for source in lab.status().sources] == ["main"]
        await asyncio.to_thread(client.post, "/reload", dict)
        await lab.relay.until(lambda: len(lab.relay.log("webhook.listening")) == 2, "the second door")
        lab.relay.config_file.write_text(before)
        await asyncio.to_thread(client.post, "/reload", dict)
        with socket.create_server(("127.0.0.1", port)):
            pass  # free again
        await lab.zoom.burst(5)
        await lab.settled()
        await lab.relay.stop()
        assert {gap.source for gap in ledger.read(lab.state_dir)} == {"main"}
        lab.judge_webhook(once=True)
