"""Why a connection ended, in words that anybody may read."""

from __future__ import annotations

import pytest

from zoomrelay.errors import ConnectionEnded
from zoomrelay.session.endings import Cause, connection_ended, refusal

TOKEN = "eyJhbGciOiJIUzUxMiJ9.planted-access-token.signature"


@pytest.mark.parametrize("text", [f"Access token {TOKEN} is expired", f"token={TOKEN * 20}", f'"{TOKEN}"'])
def test_no_word_of_zooms_that_may_be_a_token_is_repeated(text: str) -> None:
    ended = connection_ended(ConnectionEnded("closed", code=1000, reason=text))
    for ending in (refusal(text), ended):
        assert "***" in ending.detail
        assert TOKEN[:12] not in ending.detail


def test_other_words_are_repeated_but_not_without_end() -> None:
    assert refusal("Invalid   access token\n").detail == 'Zoom says "Invalid access token"'
    assert refusal("Invalid access token").cause is Cause.REFUSED_TOKEN
    assert len(refusal("so it " * 1000).detail) < 250
