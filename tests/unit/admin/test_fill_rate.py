"""How long until the spool is full."""

from __future__ import annotations

import pytest

from zoomrelay.admin.fill_rate import WINDOW_SECONDS, FillRate


def feed(rate: FillRate, start: float, seconds: int, per_second: int, level: int = 0) -> float | None:
    answer = None
    for second in range(seconds + 1):
        answer = rate.seconds_until_full(start + second, level + second * per_second, 1_000_000)
    return answer


def test_steady_growth() -> None:
    assert feed(FillRate(), 0, 100, 1000) == pytest.approx(900)


def test_nothing_is_said_in_the_first_half_minute() -> None:
    assert feed(FillRate(), 0, 29, 1000) is None


def test_no_growth_and_shrinking() -> None:
    assert feed(FillRate(), 0, 100, 0, level=5) is None
    assert feed(FillRate(), 0, 100, -1, level=500) is None


def test_full_is_zero_from_the_start() -> None:
    assert feed(FillRate(), 0, 0, 0, level=995_000) == 0.0


def test_old_growth_is_forgotten() -> None:
    rate = FillRate()
    feed(rate, 0, 100, 1000)
    assert feed(rate, 100, int(WINDOW_SECONDS) + 10, 0, level=100_000) is None


def test_being_asked_seldom_or_often_changes_nothing() -> None:
    seldom, often = FillRate(), FillRate()
    for tenth in range(3001):
        answer = often.seconds_until_full(tenth / 10, tenth * 100, 1_000_000)
    for second in (0, 100, 200, 300):
        other = seldom.seconds_until_full(second, second * 1000, 1_000_000)
    assert answer == pytest.approx(700) and other == pytest.approx(700)
