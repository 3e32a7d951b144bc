"""The memory of identities."""

from __future__ import annotations

from zoomrelay.intake.merge import GENERATION_SECONDS, TIMELESS_SECONDS, Identities

ONE, TWO = 1, 2


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_the_first_copy_wins_whichever_path_brings_it() -> None:
    known = Identities(0.0)
    assert known.is_first(digest(1), ONE)
    assert not known.is_first(digest(1), TWO)
    assert not known.is_first(digest(1), ONE)
    assert known.is_first(digest(2), TWO)
    assert (known.paths(digest(1)), known.paths(digest(2)), known.paths(digest(3))) == (ONE | TWO, TWO, 0)


def test_an_identity_is_known_for_at_least_two_hours() -> None:
    known = Identities(0.0)
    known.is_first(digest(1), ONE)
    assert not known.age(GENERATION_SECONDS - 1)
    known.is_first(digest(2), ONE)
    assert known.age(GENERATION_SECONDS)
    assert known.window_seconds(GENERATION_SECONDS) == GENERATION_SECONDS
    assert not known.is_first(digest(1), TWO) and known.paths(digest(1)) == ONE | TWO
    assert known.age(2 * GENERATION_SECONDS)
    assert known.is_first(digest(1), ONE) and known.is_first(digest(2), ONE)


def test_the_memory_is_bounded() -> None:
    known = Identities(0.0, generation_ids=1000)
    for number in range(100_000):
        known.age(float(number))
        assert known.is_first(digest(number), ONE)
        assert len(known) <= 2000
    assert not known.is_first(digest(99_001), TWO)
    assert known.window_seconds(99_999.0) >= 1000


def test_without_a_time_it_is_known_for_a_minute() -> None:
    known = Identities(0.0)
    assert known.is_first_timeless(digest(1), ONE, 5.0)
    assert not known.is_first_timeless(digest(1), TWO, 5.0 + TIMELESS_SECONDS - 0.1)
    assert known.paths(digest(1)) == ONE | TWO
    assert known.is_first_timeless(digest(1), TWO, 5.0 + TIMELESS_SECONDS)
    known.age(1000.0)
    assert len(known) == 0


def test_what_was_remembered_before_a_restart() -> None:
    known = Identities(0.0)
    known.restore(7, [digest(1)])
    known.restore(7, [digest(2)])
    known.restore(8, [digest(3)])
    assert known.generation == 8 and len(known) == 3
    assert not any(known.is_first(digest(number), ONE) for number in (1, 2, 3))
    known.age(GENERATION_SECONDS)
    assert known.is_first(digest(1), ONE) and not known.is_first(digest(3), ONE)
    later = Identities(0.0)
    later.restore(3, [digest(1)])
    later.restore(5, [digest(2)])
    assert later.is_first(digest(1), ONE) and not later.is_first(digest(2), ONE)
