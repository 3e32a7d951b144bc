"""`Retry-After` in every form that is met."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomrelay.retry_after import retry_after_seconds

NOON = 1_769_860_800.0  # 2026-01-31T12:00:00Z


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("-5", 0.0),
        ("Sat, 31 Jan 2026 12:01:30 GMT", 90.0),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 0.0),
        ("2026-01-31T12:00:30Z", 30.0),
        ("2026-01-31T13:00:30+01:00", 30.0),
        ("2026-01-31T12:00:30", 30.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_forms(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOON) == seconds


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=40) | st.datetimes().map(str))
def test_never_raises_and_never_goes_back(value: str) -> None:
    seconds = retry_after_seconds(value, NOON)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))
