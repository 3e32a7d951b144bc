"""What a receiver's HTTP answer means: pure."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus

from zoomrelay.errors import SinkError, SinkRejected, SinkUnavailable

EXCERPT_LENGTH = 500
"""Characters of an answer's body that are kept for the dead letter."""

_LATER = frozenset({408, 425, 429})


def delivered(status: int) -> bool:
    return 200 <= status < 300


def refusal(
    status: int,
    *,
    dead_letter_on: Collection[int],
    retry_after: float | None = None,
    excerpt: str = "",
    about: str = "",
) -> SinkError:
    """The error that an answer other than 2xx stands for. `about` is put before its reason.

    A status in `dead_letter_on` is final, whatever it is. 408, 425, 429 and 5xx ask for another try;
    everything else, redirects included, says no.
    """
    reason = about + _reason(status)
    if status in dead_letter_on:
        return SinkRejected(reason, final=True, excerpt=excerpt, status=status)
    if status in _LATER or status >= 500:
        return SinkUnavailable(reason, retry_after=retry_after, excerpt=excerpt, status=status)
    return SinkRejected(reason, excerpt=excerpt, status=status)


def excerpt(body: bytes, secrets: Collection[str] = ()) -> str:
    """The start of an answer's body as text, with every one of `secrets` that it repeats blotted out."""
    text = body.decode("utf-8", "replace")
    for secret in secrets:
        text = text.replace(secret, "***")
    return text[:EXCERPT_LENGTH]


def _reason(status: int) -> str:
    if 300 <= status < 400:
        return f"HTTP {status} (redirects are not followed)"
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"
