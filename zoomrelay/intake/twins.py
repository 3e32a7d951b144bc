"""Whether the paths of one source carry the same events: what each missed, which are deaf. Pure.

An event is judged `GRACE_SECONDS` after its first copy came. A path that was listening all that time, and
from a little before, and did not bring it has missed it. Times are `Clock.elapsed`, paths are bits.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

GRACE_SECONDS = 20.0
"""A copy that comes later than this counts as missed: well above the lag between two sockets, and small
enough to tell a deaf path within a minute."""
_SETTLE_SECONDS = 2.0
"""For so long after acceptance what comes on a twin is not held against a path."""
DEAF_MISSES = 3
"""Misses in a row, with nothing brought in between."""
_MAX_WAITING = 50_000
"""Under a flood only a part of the events is judged."""
_JUDGED = 1_000
_ENOUGH = 50
LOW_RATIO = 0.1
_GOOD_RATIO = 0.5
_MAX_NAMES = 200


class Twins:
    """Is told what came on which path, and asked once a second."""

    def __init__(self, paths_of: Callable[[bytes], int]) -> None:
        """`paths_of`: digest -> the paths that have brought it, as bits."""
        self._paths_of = paths_of
        self._waiting: deque[tuple[float, bytes, str]] = deque()
        self._since: dict[int, float] = {}
        """Path -> listening since."""
        self._in_a_row: Counter[int] = Counter()
        self._names: dict[str, int] = {}
        """Event name -> the paths that ever brought one."""
        self._judged = self._complete = 0
        self._differing = False
        self.missed: Counter[int] = Counter()
        """Path -> events that a twin brought and it did not."""

    def accepted(self, path: int, now: float) -> None:
        self._since[path] = now
        self._in_a_row[path] = 0

    def lost(self, path: int) -> None:
        self._since.pop(path, None)
        self._in_a_row[path] = 0

    def forget(self, path: int) -> None:
        """It is gone; its bit may be another's."""
        self.lost(path)
        del self._in_a_row[path], self.missed[path]
        self._names = {name: paths & ~path for name, paths in self._names.items()}

    def first(self, digest: bytes, name: str, now: float) -> None:
        """The first copy of an event came."""
        if len(self._since) > 1 and len(self._waiting) < _MAX_WAITING:
            self._waiting.append((now, digest, name))

    def judge(self, now: float) -> None:
        """Judge what has waited long enough."""
        waiting = self._waiting
        while waiting and now - waiting[0][0] >= GRACE_SECONDS:
            came, digest, name = waiting.popleft()
            self._judge_one(came, self._paths_of(digest), name)

    def _judge_one(self, came: float, brought_by: int, name: str) -> None:
        listening = [path for path, since in self._since.items() if since + _SETTLE_SECONDS <= came]
        if not brought_by or len(listening) < 2:
            return
        self._note_name(name, brought_by)
        missed_by = [path for path in listening if not path & brought_by]
        for path in listening:
            self._in_a_row[path] = self._in_a_row[path] + 1 if path in missed_by else 0
        self.missed.update(missed_by)
        differing = [path for path in missed_by if not self.is_deaf(path)]
        if missed_by and not differing:
            return  # that is another trouble
        self._judged += 1
        self._complete += not differing
        if self._judged >= _JUDGED:  # the past counts less and less
            self._judged //= 2
            self._complete //= 2

    def _note_name(self, name: str, brought_by: int) -> None:
        if name in self._names or len(self._names) < _MAX_NAMES:
            self._names[name] = self._names.get(name, 0) | brought_by

    def is_deaf(self, path: int) -> bool:
        """It is listening, and has brought nothing of what its twins brought lately."""
        return path in self._since and self._in_a_row[path] >= DEAF_MISSES

    @property
    def merge_ratio(self) -> float | None:
        """The share of events that every path brought which was listening and not deaf, of about the last
        thousand; None while none was judged."""
        return self._complete / self._judged if self._judged else None

    @property
    def differ(self) -> bool:
        """They hardly ever bring the same, going by the last `begins_to_differ`."""
        return self._differing

    def begins_to_differ(self) -> bool:
        """True once when it turns out that paths which do bring events hardly ever bring the same."""
        ratio = self.merge_ratio
        if ratio is None or self._judged < _ENOUGH:
            return False
        if ratio >= _GOOD_RATIO:
            self._differing = False
        if ratio >= LOW_RATIO or self._differing:
            return False
        self._differing = True
        return True

    def only_by(self, path: int) -> list[str]:
        """Names of events that came on this path and on no other."""
        return sorted(name for name, paths in self._names.items() if paths == path)
