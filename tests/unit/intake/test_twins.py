"""Whether paths carry the same: judged some time after the first copy came."""

from __future__ import annotations

import pytest

from zoomrelay.intake.twins import DEAF_MISSES, GRACE_SECONDS, Twins

ONE, TWO, THREE = 1, 2, 4


class House:
    def __init__(self, *paths: int) -> None:
        self.brought: dict[bytes, int] = {}
        self.twins = Twins(lambda digest: self.brought.get(digest, 0))
        self.now = 0.0
        for path in paths:
            self.twins.accepted(path, self.now)
        self.now = 10.0

    def event(self, paths: int, name: str = "meeting.started", *, every: float = 1.0) -> None:
        digest = len(self.brought).to_bytes(16, "big")
        self.brought[digest] = paths
        self.twins.first(digest, name, self.now)
        self.now += every
        self.twins.judge(self.now)

    def grace(self) -> None:
        self.now += GRACE_SECONDS
        self.twins.judge(self.now)


def test_a_path_that_misses_what_its_twin_brings_is_deaf_within_a_minute() -> None:
    house = House(ONE, TWO)
    began = house.now
    while not house.twins.is_deaf(TWO):
        assert house.now - began < 60
        house.event(ONE, every=10.0)
    assert not house.twins.is_deaf(ONE)
    assert house.twins.missed == {TWO: DEAF_MISSES}
    house.event(ONE | TWO)
    house.grace()
    assert not house.twins.is_deaf(TWO)


def test_nothing_is_held_against_a_path_that_was_not_listening() -> None:
    house = House(ONE)
    for _ in range(10):
        house.event(ONE)
    house.twins.accepted(TWO, house.now)
    house.event(ONE)  # just after its acceptance
    house.grace()
    assert not house.twins.missed and house.twins.merge_ratio is None
    house.now += 10
    house.event(ONE)
    house.twins.lost(TWO)
    house.grace()
    assert not house.twins.missed and not house.twins.is_deaf(TWO)


def test_a_late_copy_within_the_time_of_grace_is_no_miss() -> None:
    house = House(ONE, TWO)
    house.event(ONE, every=GRACE_SECONDS - 1)
    house.brought[(0).to_bytes(16, "big")] |= TWO
    house.grace()
    assert not house.twins.missed and house.twins.merge_ratio == 1.0


def test_a_reconnect_begins_anew() -> None:
    house = House(ONE, TWO)
    for _ in range(DEAF_MISSES):
        house.event(ONE)
    house.grace()
    assert house.twins.is_deaf(TWO)
    house.twins.lost(TWO)
    assert not house.twins.is_deaf(TWO)
    house.twins.accepted(TWO, house.now)
    assert not house.twins.is_deaf(TWO)


@pytest.mark.parametrize("third", [0, THREE])
def test_paths_that_carry_different_events_are_told_once(third: int) -> None:
    house = House(ONE, TWO, *([THREE] if third else []))
    told = 0
    for _ in range(100):
        house.event(ONE | third, "meeting.started")
        house.event(TWO | third, "phone.callee_ended")
        told += house.twins.begins_to_differ()
    house.grace()
    assert told == 1
    assert house.twins.only_by(ONE) == ([] if third else ["meeting.started"])
    assert house.twins.only_by(TWO) == ([] if third else ["phone.callee_ended"])
    for _ in range(2000):
        house.event(ONE | TWO | third)
        told += house.twins.begins_to_differ()
    assert told == 1 and (house.twins.merge_ratio or 0) > 0.8


def test_a_deaf_path_is_not_said_to_differ() -> None:
    house = House(ONE, TWO)
    for _ in range(200):
        house.event(ONE)
        assert not house.twins.begins_to_differ()
    assert house.twins.is_deaf(TWO)


def test_a_flood_is_judged_in_part() -> None:
    house = House(ONE, TWO)
    for _ in range(60_000):
        house.event(ONE | TWO, every=0.0)
    house.grace()
    assert house.twins.merge_ratio == 1.0 and not house.twins.missed
