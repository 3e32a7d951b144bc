"""One table of causes: complete, without contradictions, and the same as the document."""

from __future__ import annotations

import pytest

from tests.support.process import ROOT
from zoomrelay import causes
from zoomrelay.causes import SECTIONS, Section
from zoomrelay.doctor.handbook import written

OAUTH_CODES = (
    *(4700, 4702, 4704, 4705, 4706, 4709, 4711, 4717, 4724),
    *(4732, 4733, 4734, 4735, 4737, 4738, 4740, 4741),
)
"""Zoom's page of OAuth error codes."""
REST_CODES = (124, 4711, 200, 429, 4001)
CLOSE_CODES = (1000, 1001, 1006, 1008, 1011, 4001, 4003)
"""Those that somebody has seen or claims to."""
OAUTH_WORDS = (
    *("invalid_client", "invalid_request", "unsupported_grant_type", "invalid_grant"),
    *("unauthorized_client", "invalid_scope", "access_denied", "server_error", "temporarily_unavailable"),
)
"""RFC 6749, 4.1.2.1 and 5.2."""
UPGRADE_STATUSES = (400, 401, 403, 404, 408, 425, 429)
SAID = {
    "No token": (
        "Invalid client_id or client_secret",
        "Bad Request",
        "unsupported grant type",
        "Invalid authorization code",
        "The app has been disabled",
        "Invalid redirect",
    ),
    "The token, tried on REST": (
        "Invalid access token.",
        "Access token is expired.",
        "not supported as query parameter string",
        "Invalid access token, does not contain scopes:[…]",
        "Invalid api key or secret.",
    ),
    "A socket, but not accepted": (
        "token is empty",
        "Invalid Token",
        "Token is invalid",
        "invalid_token",
        "Connected in another place",
    ),
    "Accepted, and then": ("Bye",),
}
"""Texts that Zoom's users quote, by where they are met."""
ROOMS = {
    "dns", "tcp", "timeout", "proxy", "tls", "token_url", "oversize", "not_json", "redirected", "no_token",
    "rate_limited", "login_needed", "refresh_token_lost", "interrupted", "cache_busy", "cache_unwritable",
    "url", "closed", "reset", "silent", "displaced", "refused_token", "refused", "not_accepted", "protocol",
}  # fmt: skip
"""Reasons that the rooms themselves give."""


@pytest.mark.parametrize(
    ("section", "codes"),
    [(causes.TOKEN, OAUTH_CODES), (causes.REST, REST_CODES), (causes.ENDING, CLOSE_CODES)],
    ids=lambda value: value.title if isinstance(value, Section) else "",
)
def test_every_code_has_a_cause(section: Section, codes: tuple[int, ...]) -> None:
    assert [code for code in codes if section.by_code(code) is None] == []


def test_every_word_and_status_has_a_cause() -> None:
    assert [word for word in OAUTH_WORDS if causes.TOKEN.by_word(word) is None] == []
    assert [status for status in UPGRADE_STATUSES if causes.UPGRADE.by_status(status) is None] == []


@pytest.mark.parametrize("title", SAID)
def test_every_text_has_a_cause(title: str) -> None:
    (section,) = (one for one in SECTIONS if one.title == title)
    told = {text for cause in section.causes for text in cause.says}
    assert set(SAID[title]) <= told


def test_every_reason_of_the_rooms_is_explained() -> None:
    assert {cause.key for section in SECTIONS for cause in section.causes} >= ROOMS


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_a_section_says_each_thing_once(section: Section) -> None:
    for signs in ("codes", "words", "statuses", "phrases"):
        told = [sign for cause in section.causes for sign in getattr(cause, signs)]
        assert len(told) == len(set(told)), signs
    keys = [cause.key for cause in section.causes]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_each_cause_is_told_in_plain_words(section: Section) -> None:
    for cause in section.causes:
        assert cause.meaning.endswith("."), cause.key
        assert cause.cure and not cause.cure.endswith("."), cause.key
        assert "|" not in cause.meaning + cause.cure, "it would break the document's table"


def test_phrases_are_found_in_any_case() -> None:
    assert causes.TOKEN.by_phrase("THE APP HAS BEEN DISABLED.") is causes.APP_DISABLED
    assert causes.TOKEN.by_phrase("something new") is None


def test_the_document_is_made_of_the_table() -> None:
    document = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert document == written(document), "make docs"
    assert all(f"| `{cause.key}` |" in document for section in SECTIONS for cause in section.causes)
