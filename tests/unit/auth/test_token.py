from __future__ import annotations

import base64
import json

import pytest

from zoomrelay.auth.grants import Grants, Verdict
from zoomrelay.auth.refusals import classify
from zoomrelay.auth.token import Instant, Token, read_token
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import TokenRefused, TokenUnavailable
from zoomrelay.retry_after import retry_after_seconds

NOW = Instant(loop=100.0, elapsed=5000.0)


def jwt(**claims: object) -> str:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{part}.c2ln"


def read(**answer: object) -> Token | None:
    return read_token(answer, grant="client_credentials", issued=NOW)


def test_the_usual_answer() -> None:
    token = read(
        access_token="abc",
        token_type="bearer",
        expires_in=3599,
        scope="a b",
        api_url="https://api-eu.zoom.us",
    )
    assert token == Token("abc", "client_credentials", NOW, 3599.0, ("a", "b"), "https://api-eu.zoom.us")
    assert "abc" not in repr(token)


@pytest.mark.parametrize(
    ("answer", "life", "scopes"),
    [
        ({"Access_token": "t", "Token_type": "bearer", "Expire_in": 60}, 60, ()),
        ({"access_token": "t", "expires_in": "120", "scope": ["a", 1, "b"]}, 120, ("a", "b")),
        ({"access_token": "t", "scope": "a,b"}, 3600, ("a", "b")),
        ({"access_token": "t", "expires_in": -1}, 3600, ()),
        ({"access_token": "t", "expires_in": True}, 3600, ()),
        ({"access_token": "t", "expires_in": "soon"}, 3600, ()),
        ({"access_token": "t", "expires_in": 10**400}, 3600, ()),
        ({"access_token": jwt(exp=1_700_001_800, iat=1_700_000_000)}, 1800, ()),
        ({"access_token": jwt(exp=1_700_001_800, iat=1_700_000_000), "expires_in": 60}, 60, ()),
        ({"access_token": jwt(exp=1_700_001_800)}, 3600, ()),
        ({"access_token": "a.b.c"}, 3600, ()),
        ({"access_token": "a.é.c"}, 3600, ()),
        ({"access_token": "e30.W10.x"}, 3600, ()),
    ],
)
def test_sloppy_answers(answer: dict[str, object], life: float, scopes: tuple[str, ...]) -> None:
    token = read(**answer)
    assert token is not None
    assert (token.life_seconds, token.scopes) == (life, scopes)


@pytest.mark.parametrize("answer", [{}, {"access_token": ""}, {"access_token": None}, {"token": "x"}])
def test_no_token(answer: dict[str, object]) -> None:
    assert read(**answer) is None


def test_life_goes_by_the_clock_that_says_more() -> None:
    token = Token("t", "g", NOW, 3600.0)
    assert token.life_left(Instant(200.0, 5100.0)) == 3500
    assert token.life_left(Instant(200.0, 8700.0)) == -100, "the machine slept"
    assert token.life_left(Instant(200.0, 5000.0)) == 3500


WALL = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 1.5 ", 1.5),
        ("-3", 0),
        ("Wed, 21 Oct 2015 07:29:00 GMT", 60),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0),
        ("2015-10-21T07:28:30Z", 30),
        ("2015-10-21T09:28:30+02:00", 30),
        ("2015-10-21T07:28:30", 30),
        ("", None),
        (None, None),
        ("later", None),
        ("nan", None),
        ("inf", None),
        ("9999-99-99T00:00:00Z", None),
    ],
)
def test_retry_after_in_its_forms(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, WALL) == seconds


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (400, {"reason": "Invalid client_id or client_secret", "error": "invalid_client"}, "invalid_client"),
        (401, {"error": "invalid_client"}, "invalid_client"),
        (400, {"reason": "Bad Request", "error": "invalid_request"}, "invalid_request"),
        (
            400,
            {"reason": "unsupported grant type", "error": "unsupported_grant_type"},
            "unsupported_grant_type",
        ),
        (400, {"Reason": "unsupported grant type"}, "unsupported_grant_type"),
        (400, {"code": 4717, "message": "The app has been disabled."}, "app_disabled"),
        (400, {"message": "The app has been disabled (4738)"}, "app_disabled"),
        (401, {"errorCode": "4735", "errorMessage": "x"}, "owner_missing"),
        (401, {"code": 4741}, "token_revoked"),
        (200, {"error": "invalid_client"}, "invalid_client"),
        (418, {"something": "else"}, "http_418"),
    ],
)
def test_refusals_are_permanent_and_name_a_cure(status: int, answer: dict[str, object], reason: str) -> None:
    error = classify(status, answer, json.dumps(answer), None)
    assert isinstance(error, TokenRefused)
    assert error.reason == reason
    assert error.cure
    assert not error.retryable


def test_zooms_own_words_are_kept() -> None:
    answer = {"reason": "Invalid client_id\n or client_secret", "error": "invalid_client"}
    assert '"Invalid client_id or client_secret"' in str(classify(400, answer, "", None))


@pytest.mark.parametrize(
    ("status", "answer", "text", "reason"),
    [
        (429, {"code": 429}, "", "rate_limited"),
        (500, {"error": "invalid_client"}, "", "http_500"),
        (503, None, "<html>", "http_503"),
        (403, None, "<html>invalid client, says the gateway</html>", "not_json"),
        (400, None, "", "not_json"),
        (302, None, "", "redirected"),
        (200, {}, "{}", "no_token"),
        (200, None, "<html>sign in</html>", "not_json"),
    ],
)
def test_trouble_that_passes(status: int, answer: dict[str, object] | None, text: str, reason: str) -> None:
    error = classify(status, answer, text, 7.0)
    assert isinstance(error, TokenUnavailable)
    assert (error.reason, error.retry_after) == (reason, 7.0)


def test_bare_text_is_a_refusal_where_it_is_known() -> None:
    assert classify(400, None, "unsupported grant type", None).reason == "unsupported_grant_type"


def grants(grant: str = "auto", account_id: str = "a") -> Grants:
    fields = {"name": "m", "client_id": "c", "client_secret": "s", "grant": grant, "account_id": account_id}
    return Grants(SourceConfig.model_validate(fields))


def test_auto_tries_the_other_grant_once_and_then_begins_again() -> None:
    subject = grants()
    story = [(subject.current, subject.refused()) for _ in range(5)]
    assert story == [
        ("account_credentials", Verdict.REFRESH),
        ("account_credentials", Verdict.OTHER_GRANT),
        ("client_credentials", Verdict.EXHAUSTED),
        ("account_credentials", Verdict.OTHER_GRANT),
        ("client_credentials", Verdict.EXHAUSTED),
    ]
    assert subject.exhausted


def test_what_worked_is_remembered() -> None:
    subject = grants()
    subject.refused()
    subject.refused()
    assert subject.accepted("client_credentials")
    assert not subject.accepted("client_credentials")
    story = [(subject.current, subject.refused()) for _ in range(4)]
    assert [grant for grant, _ in story] == [
        "client_credentials",
        "client_credentials",
        "account_credentials",
        "client_credentials",
    ]


@pytest.mark.parametrize(
    ("subject", "grant"),
    [(grants("auto", ""), "client_credentials"), (grants("client_credentials"), "client_credentials")],
)
def test_without_a_choice_there_is_no_other_grant(subject: Grants, grant: str) -> None:
    assert [(subject.current, subject.refused()) for _ in range(3)] == [
        (grant, Verdict.REFRESH),
        (grant, Verdict.EXHAUSTED),
        (grant, Verdict.EXHAUSTED),
    ]
