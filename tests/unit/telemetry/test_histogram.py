"""The histogram of batches says what the client library's own would have said."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from zoomrelay.telemetry.histogram import BatchHistogram

BOUNDS = (0.001, 0.05, 1, 60, 86400)
BATCHES = st.lists(st.lists(st.integers(0, 100_000_000) | st.sampled_from([0, 1, 50, 51, 1000, 86_400_000])))


@settings(max_examples=50)
@given(BATCHES)
def test_it_exports_what_the_library_exports(batches: list[list[int]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = BatchHistogram("lag_seconds", "How late.", "source", BOUNDS)
    ours.register(one)
    other = Histogram("lag_seconds", "How late.", ("source",), registry=theirs, buckets=BOUNDS)
    ours_main, theirs_main = one.of("main"), other.labels("main")
    for batch in batches:
        ours_main.add_all(batch)
        for value_ms in batch:
            theirs_main.observe(value_ms / 1000)
    assert _figures(ours) == _figures(theirs)


def _figures(registry: CollectorRegistry) -> list[tuple[str, dict[str, str], float]]:
    return [
        (sample.name, sample.labels, round(sample.value, 3))
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]


def test_adding_one_by_one_is_the_same() -> None:
    one = BatchHistogram("lag_seconds", "How late.", "source", BOUNDS)
    one.of("a").add_all([3, 3, 3, 70])
    one.of("b").add(3, times=3)
    one.of("b").add(70)
    assert one.of("a").counts == one.of("b").counts == [0, 3, 1, 0, 0, 0]
    assert one.of("a").sum_ms == one.of("b").sum_ms == 79


def test_what_is_removed_is_gone() -> None:
    registry = CollectorRegistry()
    one = BatchHistogram("lag_seconds", "How late.", "source", BOUNDS)
    registry.register(one)
    one.of("main").add(1)
    assert b'source="main"' in generate_latest(registry)
    one.remove("main")
    one.remove("never")
    assert b'source="main"' not in generate_latest(registry)
