"""Two relays on one subscription, before a pretend Zoom that serves the newest."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fronted import Running, toml
from zoomrelay.cli import entry
from zoomrelay.session import contest
from zoomrelay.simulator.server import Simulator


class Rival(Running):
    """One of several, in a directory of its own."""

    def __init__(self, zoom: Simulator, directory: Path) -> None:
        directory.mkdir()
        self.archive = directory / "archive.ndjson"
        file = directory / "zoomrelay.toml"
        file.write_text(toml(zoom, directory))
        super().__init__(file, {})

    @property
    def accepted(self) -> bool:
        return self.front.status().sources[0].paths[0].accepted

    @property
    def waits_seconds(self) -> float:
        """Until its next attempt; 0 while it does not wait for one."""
        at = self.front.status().sources[0].paths[0].next_attempt_at
        return 0.0 if at is None else at - time.time()

    async def text(self, path: str) -> str:
        return (await self.get(path))[1]

    async def reload(self) -> None:
        await asyncio.to_thread(self.control.post, "/reload", dict[str, Any])


@asynccontextmanager
async def running(zoom: Simulator, directory: Path) -> AsyncIterator[Rival]:
    """Returns once Zoom has accepted it."""
    one = Rival(zoom, directory)
    task = asyncio.create_task(one.relay.run(one.front))
    try:
        await until(lambda: task.done() or (one.relay.started.is_set() and one.accepted))
        yield one
    finally:
        one.relay.stop()
        await task


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - nobody says so
            await asyncio.sleep(0.005)


@pytest.fixture
async def zoom() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


def displacements(zoom: Simulator) -> list[float]:
    return sorted(one.ended_at or 0.0 for one in zoom.journal.connections if one.ending == "displaced")


async def test_ten_minutes_of_two_relays(
    zoom: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred times as fast. Slowness of the machine makes waits longer, never shorter."""
    fast = tuple(seconds / 100 for seconds in contest.LADDER_SECONDS)
    monkeypatch.setattr(contest, "LADDER_SECONDS", fast)
    monkeypatch.setattr(contest, "UNDISTURBED_SECONDS", contest.UNDISTURBED_SECONDS / 100)
    async with running(zoom, tmp_path / "first") as first, running(zoom, tmp_path / "second") as second:
        zoom.set_rate(200)
        await asyncio.sleep(6)
        zoom.set_rate(0)
        came, *flips = displacements(zoom)
        assert 1 <= len([at for at in flips if at - came <= 6]) <= 3
        sent = {one.content for one in zoom.journal.since() if one.heard}
        assert len(sent) > 500
        await until(lambda: set(first.archive.read_bytes().splitlines() + lines(second)) >= sent)
    assert len([one for one in zoom.journal.since() if not one.heard]) == 0, "each took over in good time"


def lines(one: Rival) -> list[bytes]:
    return one.archive.read_bytes().splitlines()


async def test_the_displaced_says_so_and_tries_at_once_when_asked(
    zoom: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(zoom, tmp_path / "first") as first, running(zoom, tmp_path / "second") as second:
        await until(lambda: first.waits_seconds)
        assert 50 < first.waits_seconds < 66 and second.accepted
        ready = json.loads(await first.text("/readyz"))
        (reason,) = ready["not_ready_because"]
        for words in ("Connected in another place", "another program uses this subscription", "HUP"):
            assert words in reason and words in await first.text("/")
        (path,) = ready["sources"]["main"]["subscriptions"].values()
        assert path["contested"] and path["last_error"].startswith("displaced: ")
        labels = f'{{source="main",subscription="{zoom.subscriptions[0]}"}}'
        metrics = await first.text("/metrics")
        assert f"zoomrelay_path_contested{labels} 1.0" in metrics
        assert f"zoomrelay_path_displaced_total{labels} 1.0" in metrics
        assert f"zoomrelay_path_contested{labels} 0.0" in await second.text("/metrics")
        assert await asyncio.to_thread(entry.run, ["status", "--config", str(first.file)]) == 1
        text = capsys.readouterr().out
        assert "closed; attempt 1 in" in text and "an old container" in text

        await first.reload()
        await until(lambda: first.accepted and second.waits_seconds)
        assert len(displacements(zoom)) == 2
        assert 50 < second.waits_seconds < 66
        await first.reload()
        assert first.accepted, "a reload touches no socket"


async def test_who_is_refused_disturbs_nobody_and_waits(zoom: Simulator, tmp_path: Path) -> None:
    zoom.on_second_connection = "refuse-new"
    async with running(zoom, tmp_path / "first") as first:
        late = Rival(zoom, tmp_path / "second")
        task = asyncio.create_task(late.relay.run(late.front))
        await until(lambda: late.relay.started.is_set() and late.waits_seconds)
        assert 50 < late.waits_seconds < 66 and first.accepted and not first.relay.status().not_ready_because
        late.relay.stop()
        await task
    assert displacements(zoom) == []
