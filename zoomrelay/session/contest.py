"""Another consumer on our subscription, told by what happens to our sockets. Pure: chance is passed in.

Zoom serves one connection per subscription. It drops the older for the newer (observed), or refuses the
newer; it says "Connected in another place", or nothing but 1000 "Bye". Two consumers that both come back at
once would take the subscription from each other for ever. So whoever is displaced waits, each time longer,
and whoever holds on does nothing: it keeps the subscription.
"""

from __future__ import annotations

from random import Random

from zoomrelay.session.endings import Cause, Ending

LADDER_SECONDS = (60.0, 300.0, 1200.0, 3600.0)
"""Waits of the displaced; the last again and again."""
JITTER = 0.1
"""A tenth up or down. With more, two relays could change places four times in ten minutes."""
UNDISTURBED_SECONDS = 600.0
"""Accepted for this long, the subscription is ours. Longer than the second wait, or two that take turns
would never come to the third."""
BRIEF_SECONDS = 60.0
BRIEF_LIVES = 4
"""So many sockets that Zoom accepted and closed within `BRIEF_SECONDS`, without a word and without one that
lived longer, are another's doing."""
GHOST_SECONDS = 120.0
"""After a socket of ours broke, Zoom may believe in it for a while and refuse us for our own sake."""


class Contest:
    """What is known about another consumer of one subscription."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._ghost_seconds = 0.0
        self.displaced = False
        """The last end or refusal was another's doing, Zoom said."""
        self.steps = 0
        """Waits of the ladder since the subscription was ours."""
        self.brief_lives = 0
        """Sockets that Zoom closed so soon, since one that lived longer."""

    @property
    def contested(self) -> bool:
        """Somebody else uses the subscription, as far as one can tell."""
        return self.steps > 0 or self.unsaid

    @property
    def unsaid(self) -> bool:
        """It looks so, though Zoom does not say it."""
        return self.brief_lives >= BRIEF_LIVES

    def held(self, accepted_seconds: float) -> None:
        """A socket has been accepted for so long."""
        if accepted_seconds >= BRIEF_SECONDS:
            self.brief_lives = 0
        if accepted_seconds >= UNDISTURBED_SECONDS:
            self.steps = 0

    def forget(self) -> None:
        """Begin anew: somebody has done something about it."""
        self.steps = self.brief_lives = 0

    def ended(self, ending: Ending, accepted_seconds: float | None) -> None:
        """A socket ended after it had been accepted for so long, or an attempt came to nothing (None)."""
        if accepted_seconds is not None:
            self.held(accepted_seconds)
            if ending.cause is Cause.CLOSED and accepted_seconds < BRIEF_SECONDS:
                self.brief_lives += 1
            self._ghost_seconds = 0.0 if ending.clean else GHOST_SECONDS
        ghost = accepted_seconds is None and self._ghost_seconds > 0
        self.displaced = ending.cause is Cause.DISPLACED and not ghost

    def waits(self, seconds: float) -> None:
        """So long until the next attempt; meanwhile Zoom forgets sockets that broke."""
        self._ghost_seconds -= seconds

    def step_seconds(self) -> float:
        """The next wait of the ladder."""
        step = LADDER_SECONDS[min(self.steps, len(LADDER_SECONDS) - 1)]
        self.steps += 1
        return step * self._random.uniform(1 - JITTER, 1 + JITTER)
