"""What is told about another consumer of our subscription: metrics, and one log line per change."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from zoomrelay import causes
from zoomrelay.session.contest import Contest
from zoomrelay.session.endings import Cause, Ending
from zoomrelay.session.figures import PathFigures


class Rivalry:
    """Tells of one path's `Contest`."""

    def __init__(self, contest: Contest, figures: PathFigures, log: FilteringBoundLogger) -> None:
        self._contest = contest
        self._figures = figures
        self._log = log
        self._told = False

    def ended(self, ending: Ending, delay_seconds: float) -> None:
        """A socket or an attempt ended, and the next attempt is so far away."""
        if self._contest.displaced:
            self._figures.displaced()
            self._log.error(
                "session.displaced",
                detail=ending.detail,
                cure=ending.cure,
                times=self._contest.steps,
                retry_seconds=round(delay_seconds, 1),
            )
        elif self._contest.unsaid and ending.cause is Cause.CLOSED:
            self._figures.displaced()
        self.tell()

    def tell(self) -> None:
        """What has changed since the last time."""
        contested = self._contest.contested
        if contested == self._told:
            return
        self._told = contested
        self._figures.contested(contested)
        if not contested:
            self._log.info("session.uncontested")
        elif self._contest.unsaid:
            self._log.warning(
                "session.contested", closes=self._contest.brief_lives, cure=causes.CONTESTED.cure
            )
