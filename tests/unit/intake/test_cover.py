"""Which gaps a twin really covered."""

from __future__ import annotations

from random import Random

import pytest

from zoomrelay.intake.cover import corrected
from zoomrelay.intake.gaps import Gap


def gap(subscription: str, start: int, end: int | None, *covered_by: str, source: str = "main") -> Gap:
    return Gap(source, subscription, start, end, 1.0, "closed", covered_by=covered_by)


@pytest.mark.parametrize(
    ("start", "end", "covers"),
    [(0, 9, True), (0, 10, True), (0, 11, False), (12, 13, False), (20, 30, True), (19, None, False)],
)
def test_a_twin_that_missed_a_part_does_not_cover(start: int, end: int | None, covers: bool) -> None:
    first, _ = corrected([gap("a", 10, 20, "b"), gap("b", start, end)])
    assert first.covered_by == (("b",) if covers else ())


def test_other_twins_still_cover() -> None:
    first, _ = corrected([gap("a", 10, 20, "b", "c"), gap("b", 15, 16)])
    assert first.covered_by == ("c",)


def test_a_namesake_of_another_source_is_no_twin() -> None:
    first, _ = corrected([gap("a", 10, 20, "b"), gap("b", 15, 16, source="other")])
    assert first.covered_by == ("b",)


def test_a_gap_that_lasts() -> None:
    assert corrected([gap("a", 10, None, "b"), gap("b", 5, 6)])[0].covered_by == ("b",)
    assert corrected([gap("a", 10, None, "b"), gap("b", 500, 600)])[0].covered_by == ()


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_a_plain_search_finds(seed: int) -> None:
    random = Random(seed)
    starts = [random.randrange(200) for _ in range(40)]
    gaps = [gap(random.choice("ab"), start, start + random.randrange(1, 12), "c") for start in starts]
    gaps += [gap("c", start, start + random.randrange(1, 9)) for start in random.sample(range(200), 6)]
    for one in corrected(gaps):
        missed = any(
            other.subscription == "c"
            and other.from_ms < (one.to_ms or 0)
            and (other.to_ms or 0) > one.from_ms
            for other in gaps
        )
        assert one.subscription == "c" or one.covered_by == (() if missed else ("c",))
