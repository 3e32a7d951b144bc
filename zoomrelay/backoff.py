"""Delay sequences. Pure: chance is passed in."""

from __future__ import annotations

from random import Random


def full_jitter(attempt: int, *, base: float, cap: float, random: Random, factor: float = 2.0) -> float:
    """Seconds to wait before attempt `attempt` + 1 (the first failure is attempt 1).

    Uniform between 0 and `base` x `factor`^(attempt-1), which is capped at `cap`. A floor of a tenth of that
    bound keeps a run of small draws from becoming a busy loop.
    """
    bound = min(cap, base * factor ** min(attempt - 1, 32))
    return random.uniform(bound / 10, bound)
