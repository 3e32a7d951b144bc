"""What a failure means for the event that failed. Pure: time and chance are passed in.

A receiver that answers no to one event while it takes others speaks of that event; one that takes nothing
speaks of itself. So a sink that fails as a whole is slowed down and nothing is thrown away, and the clock
that gives up an event runs only while its sink is otherwise healthy.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoomrelay.backoff import full_jitter
from zoomrelay.delivery.health import MAX_PAUSE_SECONDS, Health, asked_seconds
from zoomrelay.delivery.lanes import STRICT, Lane
from zoomrelay.errors import SinkError, SinkRejected

TRIES_WHEN_REJECTED = 3
"""After so many refusals an event is dead, if others were taken meanwhile."""
POISON_SECONDS = 900.0
"""An event that fails for so long on end, while its sink takes others, is not going to be taken."""
POISON_STRIKES = 3
"""Of its failures as many must each come after others were taken; one might be chance."""
TRIES_WHEN_REPLAYED = 8
"""A replayed event is given up after so many failures at least: between them it waits for live events."""
_BASE_SECONDS = 0.05
_GROWTH = 1.5
"""Short and gentle: where half of all calls fail for reasons of the receiver's own, doubling would make one
event in a thousand wait for a minute, and its lane with it."""
_MAX_DELAY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Try the same again."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class Dead:
    """Give this event up."""

    reason: str
    detail: str = ""
    """What the receiver did, where the reason does not say it."""


def decide(
    lane: Lane, error: SinkError, health: Health, give_up_after_seconds: float, now: float
) -> Retry | Dead:
    """What becomes of the head of a lane after its latest failure; both have been told of it."""
    if isinstance(error, SinkRejected):
        if error.final or lane.replayed or speaks_of_event(lane.attempts, lane.successes_at_failure, health):
            return Dead(error.reason)
    elif _waited_seconds(lane, health, now) >= give_up_after_seconds and (
        not lane.replayed or lane.attempts >= TRIES_WHEN_REPLAYED
    ):
        return Dead(f"gave up: {error.reason}")
    elif is_poison(lane, now):
        return Dead("poison", error.reason)
    return Retry(max(_delay_seconds(lane.attempts, health, now), asked_seconds(error)))


def speaks_of_event(attempts: int, successes_at_failure: int, health: Health) -> bool:
    """Whether refusals speak of the event: often enough, while others were taken."""
    return attempts >= TRIES_WHEN_REJECTED and health.successes > successes_at_failure


def is_poison(lane: Lane, now: float) -> bool:
    """Whether the head has failed for long enough, without a break, while others were taken again and again
    and at the last. In strict order no others are tried, and what is replayed is given up sooner."""
    known = lane.failing
    if known is None or lane.replayed or lane.name == STRICT:
        return False
    return known.struck and known.strikes >= POISON_STRIKES and now - known.since >= POISON_SECONDS


def _waited_seconds(lane: Lane, health: Health, now: float) -> float:
    """For how long the head has waited in vain. While nothing else is there to be tried, one event that
    fails makes its sink look ill; a replay is not to last for ever for that."""
    if lane.replayed and lane.failed and health.one_event and lane.tried_at is not None:
        return now - lane.tried_at
    return lane.waited_seconds_at(health.healthy_seconds(now))


def _delay_seconds(attempts: int, health: Health, now: float) -> float:
    """Where the sink as a whole is paused, that is wait enough: the event may be innocent."""
    if not health.ok and health.paused_until > now:
        return 0.0
    cap = _MAX_DELAY_SECONDS if health.ok else MAX_PAUSE_SECONDS
    return full_jitter(attempts, base=_BASE_SECONDS, cap=cap, factor=_GROWTH, random=health.random)
