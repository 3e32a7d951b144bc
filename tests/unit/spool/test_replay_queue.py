"""What one replay says of how far it is."""

from __future__ import annotations

import msgspec

from tests.unit.delivery.fakes import event
from zoomrelay.spool.base import Choice, Item, Settlement
from zoomrelay.spool.replay import ReplayQueue


def items(*times: int, start: int = 1) -> list[Item]:
    """Received at these times, in milliseconds."""
    events = [msgspec.structs.replace(event(start), received_ms=ms) for ms in times]
    return [Item(token, event) for token, event in enumerate(events, start)]


def deliver(queue: ReplayQueue, count: int) -> None:
    queue.settle(Settlement(delivered=[item.token for item in queue.lend(0.0, count)]))


def reached(queue: ReplayQueue) -> int:
    return queue.progress().reached_ms


def test_nothing_that_is_left_was_received_before_what_it_has_reached() -> None:
    queue = ReplayQueue("crm", Choice(), 0, 4)
    queue.add(items(1000, 1005, 1003, 1009), 4, 0)
    deliver(queue, 1)
    assert reached(queue) == 1003
    lent = queue.lend(0.0, 2)
    assert reached(queue) == 1003
    queue.settle(Settlement(delivered=[lent[1].token]))
    assert reached(queue) == 1005
    queue.settle(Settlement(delivered=[lent[0].token]))
    assert reached(queue) == 1009
    deliver(queue, 1)
    assert (reached(queue), queue.ended) == (1009, True)


def test_what_was_not_read_yet_may_be_as_old_as_what_was_read_last() -> None:
    queue = ReplayQueue("crm", Choice(), 0, 4)
    queue.add(items(1000, 1005), 2, 0)
    deliver(queue, 2)
    assert reached(queue) == 1000
    queue.add(items(1004, 1006, start=3), 4, 0)
    assert reached(queue) == 1004
    deliver(queue, 2)
    assert (reached(queue), queue.ended) == (1006, True)


def test_it_goes_on_no_earlier_than_it_was_to_begin() -> None:
    queue = ReplayQueue("crm", Choice(since_ms=1002), 0, 3)
    assert reached(queue) == 1002
    queue.add(items(1000, 1005), 2, 0)
    deliver(queue, 1)
    assert reached(queue) == 1002
