"""Troubles beside the sockets, gathered into episodes."""

from __future__ import annotations

import pytest

from tests.unit.intake.fakes import HandClock
from zoomrelay.intake.gaps import Trouble
from zoomrelay.intake.troubles import Troubles

PAUSED, UNWRITABLE, SHED = Trouble.PAUSED, Trouble.SPOOL_UNWRITABLE, Trouble.SHED


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def troubles(clock: HandClock) -> Troubles:
    troubles = Troubles(clock)
    troubles.listening = lambda: ["main/a", "main/b"]
    return troubles


def test_a_short_pause_is_no_entry(clock: HandClock, troubles: Troubles) -> None:
    for _ in range(10):
        troubles.begin(PAUSED)
        clock.sleep(0.9)
        assert troubles.take() == ([], [])
        troubles.end(PAUSED)
    clock.sleep(100)
    assert troubles.take(finish=True) == ([], []) and troubles.lasting() == []


def test_a_long_pause_is_told_as_it_lasts_and_when_it_is_over(clock: HandClock, troubles: Troubles) -> None:
    start = int(clock.wall() * 1000)
    troubles.begin(PAUSED)
    clock.sleep(1.5)
    (opened,), none = troubles.take()
    assert (opened.from_ms, opened.to_ms, opened.paths, none) == (start, None, ("main/a", "main/b"), [])
    clock.sleep(2)
    assert troubles.take() == ([], []) and troubles.lasting()[0].seconds == 3.5
    troubles.end(PAUSED)
    clock.sleep(5)
    _, (ended,) = troubles.take()
    assert (ended.from_ms, ended.to_ms, ended.seconds) == (start, start + 3500, 3.5)
    assert ended.cause == "paused" and "nothing is lost" in ended.detail and ended.lossless
    assert troubles.lasting() == []


def test_a_long_pause_that_was_over_before_anybody_looked(clock: HandClock, troubles: Troubles) -> None:
    troubles.begin(PAUSED)
    clock.sleep(1.5)
    troubles.end(PAUSED)
    clock.sleep(5)
    (opened,), (ended,) = troubles.take()
    assert (opened.to_ms, ended.seconds) == (None, 1.5)


def test_it_lasts_until_the_last_reader_goes_on(clock: HandClock, troubles: Troubles) -> None:
    troubles.begin(PAUSED)
    clock.sleep(1)
    troubles.begin(PAUSED)
    clock.sleep(1)
    troubles.end(PAUSED)
    clock.sleep(9)
    assert troubles.take()[1] == []
    troubles.end(PAUSED)
    assert troubles.take(finish=True)[1][0].seconds == 11


def test_what_returns_at_once_is_the_same_episode(clock: HandClock, troubles: Troubles) -> None:
    for _ in range(5):
        troubles.begin(UNWRITABLE, "disk full")
        clock.sleep(2)
        troubles.end(UNWRITABLE)
        clock.sleep(3)
        assert troubles.take()[1] == []
    clock.sleep(3)
    assert [gap.seconds for gap in troubles.take()[1]] == [22]


def test_shed_events_are_one_entry_per_sink_and_episode(clock: HandClock, troubles: Troubles) -> None:
    for count in (5, 6, 7):
        troubles.add(SHED, count, sink="crm")
        clock.sleep(200)
    troubles.add(SHED, 1, sink="other")
    clock.sleep(299)
    _, (first,) = troubles.take()
    assert (first.sink, first.events, first.seconds) == ("crm", 18, 400)
    assert not first.lossless and first.source == ""
    clock.sleep(1)
    _, (second,) = troubles.take()
    assert (second.sink, second.events, second.seconds) == ("other", 1, 0)


def test_refused_signatures_name_their_paths(troubles: Troubles) -> None:
    for path in ("main/a", "main/b", "main/a"):
        troubles.add(Trouble.SIGNATURE_REFUSED, 1, source="main", paths=[path])
    _, (gap,) = troubles.take(finish=True)
    assert (gap.source, gap.subscription, gap.paths, gap.events) == ("main", "", ("main/a", "main/b"), 3)


@pytest.mark.parametrize(("counts", "events"), [([3], 3), ([3, 4], 7), ([None], None)])
def test_a_spool_set_aside_is_told_at_once(
    troubles: Troubles, counts: list[int | None], events: int | None
) -> None:
    for count in counts:
        troubles.set_aside(count)
    (opened,), (ended,) = troubles.take()
    assert (opened.cause, ended.events, ended.seconds) == ("spool_set_aside", events, 0)


def test_finishing_leaves_what_lasts(clock: HandClock, troubles: Troubles) -> None:
    troubles.begin(UNWRITABLE)
    clock.sleep(2)
    troubles.add(SHED, 1, sink="crm")
    opened, ended = troubles.take(finish=True)
    assert len(opened) == 2 and [gap.cause for gap in ended] == ["shed"]
    assert [gap.cause for gap in troubles.lasting()] == ["spool_unwritable"]


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_is_set_shortens_nothing(clock: HandClock, troubles: Troubles, step: float) -> None:
    troubles.begin(UNWRITABLE)
    clock.sleep(10)
    clock.step(step)
    clock.sleep(10)
    troubles.end(UNWRITABLE)
    _, (gap,) = troubles.take(finish=True)
    assert gap.seconds == 20 and gap.to_ms == int(clock.wall() * 1000)
    assert gap.to_ms - gap.from_ms >= 20_000


def test_a_long_story_is_cut_short(troubles: Troubles) -> None:
    troubles.begin(UNWRITABLE, "x" * 5000)
    assert len(troubles.take()[0][0].detail) == 200
