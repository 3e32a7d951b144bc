from itertools import pairwise

import pytest

from zoomrelay.simulator.disorder import Disorder
from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.wire import Frame


def _frames(count: int) -> list[Frame]:
    return [Frame(b"%d" % number, b"%d" % number) for number in range(1, count + 1)]


def _names(frames: object) -> list[str]:
    return [frame.content.decode() for frame in frames]  # type: ignore[attr-defined]


def test_without_faults_frames_pass_untouched() -> None:
    frames = _frames(5)
    assert Disorder(Faults()).apply(frames, 0) is frames


def test_duplicates() -> None:
    assert _names(Disorder(Faults(duplicate_every=2)).apply(_frames(4), 0)) == ["1", "2", "2", "3", "4", "4"]


def test_neighbours_change_places() -> None:
    assert _names(Disorder(Faults(reorder_every=2)).apply(_frames(5), 0)) == ["1", "3", "2", "5", "4"]


def test_a_swap_that_finds_no_neighbour_goes_alone() -> None:
    disorder = Disorder(Faults(reorder_every=2))
    assert _names(disorder.apply(_frames(2), 10)) == ["1"]
    assert disorder.holding == 1
    assert disorder.due(10.5) == []
    assert _names(disorder.due(11)) == ["2"]
    assert disorder.holding == 0


def test_a_swap_is_kept_when_the_fault_ends() -> None:
    faults = Faults(reorder_every=2)
    disorder = Disorder(faults)
    disorder.apply(_frames(2), 0)
    faults.clear()
    assert _names(disorder.apply(_frames(1), 0)) == ["1", "2"]


def test_late_frames_come_in_their_time() -> None:
    disorder = Disorder(Faults(late_every=2, late_seconds=3))
    assert _names(disorder.apply(_frames(4), 100)) == ["1", "3"]
    assert disorder.due(102.9) == []
    assert _names(disorder.due(103)) == ["2", "4"]


def test_counting_goes_on_across_batches() -> None:
    disorder = Disorder(Faults(duplicate_every=3))
    assert len(disorder.apply(_frames(2), 0)) == 2
    assert _names(disorder.apply(_frames(2), 0)) == ["1", "1", "2"]


def test_rubbish_comes_in_between_and_differs() -> None:
    out = list(Disorder(Faults(rubbish_every=1)).apply(_frames(6), 0))
    bad = [frame for frame in out if frame.kind != "event"]
    assert [frame.kind for frame in out[::2]] == ["event"] * 6
    assert all(one.kind != other.kind for one, other in pairwise(bad))


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_all_faults_together_lose_nothing(every: int) -> None:
    faults = Faults(
        duplicate_every=every,
        reorder_every=2,
        late_every=5,
        late_seconds=1,
        fragment_every=3,
        rubbish_every=4,
    )
    disorder = Disorder(faults)
    out = [*disorder.apply(_events(100), 0), *disorder.due(50)]
    assert {frame.content for frame in out if frame.kind == "event"} == {f.content for f in _events(100)}
    assert disorder.holding == 0


def _events(count: int) -> list[Frame]:
    return [Frame(b'{"event":"%d"}' % number, b"") for number in range(count)]
