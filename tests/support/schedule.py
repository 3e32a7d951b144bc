"""Schedules of faults: drawn from a seed, played by the virtual world or against the real process. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

CODES = (1000, 1001, 1011)
WORDINGS = ("Invalid Token", "Token is invalid", "token is empty", "Access token is expired", "nope")
"""As seen from Zoom, and one that nobody has seen yet."""

DAMAGES = (
    *("flip after a kill", "cut file after a kill", "cut log after a kill", "header after a kill"),
    *("flip", "cut file", "cut log", "remove log", "remove directory"),
)


class Kind(StrEnum):
    """What can happen. `seconds` is how long it lasts, where it lasts."""

    KILL = "kill"
    """And started again after `seconds`."""
    STOP = "stop"
    """The same, in order."""
    CLOSE = "close"
    """With `word`'s code."""
    RESET = "reset"
    HALF_OPEN = "half_open"
    REFUSE = "refuse"
    """The socket ends, and the next attempts are refused with `word`."""
    UPGRADE = "upgrade"
    """The socket ends, and the next upgrades are answered with the status `word`."""
    NEVER_ACCEPT = "never_accept"
    MUTE = "mute"
    """Heartbeats are not answered; events go on."""
    REVOKE = "revoke"
    """Every token is worth nothing any more; then the socket ends."""
    TOKEN = "token"
    """The token endpoint is in trouble (`word`), every token is revoked, and the socket ends."""
    STALL = "stall"
    SUSPEND = "suspend"
    DISK = "disk"
    """Nothing can be written."""
    DAMAGE = "damage"
    """The spool is damaged as `word` says: while it is open, or when the relay is killed (and started again
    after `seconds`)."""
    CLOCK = "clock"
    """Somebody sets the wall clock by `seconds`."""
    RECEIVER = "receiver"
    """The receiver is `word`: down, slow, torn (takes it, says nothing), nonsense."""
    RUBBISH = "rubbish"
    """A frame of kind `word`."""
    DISORDER = "disorder"
    """Duplicates, late and swapped events, as `word` says."""
    RELOAD = "reload"
    """HUP, with another `word` (address, secret) for every source where there is one."""


@dataclass(frozen=True)
class Step:
    """One fault."""

    at: float
    kind: Kind
    seconds: float = 0.0
    word: str = ""
    path: int = 0
    """Which of the subscriptions, where it concerns one."""


@dataclass(frozen=True)
class Schedule:
    """Everything that will happen; times are seconds from the start."""

    seed: int
    seconds: float
    paths: int
    """How many subscriptions."""
    steps: tuple[Step, ...]
    portions: tuple[tuple[float, int], ...]
    """When how many events are sent at once."""

    def __str__(self) -> str:
        told = [f"{s.at:.3f} {s.kind} {s.word} {s.seconds:.2f} s, path {s.path}" for s in self.steps]
        return "\n".join([f"{self.seconds:.1f} s, {self.paths} subscriptions", *told])


@dataclass(frozen=True)
class Bounds:
    """What schedules are drawn from."""

    kinds: Sequence[Kind]
    seconds: tuple[float, float]
    faults: tuple[int, int]
    portions: tuple[int, int]
    longest_seconds: float
    """Of what lasts."""
    first_seconds: float = 0.0
    """No fault before this."""
    most_paths: int = 2


def draw(seed: int, bounds: Bounds) -> Schedule:
    """The schedule of this seed: the same each time."""
    random = Random(f"schedule {seed}")
    seconds = random.uniform(*bounds.seconds)
    paths = random.randint(1, bounds.most_paths)
    steps: list[Step] = []
    for _ in range(random.randint(*bounds.faults)):
        at = random.uniform(bounds.first_seconds, seconds)
        steps.append(_step(random, bounds, at, paths))
        if random.random() < 0.35:  # two at once, or nearly
            steps.append(
                _step(random, bounds, min(seconds, at + random.choice((0.0, 0.003, 0.05, 0.5))), paths)
            )
    # Only a spool that holds something can lose it.
    damages = [step for step in steps if step.kind is Kind.DAMAGE and random.random() < 0.7]
    steps += [_down_before(step, random.uniform(0.0, bounds.longest_seconds)) for step in damages]
    times = sorted(random.uniform(0, seconds) for _ in range(random.randint(*bounds.portions)))
    # Faults like company: many an event comes just before or after one.
    times += [max(0.0, step.at + random.gauss(0, 0.02)) for step in steps for _ in range(2)]
    portions = sorted((at, random.choice((1, 1, 1, 2, 5, 20))) for at in times)
    return Schedule(seed, seconds, paths, tuple(sorted(steps, key=lambda s: s.at)), tuple(portions))


def _down_before(step: Step, seconds: float) -> Step:
    start = max(0.0, step.at - seconds)
    return Step(start, Kind.RECEIVER, step.at - start + 1.0, "down")


def _step(random: Random, bounds: Bounds, at: float, paths: int) -> Step:
    kind = random.choice(bounds.kinds)
    longest = bounds.longest_seconds
    seconds, word = random.uniform(0.0, longest), ""
    match kind:
        case Kind.KILL | Kind.STOP:
            seconds = random.choice((0.0, random.uniform(0, longest)))
        case Kind.CLOSE:
            word = str(random.choice(CODES))
        case Kind.REFUSE:
            word = random.choice(WORDINGS)
        case Kind.UPGRADE:
            word = random.choice(("401", "404", "429", "500", "503"))
        case Kind.TOKEN:
            word = random.choice(("down", "429", "html", "invalid_client", "app_disabled"))
        case Kind.DAMAGE:
            word = random.choice(DAMAGES)
        case Kind.CLOCK:
            seconds = random.choice((-1, 1)) * random.choice((1800, 7200, 86400 * 30, 86400 * 3650))
        case Kind.RECEIVER:
            word = random.choice(("down", "slow", "torn", "nonsense"))
        case Kind.RUBBISH:
            word = random.choice(("harmless", "harmless", "oversize"))
        case Kind.DISORDER:
            word = random.choice(("duplicate", "late", "reorder"))
        case Kind.RELOAD:
            word = random.choice(("address", "address", "secret"))
    return Step(at, kind, seconds, word, random.randrange(paths))
