"""Two relays on one subscription, before a Zoom that serves the newest, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.unit.session.fakes import (
    DISPLACED,
    FakeConnection,
    FakeZoom,
    House,
    JealousZoom,
    Script,
    closes,
    refuse,
    refuses,
    stays,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
PATH = {"source": "main", "subscription": "sub1"}
MINUTE = 60.0


def says(after_seconds: float, module: str) -> Script:
    """Accepts, later says `success: false`, and says Bye."""

    async def script(connection: FakeConnection) -> None:
        await stays(connection)
        await asyncio.sleep(after_seconds)
        connection.frame(refuse(DISPLACED, module))
        connection.end(1000, "Bye")

    return script


@pytest.mark.parametrize("seed", range(2))
async def test_two_relays_change_places_three_times_in_ten_minutes(seed: int) -> None:
    zoom = JealousZoom()
    first, second = House(zoom, seed=seed), House(zoom, seed=seed + 1000)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(first.runner.run())
        await asyncio.sleep(MINUTE)
        tasks.create_task(second.runner.run())
        await asyncio.sleep(11 * MINUTE)
        await first.runner.stop()
        await second.runner.stop()
    came, *flips = zoom.displaced
    assert came == MINUTE
    assert [round((at - came) / MINUTE) for at in flips] == [1, 2, 7]
    assert first.sample("path_displaced_total", **PATH) == second.sample("path_displaced_total", **PATH) == 2


@pytest.mark.parametrize("seed", range(2))
async def test_without_a_word_from_zoom_nobody_waits_longer_than_half_a_minute(seed: int) -> None:
    zoom = JealousZoom(word=False)
    houses = [House(zoom, seed=seed), House(zoom, seed=seed + 1000)]
    async with asyncio.TaskGroup() as tasks:
        for house in houses:
            tasks.create_task(house.runner.run())
        await asyncio.sleep(10 * MINUTE)
        for house in houses:
            assert house.sample("path_contested", **PATH) == 1
            await house.runner.stop()
    assert len(zoom.displaced) < 120
    assert max(_longest_gap(house) for house in houses) <= 31
    assert max(_held(house, 2 * MINUTE, 10 * MINUTE) for house in houses) > 0.9 * 8 * MINUTE, "one wins"


def _moments(house: House) -> list[float]:
    """Accepted, lost, accepted …"""
    return [float(str(told[-1])) for told in house.listener.told]


def _longest_gap(house: House) -> float:
    moments = _moments(house)
    return max(begin - end for end, begin in zip(moments[1::2], moments[2::2], strict=False))


def _held(house: House, after: float, until: float) -> float:
    moments = _moments(house)
    spans = zip(moments[::2], moments[1::2], strict=True)
    return sum(max(0.0, min(end, until) - max(begin, after)) for begin, end in spans)


@pytest.mark.parametrize(
    "script",
    [
        closes(30, 1000, DISPLACED),
        says(30, "build_connection"),
        says(30, "heartbeat"),
        refuses(DISPLACED),
    ],
)
async def test_displacement_is_named_counted_and_waited_for(script: Script) -> None:
    house = House(FakeZoom(script))
    with capture_logs() as logs:
        await house.during(100 * MINUTE)
    waits = [wait - (0 if len(house.listener.told) == 0 else 30) for wait in house.zoom.waits]
    assert waits == [pytest.approx(seconds, rel=0.11) for seconds in (60, 300, 1200, 3600)]
    lines = [line for line in logs if line["event"] == "session.displaced"]
    assert [line["times"] for line in lines] == [1, 2, 3, 4, 5]
    assert all("old container" in line["cure"] and line["retry_seconds"] > 50 for line in lines)
    assert house.sample("path_displaced_total", **PATH) == 5
    assert house.sample("path_contested", **PATH) == 1
    assert house.runner.last_error.startswith("displaced: ") and DISPLACED in house.runner.last_error
    assert "another program uses this subscription" in house.runner.cure
    assert {told[1] for told in house.listener.told if told[0] == "lost"} <= {"displaced"}
    assert not [line for line in logs if line["event"] == "session.attempt_failed"], "told once"


async def test_accepted_and_closed_again_and_again_is_named_and_ends_with_a_quiet_minute() -> None:
    house = House(FakeZoom(*[closes(3)] * 6, stays))
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(house.runner.run())
            await asyncio.sleep(17)
            assert house.sample("path_contested", **PATH) == 1
            await asyncio.sleep(100)
            assert house.sample("path_contested", **PATH) == 0
            await house.runner.stop()
    events = [line["event"] for line in logs]
    assert events.count("session.contested") == events.count("session.uncontested") == 1
    (line,) = [line for line in logs if line["event"] == "session.contested"]
    assert line["closes"] == 4 and "most likely another program" in line["cure"]
    assert house.sample("path_displaced_total", **PATH) == 3
    assert max(house.zoom.waits) < 4, "who holds on comes back at once"


async def test_ten_minutes_undisturbed_and_it_is_over() -> None:
    house = House(FakeZoom(closes(30, 1000, DISPLACED), stays))
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(house.runner.run())
            await asyncio.sleep(150)
            assert house.runner.accepted_since is not None
            assert house.sample("path_contested", **PATH) == 1
            await asyncio.sleep(600)
            assert house.sample("path_contested", **PATH) == 0
            await house.runner.stop()
    assert [line["event"] for line in logs].count("session.uncontested") == 1


async def test_asked_to_it_tries_at_once_and_the_ladder_begins_anew() -> None:
    house = House(FakeZoom(*[refuses(DISPLACED)] * 3, closes(1, 1000, DISPLACED), stays))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.runner.run())
        await asyncio.sleep(10 * MINUTE)
        assert len(house.zoom.dialled) == 3, "it waits for 20 minutes now"
        house.runner.try_now()
        await asyncio.sleep(0.1)
        assert len(house.zoom.dialled) == 4
        house.runner.try_now()  # connected: nothing to hurry
        await asyncio.sleep(70)
        assert house.zoom.waits[-1] == pytest.approx(61, rel=0.11)
        await house.runner.stop()


async def test_stop_ends_the_longest_wait() -> None:
    house = House(FakeZoom(closes(1, 1000, DISPLACED)))
    await house.during(1000)
    assert asyncio.get_running_loop().time() == pytest.approx(1000, abs=0.1)
