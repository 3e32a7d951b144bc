"""Tokens refused, sockets that fall silent, frames that are no events: the session seen from outside."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support import books
from tests.support.lab import Lab

QUICK = "heartbeat_seconds = 5\ndead_after_seconds = 5.5\n"


def levels(lab: Lab) -> set[str]:
    return {entry["level"] for entry in lab.relay.log() if entry["logger"].startswith("zoomrelay")}


async def test_a_token_endpoint_that_is_down_is_but_a_warning(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=1, expires_in_seconds=3) as lab:
        await lab.start()
        lab.zoom.faults.change({"token_status": 503})
        lab.zoom.set_rate(50)
        await lab.pause(5)  # the token's life is over, that of the socket is not
        assert len(lab.zoom.journal.connections) == 1
        assert "warning" in levels(lab)
        assert not levels(lab) & {"error", "critical"}, lab.relay.tail()
        lab.zoom.set_rate(0)
        # Now the socket ends: without a token there is no way back, until the endpoint is there again.
        lab.zoom.end("close", 1001, "going away")
        await lab.zoom.burst(20)
        requests = lab.zoom.token_requests
        await lab.relay.until(lambda: lab.zoom.token_requests > requests, "another try")
        await lab.ask()
        lab.zoom.faults.clear()
        await lab.end()


@pytest.mark.parametrize(
    "faults",
    [
        {"token_status": 429, "token_retry_after": "1", "token_times": 2},
        {"token_status": 500, "token_times": 2},
        {"token_status": 200, "token_body": "html", "token_times": 2},
        {"token_status": 200, "token_body": "empty", "token_times": 1},
    ],
    ids=lambda faults: "-".join(map(str, faults.values())),
)
async def test_it_gets_its_token_in_the_end(tmp_path: Path, faults: dict[str, Any]) -> None:
    async with Lab(tmp_path, seed=2) as lab:
        lab.zoom.faults.change(faults)
        await lab.start()
        await lab.end()
        assert {"warning", "error"} & levels(lab), "trouble is said aloud"


async def test_credentials_refused_for_good_do_not_end_it(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=2) as lab:
        lab.zoom.faults.change({"token_error": "invalid_client"})
        lab.relay.start()
        await lab.relay.until(lambda: lab.relay.log("auth.credentials_refused"), "the complaint")
        assert lab.relay.log("auth.credentials_refused")[0]["cure"]
        await lab.ask()
        assert not msgspec.json.decode(lab.answers["control /status"])["ready"]
        assert await lab.relay.stop() < 3


@pytest.mark.parametrize(
    "texts",
    [
        ("token is empty",),
        pytest.param(
            ("Invalid Token", "Token is invalid", "token is empty", "TOKEN? no."), marks=pytest.mark.full
        ),
    ],
)
async def test_refused_tokens_in_every_wording(tmp_path: Path, texts: tuple[str, ...]) -> None:
    async with Lab(tmp_path, seed=3) as lab:
        await lab.start()
        for text in texts:
            lab.zoom.faults.change({"refuse": text, "refuse_times": 1})
            lab.zoom.end("close", 1000, "Bye")
            await lab.zoom.burst(5)
            await lab.accepted()
            await lab.zoom.burst(5)
        lab.zoom.revoke_tokens()  # the open socket stays, the next attempt meets a refusal
        lab.zoom.end("close", 1000, "Bye")
        await lab.end()
        assert "the socket's address" in lab.relay.log_text(), "an empty token is explained in words"


async def test_a_storm_of_byes_is_ridden_out(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=4) as lab:
        await lab.start()
        lab.zoom.set_rate(100)
        lab.zoom.faults.change({"end_after_seconds": 0.02})
        lab.zoom.end("close", 1000, "Bye")
        await lab.pause(4)
        storm = len(lab.zoom.journal.connections)
        lab.zoom.faults.clear()
        await lab.accepted()
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        print(f"{storm} connections in 4 s, {lab.figures()}")
        lab.judge()
        assert 3 <= storm <= 20, "neither gives up nor hammers"


@pytest.mark.parametrize("how", ["half-open", "stop-answering"])
async def test_silence_is_noticed(tmp_path: Path, how: str) -> None:
    async with Lab(tmp_path, seed=5, source=QUICK) as lab:
        await lab.start()
        await lab.zoom.burst(20)
        if how == "half-open":
            lab.zoom.end("half-open")
        else:
            lab.zoom.faults.change({"stop_answering": True})
        await lab.zoom.burst(5)
        await lab.relay.until(lambda: len(lab.zoom.journal.connections) == 2, "another try")
        lab.zoom.faults.clear()
        await lab.end()
        assert lab.relay.log("session.closed")[0]["cause"] == "silent"


@pytest.mark.full
async def test_heartbeats_hold_through_a_flood(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=6, source=QUICK) as lab:
        await lab.start()
        frames = lab.zoom.prepare(2000)
        async with asyncio.timeout(30):
            while lab.zoom.journal.connections[0].heartbeats < 3:
                await lab.zoom.flood(frames)
        await lab.finish()
        await lab.relay.stop()
        (connection,) = lab.zoom.journal.connections
        seconds = (connection.ended_at or 0) - (connection.accepted_at or 0)
        print(f"{connection.events} events in {seconds:.1f} s, {connection.heartbeats} heartbeats")
        assert len(lab.delivered()["archive"]) == connection.events
        assert connection.heartbeats >= seconds // 5


async def test_frames_in_every_shape(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=7) as lab:
        await lab.start()
        faults = {"rubbish_every": 7, "fragment_every": 3, "duplicate_every": 11, "reorder_every": 13}
        lab.zoom.faults.change(faults)
        await lab.zoom.burst(1000)
        lab.zoom.faults.clear()
        await lab.end()
        assert len(lab.zoom.journal.connections) == 1, "nothing of this ends a socket"
        (connection,) = lab.zoom.journal.connections
        assert connection.rubbish > 100
        assert books.quarantined(lab.state_dir) == connection.rubbish, "every such frame is kept"


@pytest.mark.parametrize(("kind", "cause"), [("oversize", "oversize"), ("invalid-utf8", "")])
async def test_frames_that_may_end_a_socket(tmp_path: Path, kind: Any, cause: str) -> None:
    async with Lab(tmp_path, seed=8, source='max_message_bytes = "1MiB"\n') as lab:
        await lab.start()
        await lab.zoom.burst(50)
        await lab.zoom.send_rubbish(kind)
        await lab.zoom.burst(50)
        if cause:
            await lab.relay.until(lambda: lab.relay.log("session.closed"), "the end of the socket")
            assert lab.relay.log("session.closed")[0]["cause"] == cause
        await lab.end()


async def test_displaced_by_another_and_back(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=9) as lab:
        await lab.start()
        lab.zoom.on_second_connection = "refuse-new"
        lab.zoom.set_rate(100)
        lab.zoom.end("reset")
        await lab.accepted()
        lab.zoom.set_rate(0)
        await lab.end()
