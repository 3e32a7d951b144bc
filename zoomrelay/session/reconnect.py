"""How long to wait before the next attempt. Pure: chance is passed in."""

from __future__ import annotations

from random import Random

from zoomrelay.backoff import full_jitter
from zoomrelay.session.contest import BRIEF_LIVES, Contest
from zoomrelay.session.endings import Cause, Ending

BASE_SECONDS = 0.5
CAP_SECONDS = 5.0
"""For lost connections: Zoom keeps nothing for us, so each second away costs events."""
CONTESTED_CAP_SECONDS = 30.0
"""For sockets that were accepted and closed at once, again and again: who comes back soon takes it away
from somebody, who takes it away from us."""
SLOW_FLOOR_SECONDS = 60.0
SLOW_CAP_SECONDS = 300.0
RETRY_AFTER_CAP_SECONDS = 3600.0
STABLE_SECONDS = 2.0
"""Accepted for this long, a connection counts as sound and wipes the slate."""
TOKEN_SOUND_SECONDS = 60.0
"""The same of its token: one may be refused at the second heartbeat only."""
MAX_AT_ONCE = 3
"""New tokens tried without a pause: a fresh one, one by the other grant, and one that was stale."""
TOKENS_CAP_SECONDS = 60.0
"""Between tokens beyond these: each was taken for a while, so the next may bring some events, too."""


class Reconnect:
    """Counts failures in a row and says what follows from them."""

    def __init__(self, random: Random) -> None:
        self.contest = Contest(random)
        self._random = random
        self._failures = 0
        self._refusals = 0
        self._at_once = 0

    def slow(self, ending: Ending, *, token_left: bool) -> bool:
        """Whether the next attempt is minutes away: trying again soon would not help. A single refusal
        is not believed yet, since an edge server in trouble answers the same."""
        if ending.cause is Cause.REFUSED_TOKEN:
            return not token_left
        return ending.believed_permanent and (self._refusals >= 1 or ending.cause is Cause.NO_TOKEN)

    def delay_seconds(self, ending: Ending, *, accepted_seconds: float | None, token_left: bool) -> float:
        """Seconds until the next attempt. `accepted_seconds`: how long the socket was accepted, None if
        never; `token_left`: after a refused token there is another one to try."""
        self.contest.ended(ending, accepted_seconds)
        if accepted_seconds is not None and accepted_seconds >= STABLE_SECONDS:
            self._failures = self._refusals = 0
        if accepted_seconds is not None and accepted_seconds >= TOKEN_SOUND_SECONDS:
            self._at_once = 0
        delay = self._own_delay(ending, accepted_seconds is not None, token_left)
        asked_for = min(ending.retry_after or 0.0, RETRY_AFTER_CAP_SECONDS)
        # The token's manager has chosen its wait already; ours comes on top of nobody's.
        delay = asked_for if ending.cause is Cause.NO_TOKEN and asked_for > 0 else max(delay, asked_for)
        self.contest.waits(delay)
        return delay

    def _own_delay(self, ending: Ending, was_accepted: bool, token_left: bool) -> float:
        self._failures += 1
        if self.contest.displaced:
            return self.contest.step_seconds()
        if self.slow(ending, token_left=token_left):
            return self._slow_seconds()
        if ending.believed_permanent:
            self._refusals += 1
        elif ending.cause is Cause.REFUSED_TOKEN:
            self._at_once += 1
            if self._at_once <= MAX_AT_ONCE:
                return 0.0
            tries = self._at_once - MAX_AT_ONCE
            return full_jitter(tries, base=BASE_SECONDS, cap=TOKENS_CAP_SECONDS, random=self._random)
        elif was_accepted and self._failures == 1:
            return 0.0
        cap = self._contested_cap_seconds() if was_accepted else CAP_SECONDS
        return full_jitter(self._failures, base=BASE_SECONDS, cap=cap, random=self._random)

    def _contested_cap_seconds(self) -> float:
        """Grows with each brief life, beyond those that may be chance."""
        more = max(0, self.contest.brief_lives - BRIEF_LIVES)
        return min(CONTESTED_CAP_SECONDS, CAP_SECONDS * 2.0 ** min(more, 8))

    def _slow_seconds(self) -> float:
        self._refusals += 1
        self._at_once = 0
        ceiling = min(SLOW_CAP_SECONDS, SLOW_FLOOR_SECONDS * (1 + self._refusals))
        return self._random.uniform(SLOW_FLOOR_SECONDS, ceiling)
