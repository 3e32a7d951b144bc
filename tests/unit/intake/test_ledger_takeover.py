"""The gap ledger when another process takes over: what lies between that one's ear and this one's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.intake.test_ledger import PATH, House
from zoomrelay.intake.path_ledger import CLEAN_MARGIN_SECONDS, TAKEOVER, UNCLEAN_MARGIN_SECONDS


class Houses(House):
    """One process listens, another takes over."""

    async def old_listens(self) -> None:
        await self.accept()
        await self.listen(10)
        self.announced.clear()

    async def old_leaves(self, cause: str = TAKEOVER, *, clean: bool = True) -> None:
        """It heard everything until now."""
        self.path.lost(cause, "words", clean=clean, heard_until=self.clock.wall())
        await self.ledger.write()

    async def new_comes(self, wall: float, elapsed: float) -> None:
        """It was accepted then."""
        self.start(accepted={PATH: (wall, elapsed)})
        self.path.accepted(wall, at=elapsed)
        await self.ledger.write()

    def moment(self) -> tuple[float, float]:
        return self.clock.wall(), self.clock.elapsed()


@pytest.fixture
def house(tmp_path: Path) -> Houses:
    return Houses(tmp_path)


async def test_an_overlap_is_no_gap(house: Houses) -> None:
    await house.old_listens()
    accepted = house.moment()
    house.clock.sleep(0.1)  # less than the margin
    await house.old_leaves()
    house.clock.sleep(1)
    await house.new_comes(*accepted)
    assert house.gaps() == []
    assert house.told == []
    await house.listen(5)
    await house.lose("reset")
    assert house.gap().cause == "reset"


async def test_what_lies_between_is_one(house: Houses) -> None:
    await house.old_listens()
    heard_ms = house.now_ms
    await house.old_leaves()
    assert house.told == [], "whether it is a gap is not known yet"
    house.clock.sleep(0.5)
    accepted, accepted_ms = house.moment(), house.now_ms
    house.clock.sleep(3)
    await house.new_comes(*accepted)
    gap = house.gap()
    assert (gap.cause, gap.from_ms, gap.to_ms) == (
        TAKEOVER,
        heard_ms - int(CLEAN_MARGIN_SECONDS * 1000),
        accepted_ms,
    )
    assert gap.seconds == pytest.approx(0.5 + CLEAN_MARGIN_SECONDS, abs=0.002)
    assert house.told == [("zoomrelay.gap_opened", TAKEOVER), ("zoomrelay.gap_closed", TAKEOVER)]


@pytest.mark.parametrize("step", [-100.0, 100.0])
async def test_somebody_sets_the_clock_meanwhile(house: Houses, step: float) -> None:
    await house.old_listens()
    await house.old_leaves()
    house.clock.step(step)
    house.clock.sleep(0.5)
    accepted = house.moment()
    await house.new_comes(*accepted)
    assert house.gap().seconds == pytest.approx(0.5 + CLEAN_MARGIN_SECONDS, abs=0.002)


async def test_an_unclean_end_has_its_margin(house: Houses) -> None:
    await house.old_listens()
    accepted = house.moment()
    house.clock.sleep(UNCLEAN_MARGIN_SECONDS / 2)
    await house.old_leaves("reset", clean=False)
    await house.new_comes(*accepted)
    assert house.gap().cause == "reset"
    assert house.gap().to_ms == int(accepted[0] * 1000)


async def test_an_unclean_end_long_after_the_acceptance_is_no_gap(house: Houses) -> None:
    await house.old_listens()
    accepted = house.moment()
    house.clock.sleep(UNCLEAN_MARGIN_SECONDS + 0.1)
    await house.old_leaves("reset", clean=False)
    await house.new_comes(*accepted)
    assert house.gaps() == []


async def test_a_gap_of_long_before_keeps_its_cause(house: Houses) -> None:
    await house.old_listens()
    await house.lose("silent", clean=False)
    house.clock.sleep(60)
    accepted = house.moment()
    await house.new_comes(*accepted)
    assert house.gap().cause == "silent"
    assert house.gap().seconds == pytest.approx(60 + UNCLEAN_MARGIN_SECONDS, abs=0.01)


async def test_the_old_one_was_killed_before_the_acceptance(house: Houses) -> None:
    await house.old_listens()
    house.clock.sleep(0.5)
    await house.new_comes(*house.moment())
    assert house.gap().cause == "crash"
    assert house.gap().seconds == pytest.approx(0.5 + UNCLEAN_MARGIN_SECONDS, abs=0.01)


async def test_the_old_one_was_killed_long_after_the_acceptance(house: Houses) -> None:
    await house.old_listens()
    accepted = house.moment()
    await house.listen(3)
    house.announced.clear()
    await house.new_comes(*accepted)
    assert house.gaps() == []
    assert house.told == []


async def test_and_the_new_one_before_it_told_the_ledger(house: Houses) -> None:
    """It listened, and what it had received is in its journal; nothing else is known of that time."""
    await house.old_listens()
    accepted = house.moment()
    await house.listen(3)
    house.start(accepted={PATH: accepted})
    await house.ledger.write()
    house.clock.sleep(5)
    house.start()
    await house.accept()
    gap = house.gap()
    assert (gap.cause, gap.from_ms) == ("crash", int((accepted[0] - UNCLEAN_MARGIN_SECONDS) * 1000))


async def test_events_that_were_not_durable_count(house: Houses) -> None:
    """The old one heard them, and could not hold them."""
    await house.old_listens()
    house.unheld_since = house.clock.wall()
    house.clock.sleep(1)
    accepted = house.moment()
    house.clock.sleep(1)
    await house.old_leaves()
    house.unheld_since = None
    await house.new_comes(*accepted)
    assert house.gap().to_ms == int(accepted[0] * 1000)


async def test_a_takeover_that_came_to_nothing(house: Houses) -> None:
    await house.old_listens()
    await house.old_leaves()
    house.clock.sleep(2)
    await house.accept()
    assert (house.gap().cause, round(house.gap().seconds, 2)) == (TAKEOVER, 2 + CLEAN_MARGIN_SECONDS)
    assert house.told == [("zoomrelay.gap_opened", TAKEOVER), ("zoomrelay.gap_closed", TAKEOVER)]
