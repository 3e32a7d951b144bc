import base64
import json
from random import Random

import pytest

from zoomrelay.simulator.tokens import Credentials, TokenBook

KNOWN = Credentials()
CLIENT = (KNOWN.client_id, KNOWN.client_secret)


def _book(**options: int) -> TokenBook:
    return TokenBook(Random(1), KNOWN, expires_in_seconds=options.get("life", 3599))


def _token(book: TokenBook, now: float = 0, **options: bool) -> str:
    return str(book.issue("account_credentials", now, **options)["access_token"])


@pytest.mark.parametrize(
    ("client", "parameters", "refusal"),
    [
        (CLIENT, {"grant_type": "account_credentials", "account_id": KNOWN.account_id}, ""),
        (CLIENT, {"grant_type": "client_credentials"}, ""),
        (CLIENT, {"grant_type": "account_credentials", "account_id": "other"}, "invalid_request"),
        (CLIENT, {"grant_type": "account_credentials"}, "invalid_request"),
        (CLIENT, {"grant_type": "password"}, "unsupported_grant_type"),
        (CLIENT, {}, "unsupported_grant_type"),
        ((KNOWN.client_id, "wrong"), {"grant_type": "client_credentials"}, "invalid_client"),
        (("", ""), {"grant_type": "client_credentials"}, "invalid_client"),
    ],
)
def test_who_gets_a_token(client: tuple[str, str], parameters: dict[str, str], refusal: str) -> None:
    assert _book().refusal(client, parameters) == refusal


def test_a_token_is_long_and_looks_like_a_jwt() -> None:
    book = _book()
    token = _token(book, 1_790_000_000)
    head, claims, signature = token.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert 600 < len(token) < 1000
    assert head.startswith("eyJ") and signature
    assert decoded["exp"] == 1_790_000_000 + 3599
    assert decoded["aid"] == KNOWN.account_id


def test_judgements() -> None:
    book = _book(life=100)
    token = _token(book, 1000)
    assert book.judge("", 1000) == "token is empty"
    assert book.judge("other", 1000) == "Invalid Token"
    assert book.judge(token, 1099) == ""
    assert book.judge(token, 1100) == "Token is invalid"


def test_several_tokens_live_at_once_unless_told_otherwise() -> None:
    book = _book()
    first, second = _token(book), _token(book)
    assert (book.judge(first, 1), book.judge(second, 1)) == ("", "")
    third = _token(book, kills_older=True)
    assert (book.judge(second, 1), book.judge(third, 1)) == ("Invalid Token", "")


def test_revoking() -> None:
    book = _book()
    token = _token(book)
    book.revoke_all()
    assert book.judge(token, 1) == "Invalid Token"


def test_no_more_than_so_many_live_at_once() -> None:
    book = _book()
    tokens = [str(book.issue("client_credentials", 0, limit=2)["access_token"]) for _ in range(3)]
    assert [book.judge(token, 1) for token in tokens] == ["Invalid Token", "", ""]


def test_scopes_are_those_of_the_grant_or_those_asked_for() -> None:
    book = _book()
    assert "user:read:user:admin" in str(book.issue("account_credentials", 0)["scope"])
    assert "user:read" not in str(book.issue("client_credentials", 0)["scope"])
    token = str(book.issue("client_credentials", 0, scopes="a b")["access_token"])
    found = book.find(token, 1)
    assert found is not None and found.scopes == ("a", "b")
    assert book.find(token, 3599) is None
    assert book.revoke(token) and not book.revoke(token)


def test_who_may_come_without_a_secret() -> None:
    book = _book()
    public = (KNOWN.client_id, "")
    assert book.refusal(public, {"grant_type": "refresh_token"}) == ""
    assert book.refusal(public, {"grant_type": "client_credentials"}) == "invalid_client"
    assert book.refusal(("other", ""), {"grant_type": "refresh_token"}) == "invalid_client"


def test_secrets_change() -> None:
    book = _book()
    book.secrets = {"new", KNOWN.client_secret}
    assert [book.knows((KNOWN.client_id, secret)) for secret in ("new", KNOWN.client_secret)] == [True, True]
    book.secrets = {"new"}
    assert not book.knows(CLIENT)
