import base64
import hashlib
from random import Random
from urllib.parse import parse_qsl, urlsplit

import pytest

from zoomrelay.auth.consent import Consent, begin, is_loopback
from zoomrelay.errors import ConsentError, StrangeRedirect

BACK = "http://127.0.0.1:4321/callback"


@pytest.fixture
def consent() -> Consent:
    return begin("client&id", BACK, Random(1))


def test_what_the_browser_is_sent_to(consent: Consent) -> None:
    address = urlsplit(consent.address("https://zoom.us/oauth/authorize"))
    asked = dict(parse_qsl(address.query))
    digest = hashlib.sha256(consent.verifier.encode()).digest()
    assert address.geturl().startswith("https://zoom.us/oauth/authorize?")
    assert asked == {
        "response_type": "code",
        "client_id": "client&id",
        "redirect_uri": BACK,
        "state": consent.state,
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
        "code_challenge_method": "S256",
    }
    assert 43 <= len(consent.verifier) <= 128, "RFC 7636, 4.1"
    assert consent.verifier not in address.geturl()


def test_each_attempt_has_secrets_of_its_own_which_do_not_show(consent: Consent) -> None:
    random = Random(2)
    first, second = begin("c", BACK, random), begin("c", BACK, random)
    assert len({first.state, first.verifier, second.state, second.verifier}) == 4
    assert first.state not in repr(first) and first.verifier not in repr(first)


def test_the_code_comes_with_the_state(consent: Consent) -> None:
    assert consent.code_in(f"code=abc%2B&state={consent.state}") == "abc+"
    assert consent.code_pasted(f" {BACK}?code=abc&state={consent.state}#top\n") == "abc"
    assert consent.code_pasted(f"code=abc&state={consent.state}") == "abc"
    assert consent.code_pasted("obB1-c_d.e~f+/==") == "obB1-c_d.e~f+/=="


@pytest.mark.parametrize(
    "query", ["code=abc&state=other", "code=abc", "", "error=access_denied", "state=", "code=abc&state=%FF"]
)
def test_an_answer_to_another_question_is_not_ours(consent: Consent, query: str) -> None:
    with pytest.raises(StrangeRedirect, match="another login"):
        consent.code_in(query)


@pytest.mark.parametrize("text", ["https://zoom.us/signin", "two words", "", f"{BACK}?state=x&code=y"])
def test_what_is_pasted_may_be_something_else(consent: Consent, text: str) -> None:
    with pytest.raises(StrangeRedirect):
        consent.code_pasted(text)


def test_no_is_an_answer(consent: Consent) -> None:
    with pytest.raises(ConsentError, match="declined"):
        consent.code_in(f"error=access_denied&state={consent.state}")
    with pytest.raises(ConsentError, match=r"invalid_request 4700.*127\.0\.0\.1"):
        consent.code_in(f"error=invalid_request&error_description=4700&state={consent.state}")
    with pytest.raises(StrangeRedirect, match="no code"):
        consent.code_in(f"state={consent.state}")


@pytest.mark.parametrize(
    ("uri", "loopback"),
    [(BACK, True), ("http://127.0.0.1", True), ("https://app.example/back", False)],
)
def test_redirects_that_zoom_takes(uri: str, loopback: bool) -> None:
    assert is_loopback(uri) is loopback


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:8080/callback",
        "http://app.example/back",
        "http://[::1]/back",
        "https://",
        "",
        "http://127.0.0.1:port/",
        "https://app.example/#x",
    ],
)
def test_redirects_that_zoom_would_refuse(uri: str) -> None:
    with pytest.raises(ValueError, match=r"4700|is no URL"):
        is_loopback(uri)
