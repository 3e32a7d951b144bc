"""What the manager of tokens tells about itself: happenings in the log, figures as metrics."""

from __future__ import annotations

import structlog

from zoomrelay.auth.token import Token
from zoomrelay.errors import TokenError, TokenRefused
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

WARN_BEFORE_SECONDS = 14 * 86400.0
WARN_EVERY_SECONDS = 86400.0


def login_cure(source: str) -> str:
    return f"run: zoomrelay login --source {source}"


class Announcer:
    """Speaks for one source. The same trouble is told once."""

    def __init__(self, source: str, metrics: Metrics) -> None:
        self._source = source
        self._metrics = metrics
        self._log = log.bind(source=source)
        self._reason = ""
        self._refused_label = ""
        self._warned_at: float | None = None
        self._told_interrupted = False

    def issued(self, token: Token) -> None:
        self._count("issued")
        self._log.info(
            "auth.token_issued",
            grant=token.grant,
            life_seconds=round(token.life_seconds),
            scopes=len(token.scopes),
        )

    def adopted(self, token: Token, left_seconds: float) -> None:
        """A token was found that another process, or an earlier one, had got."""
        self._log.info("auth.token_adopted", grant=token.grant, left_seconds=round(left_seconds))

    def works(self) -> None:
        """There is a token, so whatever was in the way is gone."""
        self._reason = ""
        self._told_interrupted = False
        self._mark_refused("")

    def failed(
        self, error: TokenError, *, wait_seconds: float, token_left_seconds: float, asked: bool
    ) -> None:
        """`asked`: by ourselves, just now."""
        refused = isinstance(error, TokenRefused)
        if asked:
            self._count("refused" if refused else "unavailable")
        self._mark_refused(_label(error) if refused else "")
        if self._reason == error.reason:
            return
        self._reason = error.reason
        say = self._log.error if refused else self._log.warning
        say(
            "auth.credentials_refused" if refused else "auth.endpoint_unavailable",
            reason=error.reason,
            error=str(error),
            cure=error.cure or None,
            retry_seconds=round(wait_seconds, 1),
            token_left_seconds=max(0, round(token_left_seconds)),
        )

    def usable(self, usable: bool) -> None:
        self._metrics.token_usable.labels(self._source).set(usable)

    def expires(self, wall: float) -> None:
        self._metrics.token_expires.labels(self._source).set(wall)

    def refresh_ends(self, ends: float, wall: float) -> None:
        """When the refresh token ends; a warning a day from two weeks before."""
        self._metrics.refresh_token_expires.labels(self._source).set(ends)
        left_seconds = ends - wall
        if left_seconds > WARN_BEFORE_SECONDS:
            self._warned_at = None
        elif self._warned_at is None or not 0 <= wall - self._warned_at < WARN_EVERY_SECONDS:
            self._warned_at = wall
            self._log.warning(
                "auth.refresh_token_ends",
                left_days=round(max(0.0, left_seconds) / 86400, 1),
                cure=login_cure(self._source),
            )

    def interrupted(self) -> None:
        """The answer to the last refresh was lost."""
        if self._told_interrupted:
            return
        self._told_interrupted = True
        self._log.warning(
            "auth.refresh_interrupted",
            detail="the answer to the last refresh never arrived or was not stored, so Zoom may have"
            " replaced the refresh token; the old one is tried once more",
        )

    def _count(self, result: str) -> None:
        self._metrics.token_requests.labels(self._source, result).inc()

    def _mark_refused(self, label: str) -> None:
        if self._refused_label and self._refused_label != label:
            self._metrics.token_refused.labels(self._source, self._refused_label).set(0)
        if label:
            self._metrics.token_refused.labels(self._source, label).set(1)
        self._refused_label = label


def _label(error: TokenError) -> str:
    """The reasons are a closed list, but for statuses that nobody expects."""
    return "http" if error.reason.startswith("http_") else error.reason
