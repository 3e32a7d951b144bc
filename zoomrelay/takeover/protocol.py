"""What each side of a takeover does next. Pure: times are passed in, seconds of any one clock."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from zoomrelay.errors import TakeoverRefused

ACCEPT_SECONDS = 30.0
"""So long the new one tries to be accepted on every subscription."""
LIMIT_SECONDS = 60.0
"""So long the old one waits for `ready`; then the new one hangs."""


class Phase(StrEnum):
    """Of the old side."""

    SERVING = "serving"
    BEGUN = "begun"
    STOPPING = "stopping"


class OldSide:
    """The relay that is being taken over."""

    def __init__(self) -> None:
        self.phase = Phase.SERVING
        self._since = 0.0

    def begin(self, now: float) -> None:
        """Raises `TakeoverRefused` while another takeover is under way."""
        if self.phase is not Phase.SERVING:
            raise TakeoverRefused("another takeover is under way")
        self.phase, self._since = Phase.BEGUN, now

    def ready(self, accepted: Collection[str], listening: Collection[str]) -> None:
        """The new one is accepted on these. Raises `TakeoverRefused` where it lacks one on which the old one
        listens, or nothing was begun."""
        if self.phase is not Phase.BEGUN:
            raise TakeoverRefused("no takeover is under way")
        if missing := sorted(set(listening) - set(accepted)):
            raise TakeoverRefused(
                f"the running relay listens to {', '.join(missing)}, and the new one does not"
            )
        self.phase = Phase.STOPPING

    def overdue(self, now: float) -> bool:
        return self.phase is Phase.BEGUN and now - self._since >= LIMIT_SECONDS

    def cancel(self) -> bool:
        """It comes to nothing; False where it is too late for that."""
        if self.phase is not Phase.BEGUN:
            return False
        self.phase = Phase.SERVING
        return True

    def seconds(self, now: float) -> float:
        return now - self._since


@dataclass(frozen=True, slots=True)
class PathNow:
    """One subscription of the new side."""

    accepted: bool = False
    refused: bool = False
    """Zoom refused it beside the old one's connection."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the old one to close these; then try at once."""

    paths: list[str]


class Ready:
    """Say that these are all that will be accepted."""


Step = Ask | Ready | None


def next_step(paths: Mapping[str, PathNow], waited_seconds: float) -> Step:
    """What the new side does now; None: wait."""
    if all(path.accepted for path in paths.values()) or waited_seconds >= ACCEPT_SECONDS:
        return Ready()
    refused = [name for name, path in paths.items() if path.refused and not path.accepted]
    return Ask(refused) if refused else None
