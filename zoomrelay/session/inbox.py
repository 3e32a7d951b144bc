"""What a connection has received and nobody has read yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from websockets.exceptions import ConcurrencyError
from websockets.frames import Frame

HIGH_MESSAGES = 512
HIGH_BYTES = 4 * 1024 * 1024
"""Above either bound the socket is paused until the messages are taken. Roomy, because pausing costs
system calls, and one read of the socket brings hundreds of small frames."""


class Inbox:
    """Takes the place of the library's `Assembler`, which hands out one message per call: under a flood that
    was a quarter of the time. All that is here is taken at once."""

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause = pause
        self._resume = resume
        self._messages: list[bytes] = []
        self._size = 0
        self._fragments: list[bytes] = []
        self._arrived: asyncio.Future[None] | None = None
        self._closed = False
        self.paused = False
        self.since: float | None = None
        """Loop time when the first message came that is here; None for none."""

    def put(self, frame: Frame) -> None:
        """A data frame came. The library has checked its size, and that fragments follow one another."""
        data = bytes(frame.data)
        if self._fragments or not frame.fin:
            self._fragments.append(data)
            if not frame.fin:
                return
            data = b"".join(self._fragments)
            self._fragments.clear()
        self.put_messages([data])

    def put_messages(self, messages: list[bytes]) -> None:
        """Whole messages came."""
        if not self._messages:
            self.since = asyncio.get_running_loop().time()
        self._messages += messages
        self._size += sum([len(message) for message in messages])
        if not self.paused and (len(self._messages) > HIGH_MESSAGES or self._size > HIGH_BYTES):
            self.paused = True
            self._pause()
        self._wake()

    async def take(self) -> list[bytes]:
        """The messages that are here, in order; waits for the first. Raises `EOFError` after the last.
        Cancelling loses nothing. One caller at a time."""
        while not self._messages:
            if self._closed:
                raise EOFError
            if self._arrived is not None:
                raise ConcurrencyError("two callers of take")
            self._arrived = asyncio.get_running_loop().create_future()
            try:
                await self._arrived
            finally:
                self._arrived = None
        return self.rest()

    def rest(self) -> list[bytes]:
        """The messages that are here, be it none."""
        messages, self._messages, self._size, self.since = self._messages, [], 0, None
        if self.paused:
            self.paused = False
            self._resume()
        return messages

    def close(self) -> None:
        """Nothing more will come."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
