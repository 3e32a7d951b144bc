"""Queues of events that stay in order among themselves."""

from __future__ import annotations

import pytest

from tests.unit.delivery.fakes import event
from zoomrelay.delivery.batching import Batching
from zoomrelay.delivery.lanes import Lane, Lanes, Ordering
from zoomrelay.spool.base import Item


def item(number: int, key: str = "", **more: object) -> Item:
    return Item(number, event(abs(number), key), **more)  # type: ignore[arg-type]


def lanes(ordering: Ordering, *items: Item) -> Lanes:
    found = Lanes(ordering)
    found.push(items)
    return found


def pop(from_: Lanes, now: float = 0.0) -> Lane:
    lane = from_.pop(now)
    assert lane is not None
    return lane


def test_a_lane_hands_out_its_head_only() -> None:
    ours = lanes("key", item(1, "a"), item(2, "a"), item(3, "b"))
    first, second = pop(ours), pop(ours)
    assert (first.head.token, second.head.token) == (1, 3)
    assert ours.pop(0) is None
    ours.done(first)
    assert pop(ours).head.token == 2
    assert len(ours) == 2


def test_events_without_a_key_have_a_lane_each() -> None:
    ours = lanes("key", item(1), item(2), item(3))
    assert [pop(ours).head.token for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(("ordering", "at_once"), [("strict", 1), ("key", 2), ("none", 4)])
def test_the_three_orderings(ordering: Ordering, at_once: int) -> None:
    ours = lanes(ordering, item(1, "a"), item(2, "b"), item(3, "a"), item(4, "b"))
    found = 0
    while ours.pop(0) is not None:
        found += 1
    assert found == at_once


@pytest.mark.parametrize("ordering", ["strict", "key", "none"])
def test_what_is_redriven_holds_up_nobody(ordering: Ordering) -> None:
    ours = lanes(ordering, item(-7, "a", redriven=True), item(1, "a"))
    assert [pop(ours).head.token for _ in range(2)] == [-7, 1]


def test_a_failed_head_waits_and_others_go_on() -> None:
    ours = lanes("key", item(1, "a"), item(2, "a"), item(3, "b"))
    ours.retry(pop(ours), at=5.0)
    assert pop(ours, 1.0).head.token == 3
    assert ours.pop(4.9) is None and ours.next_due() == 5.0
    assert pop(ours, 5.0).head.token == 1
    assert ours.next_due() is None


def test_waiting_lanes_come_in_the_order_in_which_they_are_due() -> None:
    ours = lanes("none", item(1), item(2), item(3))
    for at in (3.0, 1.0, 2.0):
        ours.retry(pop(ours), at=at)
    assert [pop(ours, 3.0).head.token for _ in range(3)] == [2, 3, 1]


def test_a_new_event_joins_a_lane_that_is_being_served() -> None:
    ours = lanes("key", item(1, "a"))
    lane = pop(ours)
    ours.push([item(2, "a")])
    assert ours.pop(0) is None
    ours.done(lane)
    assert pop(ours).head.token == 2


def test_a_lane_that_is_taken_is_gone() -> None:
    ours = lanes("key", item(1, "a"), item(2, "a"), item(3, "b"))
    assert [taken.token for taken in ours.take(pop(ours))] == [1, 2]
    assert len(ours) == 1
    ours.push([item(4, "a")])
    assert [pop(ours).head.token for _ in range(2)] == [3, 4]


def test_tails_step_aside_where_the_head_is_stuck() -> None:
    ours = lanes("key", item(1, "a"), item(2, "a"), item(3, "a"), item(4, "b"), item(5, "b"))
    first, second = pop(ours), pop(ours)
    first.try_(1.0, 0.0)
    second.try_(3.0, 0.0)
    assert [(name, [i.token for i in tail]) for name, tail in ours.take_tails(2.0)] == [("a", [2, 3])]
    assert len(ours) == 3
    ours.done(first)
    assert ours.pop(9.0) is None
    ours.done(second)
    assert pop(ours).head.token == 5


def test_in_strict_order_nothing_steps_aside() -> None:
    ours = lanes("strict", item(1, "a"), item(2, "a"))
    pop(ours).try_(1.0, 0.0)
    assert ours.take_tails(9.0) == []


def test_a_head_brings_its_history() -> None:
    ours = lanes("key", item(1, "a", attempts=6, waited_seconds=40.0), item(2, "a"))
    lane = pop(ours)
    assert lane.attempts == 6 and lane.was_parked
    lane.try_(now=100.0, healthy_seconds=10.0)
    lane.try_(now=103.0, healthy_seconds=13.0)
    assert lane.attempts == 8 and lane.tried_at == 100.0
    assert lane.waited_seconds_at(14.0) == 44.0
    ours.done(lane)
    assert (lane.attempts, lane.was_parked, lane.tried_at) == (0, False, None)


def test_late_ones_are_asked_for_once_and_found_by_no_comparison() -> None:
    class Unlike(Item):
        def __eq__(self, other: object) -> bool:
            raise AssertionError

    ours = Lanes("strict", Batching(9, 2**30, 0.0))
    ours.push([Unlike(number, event(number)) for number in range(9)])
    (lane,) = ours.pop_batch(1.0)
    asked: list[int] = []

    def is_late(item: Item) -> bool:
        asked.append(item.token)
        return item.token % 3 == 0

    assert [item.token for item, _, _ in ours.drop_late(lane, is_late)] == [0, 3, 6]
    assert asked == list(range(9))
    assert [item.token for item in lane.items] == [1, 2, 4, 5, 7, 8]
    assert (lane.taken, len(ours)) == (6, 6)
