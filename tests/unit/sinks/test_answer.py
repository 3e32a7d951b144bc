"""What an answer means."""

from __future__ import annotations

import pytest

from zoomrelay.errors import SinkRejected, SinkUnavailable
from zoomrelay.sinks import answer


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert answer.delivered(status)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_asks_for_another_try(status: int) -> None:
    error = answer.refusal(status, dead_letter_on=(), retry_after=7.0, excerpt="busy")
    assert isinstance(error, SinkUnavailable)
    assert (error.status, error.retry_after, error.excerpt) == (status, 7.0, "busy")


@pytest.mark.parametrize(
    "status", [101, 301, 302, 307, 400, 401, 403, 404, 405, 409, 410, 413, 422, 451, 499]
)
def test_says_no(status: int) -> None:
    assert not answer.delivered(status)
    error = answer.refusal(status, dead_letter_on=(422_000,), excerpt="no")
    assert isinstance(error, SinkRejected)
    assert (error.status, error.final, error.excerpt) == (status, False, "no")


@pytest.mark.parametrize("status", [422, 429, 503])
def test_dead_letter_on_settles_it(status: int) -> None:
    error = answer.refusal(status, dead_letter_on=(422, 429, 503))
    assert isinstance(error, SinkRejected)
    assert error.final


def test_reasons_are_few_words() -> None:
    assert answer.refusal(503, dead_letter_on=()).reason == "HTTP 503 Service Unavailable"
    assert answer.refusal(302, dead_letter_on=()).reason == "HTTP 302 (redirects are not followed)"
    assert answer.refusal(499, dead_letter_on=()).reason == "HTTP 499"


def test_an_excerpt_is_short_readable_and_holds_no_secret() -> None:
    assert answer.excerpt(b"\xff" + b"x" * 1000) == "\ufffd" + "x" * 499
    assert (
        answer.excerpt(b"Cannot POST /hook?sig=s3cret-s3cret", ["s3cret-s3cret"])
        == "Cannot POST /hook?sig=***"
    )
    assert "s3cret" not in answer.excerpt(b"x" * 495 + b"s3cret-s3cret", ["s3cret-s3cret"])
