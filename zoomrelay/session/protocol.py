"""One connection's life: what messages and the passing of time mean for it. Pure.

    DIALLING -> UPGRADED -> ACCEPTED -> RECEIVING -> CLOSED

The caller reports what happens and the time (event loop's seconds); this says what to do. An open socket
is not acceptance: Zoom opens it first and tells afterwards whether the token is any good.
"""

from __future__ import annotations

from enum import StrEnum

from zoomrelay.session.endings import Cause, Ending, refusal
from zoomrelay.session.messages import EventFrame, HeartbeatReply, Message, Refusal, Unknown, Unreadable

ACK_TIMEOUT_SECONDS = 15.0
TICK_SECONDS = 1.0
LEAST_SECONDS = 0.001
"""A clock that is coarser than what is left would stand still for ever."""
SUSPENDED_SECONDS = 5.0
"""Time that passed for the machine and not for the event loop, from which on we call it a suspend."""
HEARTBEAT = '{"module":"heartbeat"}'


class State(StrEnum):
    DIALLING = "dialling"
    UPGRADED = "upgraded"
    """The socket is open, Zoom has not said yet whether it wants us."""
    ACCEPTED = "accepted"
    RECEIVING = "receiving"
    """Accepted, and at least one event has come."""
    CLOSED = "closed"


class SendHeartbeat:
    """A heartbeat is due: send `HEARTBEAT`."""


SEND_HEARTBEAT = SendHeartbeat()


class SessionProtocol:
    """The state machine; one instance per connection."""

    def __init__(self, *, heartbeat_seconds: float, dead_after_seconds: float) -> None:
        self.state = State.DIALLING
        self.round_trip_seconds: float | None = None
        """From the last answered heartbeat to its reply."""
        self._heartbeat_seconds = heartbeat_seconds
        self._dead_after_seconds = dead_after_seconds
        self._opened = 0.0
        self._listening_since = 0.0
        self._paused = False
        self._heartbeat_due = 0.0
        self._awaited_since: float | None = None
        self._ticked: tuple[float, float] | None = None

    @property
    def accepted(self) -> bool:
        return self.state is State.ACCEPTED or self.state is State.RECEIVING

    def pace(self, *, heartbeat_seconds: float, dead_after_seconds: float) -> None:
        """Other limits from now on."""
        self._heartbeat_due -= max(0.0, self._heartbeat_seconds - heartbeat_seconds)
        self._heartbeat_seconds = heartbeat_seconds
        self._dead_after_seconds = dead_after_seconds

    def opened(self, now: float) -> None:
        """The upgrade succeeded."""
        self.state = State.UPGRADED
        self._opened = self._listening_since = now

    def received(self, message: Message, now: float) -> Ending | None:
        """A message came. Events need not be reported once the state is RECEIVING."""
        if isinstance(message, Refusal):
            return refusal(message.text)
        if isinstance(message, (Unknown, Unreadable)):
            return None
        if isinstance(message, HeartbeatReply):
            self._replied(now)
        if not self.accepted:
            # Whatever makes sense on an accepted socket only is as good as the acknowledgement.
            self.state = State.ACCEPTED
            self._heartbeat_due = now
        if isinstance(message, EventFrame):
            self.state = State.RECEIVING
        return None

    def _replied(self, now: float) -> None:
        if self._awaited_since is not None:
            self.round_trip_seconds = now - self._awaited_since
            self._awaited_since = None

    def paused(self) -> None:
        """Nobody reads: silence now says nothing about the other side."""
        self._paused = True
        self._awaited_since = None

    def resumed(self, now: float) -> None:
        self._paused = False
        self._listening_since = now

    def closed(self) -> None:
        self.state = State.CLOSED

    def tick(self, now: float, elapsed: float, last_received: float) -> SendHeartbeat | Ending | None:
        """Time passes; what is to be done about it. `elapsed` is `Clock.elapsed`, `last_received` when
        the last byte came. A heartbeat counts as sent when this says to send it."""
        if self._slept(now, elapsed):
            return Ending(Cause.SUSPENDED, "this machine slept")
        if self.state is State.UPGRADED and now >= self._opened + ACK_TIMEOUT_SECONDS:
            return Ending(Cause.NOT_ACCEPTED, f"no acceptance within {ACK_TIMEOUT_SECONDS:.0f} s")
        if not self._paused and now >= self._dead_at(last_received):
            return Ending(Cause.SILENT, f"nothing received for {self._dead_after_seconds:.0f} s")
        if self.accepted and now >= self._heartbeat_due:
            self._heartbeat_due = now + self._heartbeat_seconds
            self._awaited_since = None if self._paused else now
            return SEND_HEARTBEAT
        return None

    def due_seconds(self, now: float, last_received: float) -> float:
        """How long until the next `tick` is worth while: `LEAST_SECONDS` to `TICK_SECONDS`."""
        due = now + TICK_SECONDS
        if self.state is State.UPGRADED:
            due = min(due, self._opened + ACK_TIMEOUT_SECONDS)
        if self.accepted:
            due = min(due, self._heartbeat_due)
        if not self._paused:
            due = min(due, self._dead_at(last_received))
        return max(LEAST_SECONDS, due - now)

    def _dead_at(self, last_received: float) -> float:
        return max(last_received, self._listening_since) + self._dead_after_seconds

    def _slept(self, now: float, elapsed: float) -> bool:
        before, self._ticked = self._ticked, (now, elapsed)
        return before is not None and (elapsed - before[1]) - (now - before[0]) > SUSPENDED_SECONDS
