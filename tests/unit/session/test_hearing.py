from __future__ import annotations

import pytest

from zoomrelay.session.hearing import BACKLOG_BYTES, Hearing

SMALL, LARGE = 900, BACKLOG_BYTES


def test_a_read_is_vouched_for_by_the_next() -> None:
    hearing = Hearing(0.0)
    hearing.read(SMALL, 1.0)
    assert hearing.received_until == hearing.whole_until == 0.0
    hearing.read(SMALL, 2.0)
    assert hearing.received_until == hearing.whole_until == 1.0


def test_silence_counts_only_where_the_connection_was_alive_to_its_end() -> None:
    hearing = Hearing(0.0)
    hearing.read(SMALL, 0.5)
    for now in (1.0, 2.0, 3.0):
        hearing.second(now, reading=True)
    assert hearing.received_until == 0.5
    assert hearing.whole_until == 2.0


def test_large_reads_leave_more_behind() -> None:
    hearing = Hearing(0.0)
    for now in (1.0, 2.0, 3.0):
        hearing.read(LARGE, now)
        hearing.second(now, reading=True)
    assert hearing.whole_until <= 1.0
    hearing.read(SMALL, 4.0)
    hearing.read(SMALL, 5.0)
    assert hearing.received_until == hearing.whole_until == 4.0


def test_nothing_is_heard_while_reading_is_paused() -> None:
    hearing = Hearing(0.0)
    for now in (1.0, 2.0, 3.0):
        hearing.second(now, reading=False)
    hearing.second(4.0, reading=True)
    assert hearing.whole_until == 0.0
    hearing.second(5.0, reading=True)
    assert hearing.whole_until == 4.0


def test_what_was_read_after_standing_still_vouches_for_nothing() -> None:
    hearing = Hearing(0.0)
    hearing.read(SMALL, 0.9)
    hearing.second(1.0, reading=True)
    hearing.second(2.0, reading=True)
    # Stood still for a minute; then what had come and the end of the socket are read at once.
    hearing.read(SMALL, 62.0)
    assert hearing.received_until == 0.9
    hearing.second(62.0, reading=True)
    assert hearing.received_until == 0.9
    assert hearing.whole_until == 2.0


def test_what_arrives_during_a_standstill_may_have_come_at_its_beginning() -> None:
    """And nothing comes after it: the socket had died meanwhile."""
    for reads_first in (True, False):
        hearing = Hearing(0.0)
        hearing.read(SMALL, 0.9)
        hearing.second(1.0, reading=True)
        hearing.second(2.0, reading=True)
        if reads_first:
            hearing.read(SMALL, 12.0)
            hearing.second(12.0, reading=True)
        else:
            hearing.second(12.0, reading=True)
            hearing.read(SMALL, 12.0)
        for now in (13.0, 14.0, 15.0):
            hearing.second(now, reading=True)
        assert hearing.received_until == 2.0


@pytest.mark.parametrize("reading", [False, True])
def test_what_was_held_back_follows_later_than_a_small_read(reading: bool) -> None:
    """After a pause as after a standstill: what filled the buffers is read, the other side learns that there
    is room, and only then comes what it had kept."""
    hearing = Hearing(0.0)
    hearing.second(0.5, reading=True)
    hearing.read(SMALL, 0.9)
    for now in (1.5, 2.5, 3.5, 4.5) if not reading else ():
        hearing.second(now, reading=False)
    hearing.read(LARGE, 5.0)
    hearing.read(SMALL, 5.01)
    hearing.read(LARGE, 5.11)
    assert max(hearing.received_until, hearing.whole_until) <= 0.9
    hearing.read(SMALL, 5.12)
    hearing.second(5.5, reading=True)
    hearing.read(SMALL, 6.0)
    assert max(hearing.received_until, hearing.whole_until) <= 0.9
    hearing.second(6.5, reading=True)
    for now in (6.6, 7.0):
        hearing.read(SMALL, now)
    assert hearing.received_until == hearing.whole_until == 6.6
