import base64
import hashlib
from random import Random

import pytest

from zoomrelay.simulator.codes import Ask, Codes, redirect_allowed

HOME = "https://app.example/back"
VERIFIER = "v" * 43
S256 = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("uri", "plain", "pkce"),
    [
        ("https://app.example/back", True, True),
        ("https://localhost/back", True, True),
        ("http://127.0.0.1:41234/callback", False, True),
        ("http://127.0.0.1/callback", False, True),
        ("http://localhost:8080/callback", False, False),
        ("http://[::1]:8080/callback", False, False),
        ("http://127.0.0.1.example/callback", False, False),
        ("http://app.example/back", False, False),
        ("https://app.example/back#part", False, False),
        ("https://app.example:port/back", False, False),
        ("https://", False, False),
        ("myapp://back", False, False),
        ("", False, False),
    ],
)
def test_redirects_that_zoom_takes(uri: str, plain: bool, pkce: bool) -> None:
    assert (redirect_allowed(uri, pkce=False), redirect_allowed(uri, pkce=True)) == (plain, pkce)


def _redeemed(
    *,
    redirect_uri: str = HOME,
    verifier: str = "",
    public: bool = False,
    seconds: float = 0,
    challenge: str = "",
    method: str = "",
) -> str:
    codes = Codes(Random(1))
    ask = Ask(redirect_uri=HOME, code_challenge=challenge, code_challenge_method=method)
    code = codes.grant(ask, 1000)
    return codes.redeem(code, redirect_uri=redirect_uri, verifier=verifier, public=public, now=1000 + seconds)


def test_a_code_is_redeemed_by_whoever_it_was_meant_for() -> None:
    assert _redeemed(seconds=299) == ""
    assert _redeemed(seconds=300) == "code_expired"
    assert _redeemed(redirect_uri=HOME + "/") == "redirect_mismatch"
    assert _redeemed(public=True) == "missing_credentials"


@pytest.mark.parametrize(("challenge", "method"), [(S256, "S256"), (VERIFIER, "plain"), (VERIFIER, "")])
def test_the_verifier_must_fit_the_challenge(challenge: str, method: str) -> None:
    assert _redeemed(challenge=challenge, method=method, verifier=VERIFIER, public=True) == ""
    assert _redeemed(challenge=challenge, method=method, verifier="w" * 43) == "invalid_grant"
    assert _redeemed(challenge=challenge, method=method) == "invalid_grant"


def test_a_code_is_good_for_one_attempt() -> None:
    codes = Codes(Random(1))
    code = codes.grant(Ask(redirect_uri=HOME), 0)
    again = codes.grant(Ask(redirect_uri=HOME), 0)
    assert code != again
    for uri, said in ((HOME, ""), (HOME, "invalid_code")):
        assert codes.redeem(code, redirect_uri=uri, verifier="", public=False, now=1) == said
    for uri, said in (("https://other.example", "redirect_mismatch"), (HOME, "invalid_code")):
        assert codes.redeem(again, redirect_uri=uri, verifier="", public=False, now=1) == said
