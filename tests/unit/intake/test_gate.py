"""The bounded waiting room."""

from __future__ import annotations

from tests.unit.delivery.fakes import event
from zoomrelay.intake.gate import Gate
from zoomrelay.spool.base import Quarantined


def frame(size: int, received_ms: int = 5) -> Quarantined:
    return Quarantined("main", "sub", received_ms, b"x" * size, "no event")


def test_it_is_full_at_so_many_events() -> None:
    gate = Gate(max_events=3, max_bytes=10**9)
    gate.push([event(1)])
    gate.push_quarantined(frame(1))
    gate.push([event(2)])
    assert not gate.full
    gate.push([event(3)])
    assert gate.full and gate.events == 4


def test_it_is_full_at_so_many_frames() -> None:
    gate = Gate(max_events=2, max_bytes=10**9)
    gate.push_quarantined(frame(1))
    assert not gate.full
    gate.push_quarantined(frame(1))
    assert gate.full


def test_it_is_full_at_so_many_bytes() -> None:
    size = len(event(1).content)
    gate = Gate(max_events=100, max_bytes=2 * size + 1)
    gate.push([event(1)])
    gate.push([event(2)])
    assert not gate.full and gate.bytes == 2 * size
    gate.push_quarantined(frame(1))
    assert gate.full


def test_what_is_taken_makes_room_and_counts_until_it_is_durable() -> None:
    gate = Gate(max_events=2, max_bytes=10**9)
    gate.push([event(1)])
    gate.push([event(2)])
    batch = gate.take()
    assert [e.event_ts for e in batch.events] == [1, 2] and not gate.full
    gate.push([event(3)])
    assert gate.events == 3
    gate.done()
    assert not gate.full and gate.events == 1 and gate.bytes == len(event(3).content)
    gate.take()
    gate.done()
    assert (gate.events, gate.bytes) == (0, 0)
    assert not gate.take()


def test_nothing_is_turned_away() -> None:
    gate = Gate(max_events=1, max_bytes=1)
    for number in range(100):
        gate.push([event(number)])
    assert len(gate.take().events) == 100
