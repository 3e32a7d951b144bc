"""Keeps events coming at a steady rate, and sends bursts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from zoomrelay.clock import Clock
from zoomrelay.event import WEBHOOK
from zoomrelay.simulator.disorder import Disorder
from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.gateway import Gateway
from zoomrelay.simulator.script import Script
from zoomrelay.simulator.wire import Frame, event_frame, signed_header

_TICK_SECONDS = 0.005
_MOST_PER_TICK = 500
"""So that heartbeats are answered in between, however high the rate."""
_CHUNK = 256
"""Frames per write in a burst; 256 of them are about the size of a socket's buffer."""


class Stream:
    """Draws events from a script and puts them on the gateway."""

    def __init__(
        self,
        script: Script,
        gateway: Gateway,
        faults: Faults,
        clock: Clock,
        *,
        rate: float,
        count: int | None,
        secret_token: str,
        changed: Callable[[], None],
        by_webhook: Callable[[Sequence[bytes]], None] = lambda _contents: None,
    ) -> None:
        """`rate` in events per second; after `count` of them the stream stops by itself. `changed` is
        called after every batch. `by_webhook` gets what every subscription gets."""
        self._script = script
        self._gateway = gateway
        # Each subscription is a stream of its own to Zoom, so each falls into disorder by itself.
        self._disorders = {name: Disorder(faults) for name in (*gateway.subscriptions, WEBHOOK)}
        self._by_webhook = by_webhook
        self._clock = clock
        self._secret_token = secret_token
        self._changed = changed
        self._rate = rate
        self._owed = 0.0
        self.left = count
        """How many events are to come; None for no end."""
        self.emitted = 0
        """Events drawn from the script or given by somebody, each counted once."""

    @property
    def rate(self) -> float:
        return self._rate

    @rate.setter
    def rate(self, events_per_second: float) -> None:
        if events_per_second < 0:
            raise ValueError("a rate is at least 0 events per second")
        self._rate, self._owed = events_per_second, 0.0

    @property
    def finished(self) -> bool:
        """All of `count` were sent and nothing is held back."""
        return self.left == 0 and not any(held.holding for held in self._disorders.values())

    async def run(self) -> None:
        """Emit for ever; cancel it to stop."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            now = loop.time()
            for name, disorder in self._disorders.items():
                await self._deliver(name, disorder.due(now))
            await self._emit_owed(now - before)
            before = now
            await asyncio.sleep(max(0.0, now + _TICK_SECONDS - loop.time()))

    async def _emit_owed(self, seconds: float) -> None:
        # What a reader held up for longer than a second is not made up for, so that it can catch up.
        self._owed = min(self._owed + self._rate * seconds, max(1.0, self._rate))
        count = min(int(self._owed), _MOST_PER_TICK)
        if self.left is not None:
            count = min(count, self.left)
            self.left -= count
        self._owed -= count
        await self.send(self.prepare(count))

    def prepare(self, count: int) -> list[Frame]:
        """The next `count` events of the script as frames, ready to be sent later and fast."""
        now = self._clock.wall()
        return [self.frame(self._script.next(int(now * 1000)), now) for _ in range(count)]

    def frame(self, content: bytes, now: float) -> Frame:
        """One event in its envelope, signed if a secret token is set."""
        if not self._secret_token:
            return event_frame(content)
        return event_frame(content, signed_header(content, self._secret_token, int(now)))

    async def burst(self, count: int) -> None:
        """Send the next `count` events of the script as fast as they are read."""
        frames: list[Frame] = []
        while len(frames) < count:
            frames += self.prepare(min(_CHUNK, count - len(frames)))
            await asyncio.sleep(0)
        await self.send(frames)

    async def send(self, frames: Sequence[Frame], subscription: str | None = None) -> bool:
        """Send these in order, as fast as they are read, to one subscription or to all; whether somebody
        was there all the time. Raises `ValueError` for a subscription that there is not."""
        if subscription is not None and subscription not in self._disorders:
            raise ValueError(f"no such subscription: {subscription}")
        self.emitted += len(frames)
        chosen = self._disorders if subscription is None else (subscription,)
        heard = True
        for start in range(0, len(frames), _CHUNK):
            chunk = frames[start : start + _CHUNK]
            for name in chosen:
                disordered = self._disorders[name].apply(chunk, asyncio.get_running_loop().time())
                heard &= await self._deliver(name, disordered)
        return heard

    async def send_raw(self, frame: Frame, subscription: str | None = None) -> bool:
        """Send this frame as it is, past all disorder."""
        chosen = self._disorders if subscription is None else (subscription,)
        heard = [await self._deliver(name, [frame]) for name in chosen]
        return all(heard)

    async def _deliver(self, subscription: str, frames: Sequence[Frame]) -> bool:
        if not frames:
            return True
        if subscription == WEBHOOK:
            self._by_webhook([frame.content for frame in frames if frame.kind == "event"])
            return True
        heard = self._gateway.deliver(subscription, frames)
        self._changed()
        await self._gateway.drain()
        # A burst must leave the loop room for heartbeats and closing frames.
        await asyncio.sleep(0)
        return heard
