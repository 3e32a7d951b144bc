"""How many strangers are heard."""

from __future__ import annotations

from zoomrelay.webhook.budget import Budget


def test_so_many_at_once_and_then_so_many_a_second() -> None:
    budget = Budget(10, 3, now=100.0)
    assert [budget.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert 0 < budget.seconds_until_next() <= 0.1
    assert [budget.take(100.15), budget.take(100.15)] == [True, False]
    assert sum(budget.take(1000.0) for _ in range(10)) == 3  # no more are saved up


def test_friends_do_not_count() -> None:
    budget = Budget(1, 2, now=0.0)
    for _ in range(100):
        assert budget.take(0.0)
        budget.give_back()
    budget.give_back()
    assert [budget.take(0.0) for _ in range(3)] == [True, True, False]


def test_over_a_long_flood_the_rate_holds() -> None:
    budget = Budget(50, 100, now=0.0)
    heard = sum(budget.take(tick / 1000) for tick in range(10_000))
    assert 590 <= heard <= 600
