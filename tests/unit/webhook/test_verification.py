"""Whose request it is, and what a challenge is answered."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from zoomrelay.webhook.verification import AHEAD_SECONDS, OLD_SECONDS, Verdict, answer_to_challenge, judge

SECRET = b"the-secret-token"
NOW = 1_700_000_000
BODY = '{"event":"meeting.started","payload":{"topic":"🌻 Üser"}}'.encode()


def headers(body: bytes = BODY, *, at: object = NOW, secret: bytes = SECRET) -> dict[str, str]:
    digest = hmac.new(secret, b"v0:" + str(at).encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"x-zm-request-timestamp": str(at), "x-zm-signature": f"v0={digest}"}


@pytest.mark.parametrize("off", [0, OLD_SECONDS, -AHEAD_SECONDS])
def test_zooms_own(off: float) -> None:
    assert judge(SECRET, headers(), BODY, NOW + off) is Verdict.GENUINE


@pytest.mark.parametrize("off", [OLD_SECONDS + 1, -AHEAD_SECONDS - 1, 10**9])
def test_too_old_or_ahead_of_us(off: float) -> None:
    assert judge(SECRET, headers(), BODY, NOW + off) is Verdict.STALE


@pytest.mark.parametrize("at", ["", "-1", "1e9", "١٧٠٠", "9" * 40, "soon"])
def test_what_is_no_time_is_no_time_of_ours(at: str) -> None:
    assert judge(SECRET, headers(at=at), BODY, NOW) in (Verdict.STALE, Verdict.MISSING)


@pytest.mark.parametrize(
    "change",
    [
        {"x-zm-signature": "v0=" + "0" * 64},
        {"x-zm-signature": "v0="},
        {"x-zm-signature": "v1=" + "é" * 64},
        {"x-zm-request-timestamp": str(NOW + 1)},
        headers(secret=b"another"),
        headers(BODY + b" "),
    ],
)
def test_not_zooms(change: dict[str, str]) -> None:
    assert judge(SECRET, headers() | change, BODY, NOW) is Verdict.INVALID


@pytest.mark.parametrize("name", ["x-zm-signature", "x-zm-request-timestamp"])
def test_not_signed(name: str) -> None:
    assert judge(SECRET, headers() | {name: ""}, BODY, NOW) is Verdict.MISSING
    assert judge(SECRET, {key: value for key, value in headers().items() if key != name}, BODY, NOW) is (
        Verdict.MISSING
    )


def challenge(token: object, event: str = "endpoint.url_validation") -> bytes:
    return json.dumps({"event": event, "payload": {"plainToken": token}, "event_ts": 1}).encode()


def test_the_answer_that_zoom_documents() -> None:
    answer = answer_to_challenge(SECRET, challenge("qgg8vlvZRS6UYooatFL8Aw"))
    assert answer is not None
    encrypted = hmac.new(SECRET, b"qgg8vlvZRS6UYooatFL8Aw", hashlib.sha256).hexdigest()
    assert json.loads(answer) == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": encrypted}


@pytest.mark.parametrize(
    "body",
    [
        challenge("token", event="meeting.started"),
        challenge("v0:1700000000:{}"),
        challenge("with space"),
        challenge(""),
        challenge("x" * 129),
        challenge(5),
        challenge("token") + b" " * 5000,
        b'{"event":"endpoint.url_validation"}',
        b"url_validation",
        BODY,
    ],
)
def test_nothing_else_is_signed(body: bytes) -> None:
    assert answer_to_challenge(SECRET, body) is None
