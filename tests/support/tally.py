"""What was sent and what came, of millions of events: contents become digests, segments are collected."""

from __future__ import annotations

import gzip
from array import array
from collections import Counter
from hashlib import blake2b
from pathlib import Path

from msgspec.structs import replace

from tests.support.oracle import Taken
from tests.support.receiver import Receiver
from zoomrelay.simulator.journal import Journal, Sent

FILL = b'"soak.fill"'
"""The name of events that only fill the relay's memory of identities."""


class Tally:
    """Takes what journal and receiver hold out of them, again and again.

    `latencies` has, by when it was sent (wall clock), how long each event took to its first arrival at the
    receiver, in seconds.
    """

    def __init__(self, journal: Journal, receiver: Receiver, archive_file: Path) -> None:
        self.sent: list[Sent] = []
        """With digests for contents."""
        self.archive: Counter[bytes] = Counter()
        """Digest -> how often it stands in the file sink's segments."""
        self.crm: Counter[bytes] = Counter()
        """Digest -> how often the receiver took it."""
        self.crm_again: list[Taken] = []
        """What the receiver took more than once, each time but the first."""
        self.filled = 0
        """Lines of `FILL` in the segments; they are in no other figure."""
        self.latencies: list[tuple[float, float]] = []
        self._journal, self._receiver, self._archive_file = journal, receiver, archive_file
        self._waiting: dict[bytes, float] = {}
        self._first = array("d")
        self._place: dict[bytes, int] = {}

    def absorb(self) -> None:
        """What was sent and taken since the last time."""
        known: dict[bytes, bytes] = {}
        for one in self._journal.since():
            if FILL in one.content:
                continue
            digest = known.get(one.content) or known.setdefault(one.content, digest_of(one.content))
            self.sent.append(replace(one, content=digest))
            if one.heard and digest not in self.crm:
                self._waiting.setdefault(digest, one.at)
        self._journal.forget()
        for at, content in zip(self._receiver.taken_at, self._receiver.taken, strict=True):
            self._take(at, known.get(content) or digest_of(content))
        self._receiver.forget()

    def _take(self, at: float, digest: bytes) -> None:
        self.crm[digest] += 1
        if self.crm[digest] > 1:
            self.crm_again.append(Taken(at, digest))
            return
        self._place[digest] = len(self._first)
        self._first.append(at)
        if (sent_at := self._waiting.pop(digest, None)) is not None:
            self.latencies.append((sent_at, at - sent_at))

    def taken_repeatedly(self) -> list[Taken]:
        """Every time at which the receiver took what it took more than once."""
        again = {one.content for one in self.crm_again}
        firsts = [Taken(self._first[self._place[digest]], digest) for digest in again]
        return [*firsts, *self.crm_again]

    def collect(self, ending: str = ".gz") -> None:
        """Read the segments that have ended, and remove them, as a collector does."""
        for segment in sorted(self._archive_file.parent.glob(f"{self._archive_file.stem}-*{ending}")):
            read = segment.read_bytes()
            lines = (gzip.decompress(read) if ending == ".gz" else read).split(b"\n")[:-1]
            self.archive.update(digest_of(line) for line in lines if FILL not in line)
            self.filled += sum(FILL in line for line in lines)
            segment.unlink()


def digest_of(content: bytes) -> bytes:
    """Short, and different for different contents as far as anybody will ever see."""
    return blake2b(content, digest_size=12).digest()
