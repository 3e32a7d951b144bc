"""The header `Retry-After` in the three forms that Zoom uses. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after_seconds(value: str | None, wall: float) -> float | None:
    """Seconds to wait as of `wall` (seconds since the epoch); None where the header says nothing.

    Seconds and HTTP dates are RFC 9110; Zoom sends an ISO-8601 date-time for its daily limits.
    """
    if value is None or not (value := value.strip()):
        return None
    try:
        seconds = float(value)
    except ValueError:
        moment = _moment(value)
        if moment is None:
            return None
        seconds = moment - wall
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _moment(value: str) -> float | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
    return None
