"""The paths of one source keep apart, and never at the price of a moment without any."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.unit.session.fakes import FakeZoom, House, closes, stays
from zoomrelay.session.twins import SPACING_SECONDS, Twins

LATE = SPACING_SECONDS / 2


def _houses(*zooms: FakeZoom) -> list[House]:
    twins = Twins()
    return [House(zoom, subscription=f"sub{n}", seed=n, twins=twins) for n, zoom in enumerate(zooms)]


async def _during(seconds: float, houses: list[House]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for house in houses:
            tasks.create_task(house.runner.run())
        await asyncio.sleep(seconds)
        for house in houses:
            await house.runner.stop()


@pytest.mark.looptime
async def test_all_connect_at_once_while_none_is_accepted() -> None:
    houses = _houses(*(FakeZoom(stays) for _ in range(3)))
    await _during(1, houses)
    assert [house.zoom.dialled for house in houses] == [[pytest.approx(0, abs=0.01)]] * 3


@pytest.mark.looptime
async def test_those_lost_together_come_back_one_after_the_other_where_a_twin_covers_them() -> None:
    houses = _houses(FakeZoom(stays), *(FakeZoom(closes(100), stays) for _ in range(3)))
    await _during(120, houses)
    back = sorted(house.zoom.dialled[1] for house in houses[1:])
    assert back == [pytest.approx(100 + n * SPACING_SECONDS, abs=0.05) for n in range(3)]


@pytest.mark.looptime
async def test_those_lost_together_without_a_twin_do_not_wait() -> None:
    houses = _houses(*(FakeZoom(closes(100), stays) for _ in range(3)))
    await _during(120, houses)
    for house in houses:
        assert house.zoom.dialled[1] == pytest.approx(100, abs=0.05)


@pytest.mark.looptime
async def test_a_single_loss_is_made_good_at_once() -> None:
    houses = _houses(FakeZoom(stays), FakeZoom(closes(50)))
    await _during(500, houses)
    assert houses[1].zoom.waits == [pytest.approx(50, abs=0.05)] * 9


@pytest.mark.looptime
async def test_who_waits_for_a_turn_stops_waiting_when_the_last_twin_is_lost() -> None:
    lost_meanwhile = 100 + LATE / 2
    houses = _houses(FakeZoom(closes(lost_meanwhile), stays), *(FakeZoom(closes(100), stays) for _ in "ab"))
    # The first of the two that were lost comes back, so the third waits; then both others go.
    houses[1].zoom._scripts[:] = [closes(100), closes(LATE / 4), stays]
    await _during(120, houses)
    assert houses[2].zoom.dialled[1] == pytest.approx(lost_meanwhile, abs=0.05)
    assert houses[0].zoom.dialled[1] <= lost_meanwhile + SPACING_SECONDS + 0.05, "covered by the third"


@pytest.mark.looptime
async def test_flapping_paths_never_meet_while_a_twin_is_accepted() -> None:
    houses = _houses(FakeZoom(stays), *(FakeZoom(closes(0.5)) for _ in range(3)))
    await _during(300, houses)
    attempts = sorted(at for house in houses[1:] for at in house.zoom.dialled[1:])
    assert len(attempts) > 30
    assert min(later - earlier for earlier, later in pairwise(attempts)) > SPACING_SECONDS - 0.01


@pytest.mark.looptime
async def test_stop_ends_a_wait_for_a_turn() -> None:
    houses = _houses(FakeZoom(stays), *(FakeZoom(closes(100), stays) for _ in range(5)))
    await _during(101, houses)
    assert asyncio.get_running_loop().time() == pytest.approx(101, abs=0.01)
