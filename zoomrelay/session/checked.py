"""A consumer that checks Zoom's signature on the way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import structlog

from zoomrelay import causes
from zoomrelay.session.messages import EventFrame, read_header
from zoomrelay.session.ports import FrameConsumer
from zoomrelay.signature import verify
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

QUIET_SECONDS = 60.0


class CheckedConsumer:
    """Hands events on to another consumer. Those whose signature does not fit go there as unreadable if
    `enforce`, else like the others; either way they are counted, and said at most once a minute."""

    def __init__(
        self, inner: FrameConsumer, source: str, secret_token: bytes, metrics: Metrics, *, enforce: bool
    ) -> None:
        self._inner = inner
        self._source = source
        self._secret_token = secret_token
        self._metrics = metrics
        self._enforce = enforce
        self._results: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._told: float | None = None

    def events(self, subscription: str, frames: Sequence[EventFrame]) -> None:
        good = []
        for frame in frames:
            result = verify(self._secret_token, read_header(frame.header), frame.content)
            self._results[result] += 1
            if result == "valid" or not self._enforce:
                good.append(frame)
            else:
                self._inner.refused(subscription, frame.content)
        if good:
            self._inner.events(subscription, good)

    def refused(self, subscription: str, raw: bytes) -> None:
        self._inner.refused(subscription, raw)

    def unreadable(self, subscription: str, raw: bytes, reason: str) -> None:
        self._inner.unreadable(subscription, raw, reason)

    @property
    def full(self) -> bool:
        return self._inner.full

    async def room(self) -> None:
        await self._inner.room()

    def publish(self) -> None:
        """Add up what was counted; called about once a second."""
        for result, count in self._results.items():
            self._metrics.signatures.labels(self._source, result).inc(count)
            if result != "valid":
                self._untold[result] += count
        self._results.clear()
        self._tell(asyncio.get_running_loop().time())

    def _tell(self, now: float) -> None:
        if not self._untold or (self._told is not None and now - self._told < QUIET_SECONDS):
            return
        log.warning(
            "session.signatures_do_not_fit",
            source=self._source,
            invalid=self._untold["invalid"],
            missing=self._untold["missing"],
            enforced=self._enforce,
            cure=causes.SIGNATURES.cure,
        )
        self._untold.clear()
        self._told = now
