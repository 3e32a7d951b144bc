"""What doctor concludes from what it saw: pure rules."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomrelay import causes
from zoomrelay.admin.health import PathStatus
from zoomrelay.auth.token import Instant, Token
from zoomrelay.doctor.certificate import read_certificate
from zoomrelay.doctor.finding import Finding, Verdict, failed, passed
from zoomrelay.doctor.proxies import route
from zoomrelay.doctor.socket import judge_path
from zoomrelay.doctor.walk import Step, walk
from zoomrelay.doctor.zoom import SOCKET_SCOPE, judge_clock, judge_rest, judge_scopes
from zoomrelay.telemetry.redaction import protect

HERE = Path(__file__).parent
NOW = 1_700_000_000.0


# --- certificates -------------------------------------------------------------------------------------


def _der(name: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        "-----BEGIN CERT" + (HERE / name).read_text().partition("-----BEGIN CERT")[2]
    )


def test_issuer_and_dates_are_read() -> None:
    found = read_certificate(_der("expired.pem"))
    assert found.issuer == "Example Interception, Example Root"
    assert found.not_before == datetime(2024, 1, 1, tzinfo=UTC)
    assert found.not_after == datetime(2024, 2, 1, tzinfo=UTC)
    assert read_certificate(_der("good.pem")).not_after.year > 2100, "a date in four digits"


@pytest.mark.parametrize("length", [0, 1, 5, 40, 150])
def test_half_a_certificate_is_none(length: int) -> None:
    with pytest.raises(ValueError):
        read_certificate(_der("good.pem")[:length])


@given(st.data())
def test_what_a_certificate_is_not_is_said_in_one_way(data: st.DataObject) -> None:
    whole = bytearray(_der("good.pem"))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=5)):
        whole[at] = data.draw(st.integers(0, 255))
    try:
        assert read_certificate(bytes(whole)).issuer
    except ValueError:
        pass


# --- proxies ------------------------------------------------------------------------------------------


def _route(
    scheme: str, configured: str, proxies: Mapping[str, str], *, plain: bool = False
) -> tuple[str, str]:
    found = route(scheme, "zoom.us", configured, proxies, lambda host: "no" in proxies, plain=plain)
    return found.url, found.why


@pytest.mark.parametrize(
    ("scheme", "configured", "proxies", "url", "why"),
    [
        ("https", "", {}, "", "direct: none is set (no HTTPS_PROXY, no ALL_PROXY)"),
        ("https", "http://p:1", {"https": "q:1"}, "http://p:1", "http proxy p:1, by the setting proxy"),
        ("https", "", {"https": "q:1"}, "http://q:1", "http proxy q:1, by HTTPS_PROXY"),
        ("https", "", {"all": "http://q:1"}, "http://q:1", "http proxy q:1, by ALL_PROXY"),
        ("https", "", {"https": "http://q:1", "no": "zoom.us"}, "", "direct: NO_PROXY names zoom.us"),
        ("wss", "", {"https": "q:1", "wss": "http://w:2"}, "http://w:2", "http proxy w:2, by WSS_PROXY"),
        ("wss", "", {"https": "http://u:pw@q:1"}, "http://u:pw@q:1", "http proxy q:1, by HTTPS_PROXY"),
        ("wss", "", {"socks": "socks5://s:1"}, "socks5://s:1", "socks5 proxy s:1, by SOCKS_PROXY"),
    ],
)  # fmt: skip
def test_which_proxy_applies_and_why(
    scheme: str, configured: str, proxies: dict[str, str], url: str, why: str
) -> None:
    assert _route(scheme, configured, proxies) == (url, why)


def test_a_sink_knows_its_scheme_s_proxy_only() -> None:
    assert _route("https", "", {"all": "http://q:1"}, plain=True)[0] == ""


# --- the clock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "round_trip", "verdict"),
    [
        (0.0, 0.1, Verdict.PASS),
        (0.0, 120.0, Verdict.PASS),
        (29.0, 0.1, Verdict.PASS),
        (-29.0, 0.1, Verdict.PASS),
        (600.0, 0.1, Verdict.WARN),
        (-600.0, 0.1, Verdict.WARN),
        (40.0, 20.0, Verdict.PASS),
        (-90.0, 20.0, Verdict.WARN),
    ],
)
def test_a_clock_is_wrong_only_where_that_is_certain(off: float, round_trip: float, verdict: Verdict) -> None:
    """`off`: ours before theirs; the answer is written in the middle of the round trip."""
    date = formatdate(NOW, usegmt=True)
    sent = NOW + off - round_trip / 2
    found = judge_clock(date, sent, sent + round_trip)
    assert found.verdict is verdict
    if verdict is Verdict.WARN:
        assert ("fast" if off > 0 else "slow") in found.detail
        assert abs(float(found.detail.split()[0]) - abs(off)) <= round_trip / 2 + 1


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_an_answer_without_a_date_says_nothing(date: str | None) -> None:
    assert judge_clock(date, NOW, NOW).verdict is Verdict.SKIPPED


# --- scopes, REST -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grant", "scopes", "verdict"),
    [
        ("account_credentials", (SOCKET_SCOPE,), Verdict.PASS),
        ("account_credentials", ("user:read",), Verdict.PASS),
        ("client_credentials", ("user:read",), Verdict.WARN),
        ("client_credentials", (SOCKET_SCOPE, "x"), Verdict.PASS),
        ("account_credentials", (), Verdict.WARN),
    ],
)
def test_scopes(grant: str, scopes: tuple[str, ...], verdict: Verdict) -> None:
    assert judge_scopes(Token("t", grant, Instant(0, 0), 3600, scopes)).verdict is verdict


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, {}, ""),
        (401, {"code": 124, "message": "Invalid access token."}, "token_invalid"),
        (401, {}, "token_invalid"),
        (401, {"code": 124, "message": "… not supported as query parameter string."}, "query_token"),
        (400, {"code": 4711, "message": "x"}, "scope_missing"),
        (400, {"code": 200, "message": "Invalid api key or secret."}, "wrong_grant"),
        (400, {"code": 200, "message": "Only available for paid account."}, "paid_account"),
        (429, {"code": 4001, "message": "x"}, "rest_limited"),
        (429, "no json", "rest_limited"),
        (503, "<html>", "rest_trouble"),
        (404, {"code": "odd", "message": 5}, "rest_trouble"),
    ],
)
def test_answers_of_rest(status: int, body: object, reason: str) -> None:
    found = judge_rest(status, json.dumps(body).encode())
    assert found.reason == reason
    assert found.verdict is (Verdict.WARN if reason else Verdict.PASS)


# --- what a relay says ----------------------------------------------------------------------------------


def _path(**fields: object) -> PathStatus:
    usual = {
        "subscription": "s", "state": "closed", "accepted": False, "accepted_since": None, "last_error": "",
        "cure": "", "attempt": 1, "next_attempt_at": None, "gap_since": None,
    }  # fmt: skip
    return PathStatus(**(usual | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "verdict", "reason"),
    [
        (_path(accepted=True, accepted_since=NOW - 60), Verdict.PASS, ""),
        (_path(accepted=True, trouble="deaf: …", deaf=True), Verdict.FAIL, "deaf"),
        (_path(accepted=True, trouble="quiet: …", quiet=True), Verdict.FAIL, "quiet"),
        (_path(last_error="refused_token: Zoom says", cure="c"), Verdict.FAIL, "refused_token"),
        (_path(state="dialling"), Verdict.FAIL, "dialling"),
    ],
)
def test_a_path_as_the_relay_tells_it(path: PathStatus, verdict: Verdict, reason: str) -> None:
    found = judge_path(path, NOW)
    assert (found.verdict, found.reason) == (verdict, reason)


# --- the walk -------------------------------------------------------------------------------------------


@pytest.mark.looptime
async def test_what_failed_is_not_built_upon_and_nothing_takes_for_ever() -> None:
    protect("planted-in-detail")

    async def good() -> Finding:
        return passed("planted-in-detail")

    async def bad() -> Finding:
        return failed(causes.DNS, "no such name")

    async def slow() -> Finding:
        await asyncio.sleep(3600)
        return passed("at last")

    first, second = Step("first", good), Step("second", bad, target="zoom.us:443")
    third = Step("third", good, (first, second))
    steps = [
        first,
        second,
        third,
        Step("fourth", good, (third,)),
        Step("fifth", slow),
        Step("sixth", good, (first,)),
    ]
    reports = [report async for report in walk(steps, step_seconds=10)]
    assert [(report.step, report.verdict.value, report.detail) for report in reports] == [
        ("first", "pass", "***"),
        ("second", "fail", "no such name"),
        ("third", "skipped", "second of zoom.us:443 failed"),
        ("fourth", "skipped", "third was skipped"),
        ("fifth", "fail", "no end within 10 s"),
        ("sixth", "pass", "***"),
    ]
    assert [report.seconds for report in reports] == [0, 0, 0, 0, 10, 0]
    assert (reports[4].reason, reports[1].cure) == ("timeout", causes.DNS.cure)
