"""Delay sequences. Pure: chance is passed in."""

from __future__ import annotations

from random import Random


def full_jitter(attempt: int, *, base: float, cap: float, random: Random) -> float:
    """Seconds to wait before attempt `attempt` + 1 (the first failure is attempt 1).

    Uniform between 0 and `base` x 2^(attempt-1), which is capped at `cap`. A floor of a tenth of that
    bound keeps a run of small draws from becoming a busy loop.
    """
    bound = min(cap, base * 2.0 ** min(attempt - 1, 32))
    return random.uniform(bound / 10, bound)
