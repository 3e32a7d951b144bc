"""Cuts what a WebSocket brings into whole frames. Pure, and on the hot path.

The library reads frames bit by bit in a chain of generators: 5 us for each, a quarter of what an event costs.
Nearly every frame is plain: one whole text message, without extensions. Those are cut out here, 64 KiB at a
time; every other frame (control frames, fragments, compressed or huge ones, broken ones) is left to the
library, whole, so that the protocol's rules stay its business. (RFC 6455, section 5.2, has the layout.)
"""

from __future__ import annotations

from collections.abc import Iterator

_FIN = 0x80
_MASKED = 0x80
_OPCODE = 0x0F
_CLOSE = 0x8
_PLAIN = frozenset({_FIN | 0x1, _FIN | 0x2})
"""First byte of a whole text or binary message without extensions."""
_TWO_BYTES, _EIGHT_BYTES = 126, 127
"""The size's own size, where the second byte says so."""


class Cutter:
    """Is fed the bytes that a server sends after its handshake."""

    def __init__(self, max_message_bytes: int) -> None:
        self._max_bytes = max_message_bytes
        self._held = bytearray()
        """The beginning of a frame."""
        self._wanted = 0
        """How long `held` has to be before it is worth another look."""
        self._in_fragments = False
        self._surrendered = False

    def surrender(self) -> None:
        """From now on everything is the library's."""
        self._surrendered = True

    def feed(self, data: bytes) -> Iterator[list[bytes] | bytes]:
        """In order of arrival: payloads of plain messages, as lists; and bytes for the library, whole frames
        until the first after which it reads no further."""
        if self._held:
            self._held += data
            if len(self._held) < self._wanted and not self._surrendered:
                return
            data = bytes(self._held)
            self._held.clear()
        at = 0
        while at < len(data) and not self._surrendered:
            payloads: list[bytes] = []
            if not self._in_fragments:
                at = self._cut_plain(data, at, payloads)
            if payloads:
                yield payloads
            begin, at = at, self._end_of_frame(data, at)
            if at > len(data):
                self._held += data[begin:]
                self._wanted = at - begin
                return
            if at > begin:
                self._note(data[begin])
                yield data[begin:at]
        if at < len(data):
            yield data[at:]

    def _cut_plain(self, data: bytes, at: int, payloads: list[bytes]) -> int:
        """Append the plain messages that begin at `at`; returns where the last one ends."""
        end, max_bytes = len(data), self._max_bytes
        while end - at >= 4 and data[at] in _PLAIN:
            size, start = data[at + 1], at + 2
            if size == _TWO_BYTES:
                size, start = data[at + 2] << 8 | data[at + 3], at + 4
            elif size > _TWO_BYTES:
                break  # huge, or masked
            if start + size > end or size > max_bytes:
                break
            at = start + size
            payloads.append(data[start:at])
        return at

    def _end_of_frame(self, data: bytes, at: int) -> int:
        """Where the frame that begins at `at` ends, or, where its head is not all here, how far that goes."""
        here = len(data) - at
        if here < 2:
            return at + 2 if here else at
        size, start = data[at + 1] & ~_MASKED, 2
        if size >= _TWO_BYTES:
            start += 2 if size == _TWO_BYTES else 8
            if here < start:
                return at + start
            size = int.from_bytes(data[at + 2 : at + start], "big")
        if size > self._max_bytes or data[at + 1] & _MASKED:
            self.surrender()  # the library will refuse it
            return len(data)
        return at + start + size

    def _note(self, head: int) -> None:
        opcode = head & _OPCODE
        if opcode == _CLOSE:
            self.surrender()
        elif opcode < _CLOSE:
            self._in_fragments = not head & _FIN
