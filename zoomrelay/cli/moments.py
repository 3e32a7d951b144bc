"""Moments as people name them on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def milliseconds(text: str, now: datetime, option: str) -> int:
    """What `option` means by this: "2h" ago, or an ISO time (UTC unless it says otherwise); milliseconds
    since the epoch. A usage error if it means nothing."""
    try:
        if found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip()):
            moment = now - timedelta(seconds=float(found[1]) * _UNITS[found[2]])
        else:
            moment = datetime.fromisoformat(text.strip())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            'must be like "90s", "30m", "2h", "7d", "2w", or an ISO time like "2026-01-31T12:00"',
            param_hint=option,
        ) from error
