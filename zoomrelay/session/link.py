"""One open connection: the loop that receives, and the pulse beside it that no load delays."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain

import structlog

from zoomrelay.clock import Clock
from zoomrelay.errors import ConnectionEnded
from zoomrelay.session.endings import Cause, Ending, connection_ended
from zoomrelay.session.figures import PathFigures
from zoomrelay.session.messages import (
    Accepted,
    EventFrame,
    HeartbeatReply,
    Message,
    Refusal,
    Unknown,
    Unreadable,
    parse,
)
from zoomrelay.session.ports import Connection, FrameConsumer
from zoomrelay.session.protocol import HEARTBEAT, SendHeartbeat, SessionProtocol, State

log = structlog.get_logger()

SEND_TIMEOUT_SECONDS = 10.0
_KINDS: dict[type[Message], str] = {
    Accepted: "build_connection",
    HeartbeatReply: "heartbeat",
    Refusal: "refusal",
    Unknown: "unknown",
    Unreadable: "unreadable",
}
_MAX_UNKNOWN_MODULES = 20
_SLEPT_SECONDS = 0.1
"""Between two looks at two clocks less than this may pass without a sleep."""
_MAX_SLEEPS = 128
"""Between a moment and the question for its time: the pulse looks every second, and a silent socket is given
up before it has looked as often."""


class Link:
    """Serves one connection to its end."""

    def __init__(
        self,
        connection: Connection,
        subscription: str,
        consumer: FrameConsumer,
        protocol: SessionProtocol,
        clock: Clock,
        figures: PathFigures,
        *,
        on_accepted: Callable[[], None],
        on_second: Callable[[float], None],
    ) -> None:
        """`on_accepted` is called once, `on_second` about every second with the wall time until
        which everything was received."""
        self._connection = connection
        self._subscription = subscription
        self.consumer = consumer
        """May be replaced at any time."""
        self._protocol = protocol
        self._clock = clock
        self._figures = figures
        self._on_accepted = on_accepted
        self._on_second = on_second
        self._ending: Ending | None = None
        self._accepted = asyncio.Event()
        self._unknown: set[str] = set()
        self._close_sent = 0.0
        self._ahead = clock.elapsed() - self._now()
        self._sleeps: deque[tuple[float, float]] = deque(maxlen=_MAX_SLEEPS)
        self._last_frame = self._received_until = clock.wall()

    async def run(self) -> Ending:
        """Until the connection ends, for whatever reason; everything received was handed over then."""
        self._protocol.opened(self._now())
        try:
            async with asyncio.TaskGroup() as tasks:
                pulse = tasks.create_task(self._pulse(), name=f"session.pulse:{self._subscription}")
                ended = await self._receive()
                pulse.cancel()
        finally:
            self._connection.abort()
            self._protocol.closed()
        ending = replace(self._ending, clean=ended.clean) if self._ending is not None else ended
        self._stamp()
        self._publish()
        return ending

    async def close(self) -> None:
        """End it in order: a close frame out, what still comes taken in."""
        self._ending = self._ending or Ending(Cause.STOPPED)
        self._close_sent = self._now()
        await self._connection.close()

    def heard_until(self, ending: Ending) -> float:
        """Wall time; the connection ended in this way, and not before then."""
        self._note_sleep()
        hearing = self._connection.hearing
        if not ending.clean:
            return self._wall(hearing.received_until)
        # Whoever answers our close frame was there to hear it.
        return self._wall(self._close_sent if ending.cause is Cause.STOPPED else hearing.whole_until)

    # --- receiving ----------------------------------------------------------------------------------

    async def _receive(self) -> Ending:
        # The hot path: for an event nothing happens here but parsing and handing over.
        run: list[EventFrame] = []
        frames: Iterator[bytes] = iter(())
        try:
            while True:
                frames = iter(await self._connection.receive())
                for frame in frames:
                    message = parse(frame)
                    if type(message) is EventFrame:
                        run.append(message)
                    else:
                        run = await self._hand_over(run)
                        await self._control(message)
                run = await self._hand_over(run)
                if self.consumer.full:
                    await self._wait_for_room()
        except ConnectionEnded as error:
            return connection_ended(error)
        except asyncio.CancelledError:
            self._hand_over_rest(run, chain(frames, self._connection.rest()))
            raise

    def _hand_over_rest(self, run: list[EventFrame], frames: Iterable[bytes]) -> None:
        """There is no more time: pass on the events among what has come, whether or not there is room."""
        run = [*run, *(message for frame in frames if isinstance(message := parse(frame), EventFrame))]
        if run:
            self._figures.events += len(run)
            self.consumer.events(self._subscription, run)

    async def _hand_over(self, run: list[EventFrame]) -> list[EventFrame]:
        """Pass on the events that came one after the other; returns the next run's beginning."""
        if not run:
            return run
        if self._protocol.state is not State.RECEIVING:
            await self._consider(run[0])
        self._figures.events += len(run)
        self.consumer.events(self._subscription, run)
        return []

    async def _control(self, message: Message) -> None:
        self._figures.others[_KINDS[type(message)]] += 1
        if isinstance(message, Unreadable):
            self.consumer.unreadable(self._subscription, message.raw, message.reason)
        elif isinstance(message, Unknown):
            self._note_unknown(message.module)
        await self._consider(message)

    async def _consider(self, message: Message) -> None:
        """Let the protocol look at it, and do what it says."""
        before = self._protocol.accepted
        ending = self._protocol.received(message, self._now())
        if self._protocol.accepted and not before:
            self._stamp()
            self._on_accepted()
            self._accepted.set()
        if ending is not None and self._ending is None:
            self._ending = ending
            await self._connection.close()

    def _note_unknown(self, module: str) -> None:
        if module not in self._unknown and len(self._unknown) < _MAX_UNKNOWN_MODULES:
            self._unknown.add(module)
            log.info("session.unknown_module", subscription=self._subscription, module=module)

    async def _wait_for_room(self) -> None:
        self._protocol.paused()
        try:
            await self.consumer.room()
        finally:
            self._protocol.resumed(self._now())

    # --- the pulse ----------------------------------------------------------------------------------

    async def _pulse(self) -> None:
        while self._ending is None:
            now = self._now()
            command = self._protocol.tick(now, self._clock.elapsed(), self._connection.last_received)
            if isinstance(command, SendHeartbeat):
                await self._send_heartbeat()
            elif command is not None:
                await self._give_up(command)
                return
            self._second()
            await self._sleep(self._protocol.due_seconds(now, self._connection.last_received))

    async def _give_up(self, ending: Ending) -> None:
        self._ending = ending
        if ending.cause is Cause.NOT_ACCEPTED:
            await self._connection.close()
        else:
            # Nobody is there to shake hands with.
            self._connection.abort()

    async def _send_heartbeat(self) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await self._connection.send_text(HEARTBEAT)
        except ConnectionEnded:
            pass  # whoever receives is told the same
        except TimeoutError:
            await self._give_up(Ending(Cause.SILENT, "a heartbeat could not be sent"))

    def _second(self) -> None:
        self._connection.hearing.second(self._now(), reading=self._connection.reading)
        self._stamp()
        self._publish()
        self._on_second(self._received_until)

    async def _sleep(self, due_seconds: float) -> None:
        """Until then; once accepted, at once for the first heartbeat."""
        if self._protocol.accepted:
            await asyncio.sleep(due_seconds)
            return
        try:
            async with asyncio.timeout(due_seconds):
                await self._accepted.wait()
        except TimeoutError:
            pass

    # --- small things -------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _stamp(self) -> None:
        self._note_sleep()
        connection = self._connection
        self._last_frame = self._wall(connection.last_received)
        until = connection.hearing.received_until
        if connection.waiting_since is not None:
            until = min(until, connection.waiting_since)
        self._received_until = self._wall(until)

    def _note_sleep(self) -> None:
        """The loop's clock stands still while the machine sleeps; and the end of the socket may be read on
        waking, before the pulse finds out."""
        ahead = self._clock.elapsed() - self._now()
        if ahead - self._ahead > _SLEPT_SECONDS:
            self._sleeps.append((self._now(), ahead - self._ahead))
        self._ahead = ahead

    def _wall(self, moment: float) -> float:
        """The wall clock's time of a moment of the loop's, with all that the machine has slept since."""
        slept_seconds = sum(seconds for until, seconds in self._sleeps if moment <= until)
        return self._clock.wall() - (self._now() - moment) - slept_seconds

    def _publish(self) -> None:
        self._figures.publish(
            last_frame_wall=self._last_frame, round_trip_seconds=self._protocol.round_trip_seconds
        )
