"""When a sink will have caught up."""

from __future__ import annotations

import math

import pytest

from zoomrelay.admin.drain_rate import DrainRate


def told(*levels: tuple[int, int], every: float = 1.0) -> list[float]:
    """The answers for (pending, ended), one a second."""
    rate = DrainRate()
    return [rate.seconds_until_drained(at * every, *level) for at, level in enumerate(levels)]


def test_without_a_backlog_it_is_0() -> None:
    assert told(*[(0, 0)] * 5) == [0.0] * 5


def test_what_is_just_under_way_is_no_backlog() -> None:
    """At 500 a second some dozens are always pending."""
    answers = told(*[(40 + second % 3, 500 * second) for second in range(60)])
    assert max(answers[1:]) < 0.1


def test_one_event_now_and_then_is_none() -> None:
    assert set(told(*[(second % 3 == 1, second // 3) for second in range(60)])) == {0.0}


def test_a_sink_that_takes_nothing_never_catches_up() -> None:
    answers = told((0, 0), *[(second * 10, 0) for second in range(1, 60)])
    assert answers[:4] == [0.0] * 4 and set(answers[6:]) == {math.inf}


def test_a_backlog_that_shrinks_ends_at_the_rate_at_which_it_shrinks() -> None:
    answers = told(*[(1_000_000 - 2000 * second, 2500 * second) for second in range(100)])
    assert answers[0] == math.inf
    assert answers[50] == pytest.approx(900_000 / 2000)


def test_what_was_before_an_outage_ended_is_soon_forgotten() -> None:
    growing = [(1000 * second, 0) for second in range(60)]
    shrinking = [(60_000 - 1000 * second, 1000 * second) for second in range(1, 50)]
    answers = told(*growing, *shrinking)
    assert answers[59] == math.inf
    assert answers[59 + 25] == pytest.approx(35.0, rel=0.1)


def test_asked_often_it_remembers_little() -> None:
    rate = DrainRate()
    for step in range(10_000):
        rate.seconds_until_drained(step * 0.01, 100_000 - step, step)
    assert len(rate._seen) < 30
