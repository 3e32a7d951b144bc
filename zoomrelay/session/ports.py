"""What a session needs of others, and who gets what it receives. `zoomrelay.app` joins them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from zoomrelay.auth.token import Token
from zoomrelay.session.hearing import Hearing
from zoomrelay.session.messages import EventFrame


class TokenProvider(Protocol):
    """Where tokens come from (`zoomrelay.auth.manager`)."""

    async def get(self, min_life_seconds: float = 600.0) -> Token:
        """A token with life left. Raises `TokenUnavailable` or `TokenRefused`, whose `retry_after` is
        the seconds until another try makes sense."""
        ...

    def refused(self, token: Token) -> bool:
        """A socket refused it. True: get another and try again at once; False: wait for minutes."""
        ...

    def accepted(self, token: Token) -> None:
        """A socket accepted it."""
        ...


class FrameConsumer(Protocol):
    """Takes what is received (`zoomrelay.intake`). Nothing here may wait but `room`."""

    def events(self, subscription: str, frames: Sequence[EventFrame]) -> None:
        """Events that came together, in order of arrival. Under load there are hundreds."""
        ...

    def unreadable(self, subscription: str, raw: bytes, reason: str) -> None:
        """A frame in which no event could be read."""
        ...

    def refused(self, subscription: str, raw: bytes) -> None:
        """An event whose signature does not fit, where it must."""
        ...

    @property
    def full(self) -> bool:
        """Nothing more should be handed over before `room` returned."""
        ...

    async def room(self) -> None:
        """Return when there is room again."""
        ...


class PathListener(Protocol):
    """Hears when one subscription is listened to (`zoomrelay.intake.ledger`). Walls are seconds since
    the epoch."""

    def accepted(self, wall: float) -> None:
        """From now on events can come."""
        ...

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None:
        """Once after each `accepted`: the socket ended, some time after `heard_until`; until then
        everything was heard. `clean`: with a proper close frame, so nothing that was sent on it is lost."""
        ...

    def alive(self, heard_until: float) -> None:
        """About every second while accepted; everything until then was heard."""
        ...


class Connection(Protocol):
    """An open WebSocket."""

    @property
    def last_received(self) -> float:
        """Loop time at which the last byte of any kind came."""
        ...

    @property
    def hearing(self) -> Hearing:
        """Told of every read; the session tells it of every second."""
        ...

    @property
    def reading(self) -> bool:
        """Nothing keeps it from reading."""
        ...

    @property
    def waiting_since(self) -> float | None:
        """Loop time when the first message came that nobody has received yet; None where there is none."""
        ...

    def rest(self) -> list[bytes]:
        """What `receive` would return at once, be it nothing; after it nothing of what came is here."""
        ...

    async def receive(self) -> list[bytes]:
        """The next messages' payloads, text or binary, whole, in order; at least one. After the end it
        first returns what had been received, then raises `ConnectionEnded`. Cancelling loses nothing."""
        ...

    async def send_text(self, text: str) -> None:
        """Raises `ConnectionEnded`."""
        ...

    async def close(self) -> None:
        """The closing handshake: send a close frame, wait (briefly) for the other side's. Whoever
        receives goes on until the end. Never raises."""
        ...

    def abort(self) -> None:
        """Drop it at once."""
        ...


Dial = Callable[[str], Awaitable[Connection]]
"""Opens the WebSocket at a URL. Raises `DialError`."""
