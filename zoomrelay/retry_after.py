"""The header `Retry-After`, in every form that is met. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after_seconds(value: str | None, wall: float) -> float | None:
    """Seconds to wait as of `wall` (seconds since the epoch); None where the header says nothing usable.

    RFC 9110 has whole seconds and HTTP dates; ISO 8601 date-times and fractions are met as well. A
    moment that has passed means 0, one without a zone is UTC.
    """
    text = (value or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        moment = _iso_moment(text) or _http_moment(text)
        if moment is None:
            return None
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - wall
    return max(0.0, seconds) if math.isfinite(seconds) else None


def wait_asked_for(headers: Mapping[str, str], wall: float) -> float | None:
    """What an answer's headers (found in any case) ask for, in seconds; None where that is nothing usable."""
    return retry_after_seconds(headers.get("retry-after"), answered_at(headers.get("date"), wall))


def answered_at(date: str | None, wall: float) -> float:
    """When an answer was made by the clock that its `Date` header tells, which a date in its `Retry-After`
    is by too: so ours need not be right. `wall` where the header is missing or odd."""
    moment = _http_moment((date or "").strip())
    return wall if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _iso_moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _http_moment(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):  # on odd input it raises more than it documents
        return None
