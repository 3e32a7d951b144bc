"""What a failure means, for the event and for the sink."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.unit.delivery.fakes import event
from zoomrelay.delivery.health import Health
from zoomrelay.delivery.lanes import Lane, Lanes
from zoomrelay.delivery.retry import Dead, Retry, decide
from zoomrelay.errors import SinkError, SinkRejected, SinkUnavailable
from zoomrelay.spool.base import Item

REFUSED = SinkRejected("HTTP 400", status=400)
DOWN = SinkUnavailable("HTTP 503", status=503)


def a_health(*, patience: int = 8) -> Health:
    return Health(Random(1), patience=patience)


def a_lane(attempts: int = 0, *, waited_seconds: float = 0.0) -> Lane:
    lanes = Lanes("key")
    lanes.push([Item(1, event(1, "a"), attempts, waited_seconds)])
    lane = lanes.pop(0)
    assert lane is not None
    return lane


def attempt(lane: Lane, health: Health, error: SinkError, now: float) -> Retry | Dead:
    lane.try_(now, health.healthy_seconds(now))
    health.failed(error, now, started=now, first=not lane.failed)
    lane.fail(health.successes)
    return decide(lane, error, health, 100.0, now)


# --- the event --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "taken_meanwhile", "ends_at_attempt"),
    [
        (REFUSED, True, 3),
        (REFUSED, False, None),
        (SinkRejected("HTTP 422", status=422, final=True), True, 1),
        (SinkRejected("HTTP 422", status=422, final=True), False, 1),
        (DOWN, True, None),
        (DOWN, False, None),
        (SinkUnavailable("timeout"), True, None),
    ],
)
def test_who_dies_when(error: SinkError, taken_meanwhile: bool, ends_at_attempt: int | None) -> None:
    health, lane, ended = a_health(), a_lane(), None
    for tries in range(1, 9):
        if isinstance(attempt(lane, health, error, tries * 0.01), Dead):
            ended = tries
            break
        if taken_meanwhile:
            health.succeeded(tries * 0.01)
    assert ended == ends_at_attempt


def test_what_was_taken_before_the_first_refusal_proves_nothing() -> None:
    health, lane = a_health(), a_lane()
    health.succeeded(0.0)
    for tries in range(6):
        assert isinstance(attempt(lane, health, REFUSED, tries), Retry)
    health.succeeded(7.0)
    assert attempt(lane, health, REFUSED, 8.0) == Dead("HTTP 400")


def test_delays_grow_with_full_jitter() -> None:
    means = []
    for attempts in range(0, 24, 3):
        delays = []
        for seed in range(300):
            health, lane = Health(Random(seed), patience=8), a_lane(attempts)
            decision = attempt(lane, health, DOWN, 0.0)
            assert isinstance(decision, Retry)
            delays.append(decision.after_seconds)
        bound = min(60.0, 0.05 * 1.5**attempts)
        assert bound / 10 <= min(delays) * 1.000001 < bound / 4 and 0.8 * bound < max(delays) <= bound
        means.append(sum(delays) / len(delays))
    assert means == sorted(means)


@pytest.mark.parametrize(("asked", "at_least"), [(30.0, 30.0), (1e9, 3600.0), (0.0, 0.0), (-5.0, 0.0)])
def test_retry_after_is_obeyed_within_reason(asked: float, at_least: float) -> None:
    decision = attempt(a_lane(), a_health(), SinkUnavailable("HTTP 503", retry_after=asked, status=503), 0.0)
    assert isinstance(decision, Retry)
    assert at_least <= decision.after_seconds <= at_least + 0.05


def test_giving_up_takes_its_time_over_all_readings() -> None:
    health = a_health()
    lane = a_lane(20, waited_seconds=90.0)
    assert isinstance(attempt(lane, health, DOWN, 1000.0), Retry)
    health.succeeded(1001.0)
    assert isinstance(attempt(lane, health, DOWN, 1009.9), Retry)
    health.succeeded(1009.9)
    assert attempt(lane, health, DOWN, 1010.0) == Dead("gave up: HTTP 503")


def test_the_clock_stands_while_the_sink_is_down() -> None:
    health, lane = a_health(patience=1), a_lane()
    assert isinstance(attempt(lane, health, DOWN, 50.0), Retry)
    assert isinstance(attempt(lane, health, DOWN, 5_000.0), Retry)
    health.succeeded(10_000.0)
    assert isinstance(attempt(lane, health, DOWN, 10_099.0), Retry)
    health.succeeded(10_099.0)
    assert attempt(lane, health, DOWN, 10_100.1) == Dead("gave up: HTTP 503")


def test_while_the_sink_is_paused_its_events_need_no_delay_of_their_own() -> None:
    health, lane = a_health(patience=1), a_lane(30)
    assert attempt(lane, health, DOWN, 0.0) == Retry(0.0)
    assert health.paused_until > 0


# --- the sink ---------------------------------------------------------------------------------------


def fail(health: Health, times: int, error: SinkError, now: float = 0.0, *, first: bool = True) -> list[bool]:
    return [health.failed(error, now, started=now, first=first) for _ in range(times)]


def test_a_few_failures_are_nothing() -> None:
    health = a_health()
    assert fail(health, 7, DOWN) == [False] * 7
    assert health.ok and health.paused_until == 0
    health.succeeded(0.1)
    assert fail(health, 7, DOWN) == [False] * 7


def test_many_in_a_row_turn_it_once() -> None:
    health = a_health()
    assert fail(health, 10, DOWN) == [False] * 7 + [True, False, False]
    assert not health.ok and not health.misconfigured and health.last_error == "HTTP 503"


def test_three_over_a_second_turn_it() -> None:
    health = a_health()
    assert fail(health, 2, DOWN, 0.0) == [False, False]
    assert fail(health, 1, DOWN, 1.0) == [True]


def test_a_stream_turns_with_the_first() -> None:
    health = a_health(patience=1)
    assert fail(health, 1, DOWN) == [True]
    assert 0 < health.paused_until <= 0.5


def test_one_event_slows_down_nobody_else() -> None:
    health = a_health()
    fail(health, 1, REFUSED)
    fail(health, 20, REFUSED, 2.0, first=False)
    assert not health.ok and health.misconfigured
    assert health.paused_until == 0
    fail(health, 1, REFUSED, 3.0)
    assert health.paused_until > 3.0


def test_calls_that_were_under_way_do_not_lengthen_the_pause() -> None:
    health = a_health()
    fail(health, 8, DOWN, 1.0)
    paused_until = health.paused_until
    for _ in range(15):
        health.failed(DOWN, 1.2, started=0.5, first=True)
    assert health.paused_until == paused_until <= 1.5


@pytest.mark.parametrize(("error", "cap"), [(DOWN, 15.0), (REFUSED, 60.0)])
def test_pauses_grow_to_a_cap(error: SinkError, cap: float) -> None:
    health, now, pauses = a_health(patience=1), 0.0, []
    for _ in range(200):
        now += 100
        fail(health, 1, error, now)
        pauses.append(health.paused_until - now)
    assert max(pauses[:3]) <= 2.0
    assert cap * 0.9 < max(pauses) <= cap


@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_peace_gets_it_from_all_events_and_then_one_probe(status: int) -> None:
    health = a_health()
    fail(health, 1, SinkUnavailable("HTTP 5xx", retry_after=30, status=status), 1.0)
    assert (health.ok, health.paused_until, health.probing) == (True, 31.0, True)
    health.succeeded(2.0)  # was under way
    assert (health.paused_until, health.probing) == (31.0, True)
    health.succeeded(31.5)
    assert not health.probing


def test_other_answers_ask_for_their_event_only() -> None:
    health = a_health()
    fail(health, 1, SinkUnavailable("HTTP 502", retry_after=30, status=502))
    assert (health.ok, health.paused_until, health.probing) == (True, 0.0, False)
    health = a_health(patience=1)
    fail(health, 1, SinkUnavailable("HTTP 502", retry_after=30, status=502))
    assert health.paused_until == 30.0


def test_a_recovery_does_not_end_the_peace_that_was_asked_for() -> None:
    health = a_health(patience=1)
    fail(health, 1, SinkUnavailable("HTTP 503", retry_after=30, status=503))
    health.succeeded(1.0)
    assert (health.ok, health.paused_until, health.probing) == (True, 30.0, True)


def test_recovery_says_how_long_it_took() -> None:
    health = a_health()
    fail(health, 4, DOWN, 10.0)
    fail(health, 4, DOWN, 12.0)
    assert health.succeeded(40.0) == 30.0
    assert (health.ok, health.last_error, health.paused_until) == (True, "", 0.0)
    assert health.succeeded(41.0) is None
    assert fail(health, 7, DOWN, 50.0) == [False] * 7


def test_an_expected_refusal_proves_that_the_sink_is_there_and_no_more() -> None:
    health = a_health(patience=1)
    fail(health, 1, DOWN, 1.0)
    assert health.answered(3.0) == 2.0
    assert health.ok and health.successes == 0


def test_looking_misconfigured_is_news_of_its_own() -> None:
    health = a_health(patience=1)
    assert fail(health, 2, DOWN) == [True, False]
    assert fail(health, 2, REFUSED) == [True, False]
    assert health.misconfigured
    assert fail(health, 2, DOWN) == [False, False]
    health.succeeded(1.0)
    assert not health.misconfigured


@pytest.mark.parametrize("turn", [lambda h: None, lambda h: fail(h, 1, DOWN, 10.0)])
def test_healthy_time(turn: Callable[[Health], object]) -> None:
    health = a_health(patience=1)
    before = health.healthy_seconds(5.0)
    turn(health)
    expected = 5.0 if not health.ok else 15.0
    assert health.healthy_seconds(20.0) - before == expected
    health.succeeded(20.0)
    assert health.healthy_seconds(30.0) - before == expected + 10.0
