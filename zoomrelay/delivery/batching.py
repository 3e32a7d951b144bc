"""Which events go into one call. Pure: the time is passed in.

A batch takes runs from the heads of lanes, so that each lane has its events in one batch under way at most,
in order. A batch goes when it is full, or when its oldest event has waited long enough.

When a batch fails it is not known on whose account. So its lanes come back in batches of half that size,
until what is to blame stands alone; a lane is free of this bound when its head has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoomrelay.delivery.lanes import Lane

UNBOUNDED = 2**31


@dataclass(frozen=True, slots=True)
class Batching:
    """Bounds of a batch."""

    events: int = 1
    bytes: int = 1024**2
    """Of content; the first event goes whatever its size is."""
    seconds: float = 0.0
    """The longest that an event waits for others."""


@dataclass(slots=True)
class Batch:
    """What `gather` found."""

    limit: int
    """Events at most; lanes that were in a failed batch lower it."""
    runs: list[tuple[Lane, int]] = field(default_factory=list)
    """Lanes, each with how many events from its head on."""
    events: int = 0
    bytes: int = 0
    due: float = float("inf")
    """When it goes even if it is not full."""
    full: bool = False

    def add(self, lane: Lane, bounds: Batching) -> None:
        """Take what there is room for; `full` where that was not all, or was the last."""
        limit = min(self.limit, lane.most)
        taken = 0
        for item in lane.items:
            size = self.bytes + len(item.event.content)
            if self.events >= limit or (self.events and size > bounds.bytes):
                break
            self.bytes, self.events, taken = size, self.events + 1, taken + 1
        if taken:
            self.limit = limit
            self.runs.append((lane, taken))
            self.due = min(self.due, float("-inf") if lane.doubted else lane.since + bounds.seconds)
        self.full = taken < len(lane.items) or self.events >= limit or self.bytes >= bounds.bytes


def gather(ready: Iterable[Lane], bounds: Batching, most: int) -> Batch:
    """The next batch of at most `most` events out of these lanes: some of the first of them. Changes
    nothing."""
    batch = Batch(limit=min(bounds.events, most))
    for lane in ready:
        batch.add(lane, bounds)
        if batch.full:
            break
    return batch
