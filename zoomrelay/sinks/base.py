"""The promise of a sink: open, send, close. Retries, timeouts and metrics live once, in delivery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zoomrelay.event import Event


class Sink(Protocol):
    """A place that events are delivered to.

    `send` returning is the acknowledgement: everything in the batch is where it should be, as durably
    as the sink promises. It raises `SinkUnavailable` when the same batch should be sent again later
    and `SinkRejected` when the receiver does not want it; on any failure some of the batch may have
    arrived (at-least-once). Cancelling `send` is allowed at any moment and counts as a failure.

    Where `concurrency` is 1, calls never overlap. Sinks keep no memory of what they sent.
    """

    name: str
    max_batch: int
    """The most events one `send` takes; 1 for sinks that send events one by one."""
    concurrency: int
    """How many `send` calls may be under way at once."""

    async def open(self) -> None:
        """Get ready; raises `SinkUnavailable`, or `SinkRejected` where a receiver that is there does not fit.
        Called again, later, after either."""
        ...

    async def send(self, batch: Sequence[Event], attempt: int) -> None:
        """Deliver `batch` (never empty, in order); `attempt` counts from 1."""
        ...

    async def reopen(self) -> None:
        """Let go of files and take them anew (SIGHUP, for logrotate). Never overlaps with `send`
        where `concurrency` is 1; a sink without files does nothing. Raises `SinkUnavailable` where they
        cannot be had; the next `send` tries again by itself."""
        ...

    async def close(self) -> None:
        """Release everything. Never raises; may be called without `open`, and twice."""
        ...
