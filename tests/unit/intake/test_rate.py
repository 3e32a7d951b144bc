"""The weighted mean of events per second."""

from __future__ import annotations

from random import Random

import pytest

from zoomrelay.intake.rate import MEAN_SECONDS, Rate


def test_nothing_is_known_before_the_first_note() -> None:
    rate = Rate()
    assert rate.per_second is None
    rate.note(7, 0.0)
    rate.note(7, 0.5)
    assert rate.per_second is None
    rate.note(7, 0.5)
    assert rate.per_second == pytest.approx(14, rel=0.01)


def test_in_the_beginning_it_is_the_plain_mean() -> None:
    rate = Rate()
    rate.note(10, 1.0)
    assert rate.per_second == pytest.approx(10)
    rate.note(0, 1.0)
    assert rate.per_second == pytest.approx(5, rel=0.01)


def test_what_is_long_ago_weighs_less() -> None:
    rate = Rate()
    rate.note(6000, 600.0)
    rate.note(0, MEAN_SECONDS)
    assert rate.per_second == pytest.approx(10 / 2.718, rel=0.01)


def test_what_was_known_before_fades_like_the_rest() -> None:
    rate = Rate(10.0)
    assert rate.per_second == 10
    rate.note(0, MEAN_SECONDS)
    assert rate.per_second == pytest.approx(10 / 2.718, rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_how_often_it_is_noted_does_not_matter(seed: int) -> None:
    random, often, once = Random(seed), Rate(3.0), Rate(3.0)
    steps = [random.uniform(0.01, 5) for _ in range(50)]
    for seconds in steps:
        often.note(0, seconds)
    once.note(0, sum(steps))
    assert often.per_second == pytest.approx(once.per_second)


def test_a_burst_stays_between_what_was_and_what_is() -> None:
    rate = Rate(1.0)
    rate.note(1000, 1.0)
    assert rate.per_second is not None and 1 < rate.per_second < 1000
