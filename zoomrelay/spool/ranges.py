"""A set of whole numbers kept as ranges: small where the numbers stand together. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """Sorted, disjoint, never adjacent ranges; both ends belong to a range."""

    def __init__(self, pairs: list[tuple[int, int]] | None = None) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.count = 0
        """How many numbers are in the set."""
        for start, end in pairs or []:
            self.add(start, end)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number <= self._ends[at]

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        """How many ranges."""
        return len(self._starts)

    @property
    def last(self) -> int:
        """The greatest number; 0 for none."""
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def add(self, start: int, end: int) -> int:
        """Add every number from `start` to `end`; how many of them were new."""
        left = bisect_left(self._ends, start - 1)
        right = bisect_right(self._starts, end + 1)
        before = self.count
        if left < right:
            merged = range(left, right)
            self.count -= sum(self._ends[i] - self._starts[i] + 1 for i in merged)
            start, end = min(start, self._starts[left]), max(end, self._ends[right - 1])
        self._starts[left:right] = [start]
        self._ends[left:right] = [end]
        self.count += end - start + 1
        return self.count - before

    def take_from(self, start: int) -> int | None:
        """If the first range begins at `start`, remove it and return its end."""
        if not self._starts or self._starts[0] != start:
            return None
        del self._starts[0]
        end = self._ends.pop(0)
        self.count -= end - start + 1
        return end

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges between `start` and `end` that are not in the set."""
        missing = []
        at = bisect_left(self._ends, start)
        while start <= end and at < len(self._starts) and self._starts[at] <= end:
            if self._starts[at] > start:
                missing.append((start, self._starts[at] - 1))
            start = self._ends[at] + 1
            at += 1
        if start <= end:
            missing.append((start, end))
        return missing
