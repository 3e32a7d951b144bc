"""What happens to sockets, and what it says about another consumer."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from zoomrelay.errors import ConnectionEnded
from zoomrelay.session.contest import BRIEF_LIVES, LADDER_SECONDS, Contest
from zoomrelay.session.endings import Cause, Ending, connection_ended, refusal
from zoomrelay.session.reconnect import Reconnect

TAKEN = Ending(Cause.DISPLACED, clean=True)
BYE = Ending(Cause.CLOSED, "1000 Bye", clean=True)
RESET = Ending(Cause.RESET)
SECONDS = (60, 300, 1200, 3600, 3600)


def _delay(reconnect: Reconnect, ending: Ending, accepted_seconds: float | None = None) -> float:
    return reconnect.delay_seconds(ending, accepted_seconds=accepted_seconds, token_left=False)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("accepted_seconds", [None, 0.05, 30, 300])
def test_the_displaced_waits_longer_each_time(seed: int, accepted_seconds: float | None) -> None:
    reconnect = Reconnect(Random(seed))
    for seconds in SECONDS:
        assert _delay(reconnect, TAKEN, accepted_seconds) == pytest.approx(seconds, rel=0.1001)
        assert reconnect.contest.contested and reconnect.contest.displaced


def test_waits_are_jittered() -> None:
    delays = {_delay(Reconnect(Random(seed)), TAKEN, 30) for seed in range(50)}
    assert len(delays) == 50 and max(delays) - min(delays) > 6


@pytest.mark.parametrize(
    "ending",
    [
        refusal("Connected in another place"),
        connection_ended(
            ConnectionEnded("closed", code=1000, reason="Connected in another place", clean=True)
        ),
        refusal("connected in ANOTHER PLACE, token dropped"),
    ],
)
def test_however_zoom_says_it(ending: Ending) -> None:
    assert ending.cause is Cause.DISPLACED
    assert "old container" in ending.cure and "HUP" in ending.cure


def test_holding_on_undisturbed_wipes_the_slate() -> None:
    reconnect = Reconnect(Random(1))
    for _ in range(3):
        _delay(reconnect, TAKEN, 30)
    reconnect.contest.held(599)
    assert reconnect.contest.contested
    reconnect.contest.held(600)
    assert not reconnect.contest.contested
    assert _delay(reconnect, TAKEN, 700) < 67


def test_failed_attempts_on_the_way_back_neither_wait_long_nor_wipe_the_slate() -> None:
    reconnect = Reconnect(Random(1))
    _delay(reconnect, TAKEN, 30)
    for _ in range(20):
        assert _delay(reconnect, Ending(Cause.DIAL_FAILED)) <= 5
    assert _delay(reconnect, TAKEN, 5) > 200


@pytest.mark.parametrize("accepted_seconds", [0.1, 1.5, 3, 20, 59])
def test_brief_lives_in_a_row_look_like_another_consumer(accepted_seconds: float) -> None:
    reconnect = Reconnect(Random(1))
    for number in range(1, 30):
        assert _delay(reconnect, BYE, accepted_seconds) <= 30
        assert reconnect.contest.contested == (number >= BRIEF_LIVES)
        assert not reconnect.contest.displaced
    reconnect.contest.held(60)
    assert not reconnect.contest.contested


@pytest.mark.parametrize(("ending", "accepted_seconds"), [(BYE, 61), (RESET, 1), (Ending(Cause.SILENT), 59)])
def test_other_ends_do_not(ending: Ending, accepted_seconds: float) -> None:
    reconnect = Reconnect(Random(1))
    for _ in range(20):
        assert _delay(reconnect, ending, accepted_seconds) <= 5
        assert not reconnect.contest.contested


def test_zoom_may_take_our_own_broken_socket_for_another() -> None:
    reconnect = Reconnect(Random(1))
    refused = refusal("Connected in another place")
    _delay(reconnect, RESET, 3600)
    waited = 0.0
    while not reconnect.contest.displaced:
        delay = _delay(reconnect, refused)
        waited += delay
        assert delay <= 5 or reconnect.contest.displaced
    assert 120 <= waited - delay <= 125 and delay > 50, "then it is believed"


def test_after_a_proper_close_a_refusal_is_believed_at_once() -> None:
    reconnect = Reconnect(Random(1))
    _delay(reconnect, BYE, 3600)
    assert _delay(reconnect, refusal("Connected in another place")) > 50


def test_forgetting_begins_anew() -> None:
    contest = Contest(Random(1))
    for _ in range(BRIEF_LIVES):
        contest.ended(BYE, 1)
        contest.step_seconds()
    contest.forget()
    assert not contest.contested
    assert contest.step_seconds() <= LADDER_SECONDS[0] * 1.1


# --- two relays, and a Zoom that serves the newest ---------------------------------------------------


@dataclass
class Duel:
    """Both try as their `Reconnect` says; `ending` is how the older one ends."""

    relays: list[Reconnect]
    ending: Ending
    taken: list[tuple[float, int]] = field(default_factory=list)
    """When the subscription changed hands, and whose it was from then on."""

    def play(self, seconds: float, second_comes: float) -> None:
        due = {0: 0.0, 1: second_comes}
        while due and (now := min(due.values())) <= seconds:
            newer = min(due, key=lambda relay: due[relay])
            del due[newer]
            if self.taken:
                since, older = self.taken[-1]
                due[older] = now + 0.05 + _delay(self.relays[older], self.ending, now - since)
            self.taken.append((now, newer))

    def held_seconds(self, after: float, until: float) -> list[float]:
        held = [0.0, 0.0]
        ends = [at for at, _ in self.taken[1:]] + [until]
        for (begin, relay), end in zip(self.taken, ends, strict=True):
            held[relay] += max(0.0, min(end, until) - max(begin, after))
        return held


@pytest.mark.parametrize("second_comes", [0.05, 1, 59, 86400])
@pytest.mark.parametrize("seed", range(50))
def test_two_relays_flip_three_times_in_ten_minutes_at_most_and_the_winner_keeps_it(
    seed: int, second_comes: float
) -> None:
    duel = Duel([Reconnect(Random(seed)), Reconnect(Random(seed + 1000))], TAKEN)
    duel.play(second_comes + 86400, second_comes)
    flips = [at - second_comes for at, _ in duel.taken[2:]]
    assert len([at for at in flips if at <= 600]) == 3
    assert len([at for at in flips if 14400 < at <= 18000]) <= 3, "later, about one visit an hour"
    held = duel.held_seconds(second_comes + 14400, second_comes + 86400)
    assert max(held) > 0.95 * 72000


@pytest.mark.parametrize("seed", range(50))
def test_without_a_word_the_one_that_holds_on_keeps_it_too(seed: int) -> None:
    duel = Duel([Reconnect(Random(seed)), Reconnect(Random(seed + 1000))], BYE)
    duel.play(3600, 60)
    assert all(relay.contest.unsaid for relay in duel.relays)
    assert max(duel.held_seconds(600, 3600)) > 0.95 * 3000
    assert len([at for at, _ in duel.taken if 600 < at <= 1200]) < 120
