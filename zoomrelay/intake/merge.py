"""Which events of the last hours were received already, and on which paths. Pure.

Several subscriptions of one app may carry the same events; the copy that comes first wins, and the others
are merged into it. Copies are known by their identity (see `identity.py`). That Zoom's copies are alike in
all that counts is likely and unproven, so `twins.py` watches how often they are.

The memory has two generations. New identities go into the younger; when that has lasted
`GENERATION_SECONDS` or holds `GENERATION_IDS`, the older is forgotten and the younger takes its place. So an
identity is known for at least two hours, or, at high rates, for at least the next half million events.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

GENERATION_SECONDS = 2 * 3600.0
GENERATION_IDS = 500_000
TIMELESS_SECONDS = 60.0
"""How long an event without `event_ts` is remembered: equal ones are then probably two events."""

EARLIER_PATH = 1 << 62
"""Stands for whatever path brought an event to another process."""


class Identities:
    """Digest -> the set of paths that brought it, as bits. Times are `Clock.elapsed`."""

    def __init__(self, now: float, *, generation_ids: int = GENERATION_IDS) -> None:
        self.generation = 1
        """Number of the younger generation; the older has the one before."""
        self._limit = generation_ids
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}
        self._young_since = self._old_since = now
        self._timeless: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._young) + len(self._old) + len(self._timeless)

    def is_first(self, digest: bytes, path: int) -> bool:
        """Note that a path (one bit) brought this event; whether no path had before."""
        seen = self._young.get(digest)
        if seen is not None:
            self._young[digest] = seen | path
            return False
        seen = self._old.get(digest)
        if seen is not None:
            self._old[digest] = seen | path
            return False
        self._young[digest] = path
        return True

    def is_first_timeless(self, digest: bytes, path: int, now: float) -> bool:
        """The same for an event without `event_ts`."""
        self._forget_timeless(now)
        since, seen = self._timeless.get(digest, (now, 0))
        self._timeless[digest] = since, seen | path
        return not seen

    def paths(self, digest: bytes) -> int:
        """The paths that brought it, as bits; 0 if it is forgotten."""
        timeless = self._timeless.get(digest)
        if timeless is not None:
            return timeless[1]
        return self._young.get(digest) or self._old.get(digest, 0)

    def age(self, now: float) -> bool:
        """Forget what is too old or too much; whether a new generation began. Called before each batch."""
        self._forget_timeless(now)
        if len(self._young) < self._limit and now - self._young_since < GENERATION_SECONDS:
            return False
        self.generation += 1
        self._old, self._young = self._young, {}
        self._old_since, self._young_since = self._young_since, now
        return True

    def window_seconds(self, now: float) -> float:
        """How far back the memory reaches."""
        return now - self._old_since

    def restore(self, generation: int, digests: Iterable[bytes]) -> None:
        """Take back what an earlier process remembered, oldest generation first. Which paths brought it
        is not known any more."""
        if generation > self.generation:
            self._old = self._young if generation == self.generation + 1 else {}
            self._young, self.generation = {}, generation
        self._young.update(dict.fromkeys(digests, 0))

    def timeless(self) -> list[bytes]:
        """Events without `event_ts` that are remembered just now."""
        return list(self._timeless)

    def restore_timeless(self, digests: Iterable[bytes], now: float) -> None:
        """Take these over from another process."""
        self._timeless.update((digest, (now, EARLIER_PATH)) for digest in digests)

    def _forget_timeless(self, now: float) -> None:
        timeless = self._timeless
        while timeless and now - next(iter(timeless.values()))[0] >= TIMELESS_SECONDS:
            timeless.popitem(last=False)
