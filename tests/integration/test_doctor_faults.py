"""`zoomrelay doctor` names the right cause for everything that the pretend Zoom can do wrong."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.support.examined import configured, examine, toml, troubles, without_proxies
from tests.support.zoom_client import dialled
from zoomrelay.simulator.faults import Faults, How
from zoomrelay.simulator.gateway import OnSecondConnection
from zoomrelay.simulator.rest import REST_ERRORS
from zoomrelay.simulator.server import Simulator
from zoomrelay.simulator.tokens import ERRORS

AT_ONCE_SECONDS = 1e-6
SHORT_STEP_SECONDS = 1.0
"""For what is found out by waiting."""

Trouble = tuple[str, str, str]
NOTHING: list[Trouble] = []


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_proxies(monkeypatch)
    (tmp_path / "state").mkdir(mode=0o700)


TOKEN_ERRORS = {
    "invalid_client": "invalid_client",
    "invalid_request": "invalid_request",
    "unsupported_grant_type": "unsupported_grant_type",
    "invalid_grant": "invalid_grant",
    "invalid_token": "invalid_token",
    "invalid_redirect": "invalid_token",
    "client_not_found": "invalid_client",
    "client_invalid": "invalid_client",
    "grant_not_supported": "unsupported_grant_type",
    "missing_credentials": "invalid_request",
    "redirect_mismatch": "redirect_mismatch",
    "scopes_changed": "invalid_scope",
    "app_disabled": "app_disabled",
    "invalid_jwt": "malformed_token",
    "error_4732": "oauth_other",
    "code_expired": "invalid_grant",
    "invalid_code": "invalid_grant",
    "owner_gone": "owner_missing",
    "error_4737": "oauth_other",
    "disabled_by_admin": "app_disabled",
    "index_tolerance": "token_index",
    "token_revoked": "token_revoked",
}
RESTS = {
    "invalid_token": ("fail", "app_refused"),
    "expired_token": ("fail", "app_refused"),
    "missing_scopes": ("warn", "scope_missing"),
    "invalid_api_key": ("warn", "wrong_grant"),
    "paid_account": ("warn", "paid_account"),
    "rate_limited": ("warn", "rest_limited"),
    "server_error": ("warn", "rest_trouble"),
}

FAULTS: list[tuple[dict[str, Any], list[Trouble]]] = [
    ({}, NOTHING),
    # connecting
    *(
        ({"upgrade_status": status, "upgrade_times": -1}, [("upgrade", "fail", reason)])
        for status, reason in [
            (400, "not_found"),
            (401, "refused_token"),
            (403, "refused_token"),
            (404, "not_found"),
            (429, "upgrade_limited"),
            (502, "upgrade_refused"),
        ]
    ),
    ({"refuse": "Invalid Token"}, [("accept", "fail", "refused_token")]),
    ({"refuse": "Token is invalid"}, [("accept", "fail", "refused_token")]),
    ({"refuse": "token is empty"}, [("accept", "fail", "empty_token")]),
    ({"refuse": "Connected in another place"}, [("accept", "fail", "displaced")]),
    ({"refuse": "No such thing"}, [("accept", "fail", "refused")]),
    ({"refuse": "Invalid Token", "refuse_times": 1}, NOTHING),
    ({"never_accept": True}, [("accept", "fail", "not_accepted")]),
    # an accepted connection
    *(
        ({"end_after_seconds": AT_ONCE_SECONDS, "end_how": how}, [("heartbeat", "fail", reason)])
        for how, reason in {"close": "closed", "reset": "reset", "half-open": "silent"}.items()
    ),
    (
        {"end_after_seconds": 0.01, "close_code": 1000, "close_reason": "Connected in another place"},
        [("heartbeat", "fail", "displaced")],
    ),
    ({"end_after_events": 1, "close_code": 1011}, [("heartbeat", "fail", "closed")]),
    ({"stop_answering": True}, [("heartbeat", "fail", "silent")]),
    ({"refuse_heartbeat": "token expired"}, [("heartbeat", "fail", "refused_token")]),
    ({"refuse_heartbeat": "go away"}, [("heartbeat", "fail", "refused")]),
    # the stream: a relay copes with all but what is too large
    ({"rubbish_every": 1, "rubbish_kind": "harmless"}, NOTHING),
    ({"rubbish_every": 1, "rubbish_kind": "invalid-utf8"}, NOTHING),
    ({"rubbish_every": 1, "rubbish_kind": "oversize"}, [("heartbeat", "fail", "oversize")]),
    ({"fragment_every": 1}, NOTHING),
    ({"duplicate_every": 1}, NOTHING),
    ({"reorder_every": 2}, NOTHING),
    ({"late_every": 1, "late_seconds": 0.1}, NOTHING),
    # the token endpoint
    ({"token_delay_seconds": 3.0}, [("token", "fail", "timeout")]),
    ({"token_status": 503, "token_times": -1}, [("token", "fail", "http_503")]),
    ({"token_status": 429, "token_retry_after": "7"}, [("token", "fail", "rate_limited")]),
    ({"token_status": 403, "token_body": "html"}, [("token", "fail", "not_json")]),
    ({"token_status": 400, "token_body": "empty"}, [("token", "fail", "not_json")]),
    ({"token_status": 302, "token_body": "empty"}, [("token", "fail", "redirected")]),
    ({"token_status": 418, "token_body": "json"}, [("token", "fail", "http_5xx")]),
    *(({"token_error": name}, [("token", "fail", reason)]) for name, reason in TOKEN_ERRORS.items()),
    ({"token_error": "something_new"}, [("token", "fail", "http_400")]),
    ({"token_scopes": "meeting:read"}, [("rest", "warn", "scope_missing")]),
    ({"token_lost_times": 1}, [("token", "fail", "tcp")]),
    # REST
    *(({"rest_error": name}, [("rest", *expected)]) for name, expected in RESTS.items()),
    ({"rest_error": "invalid_token", "rest_times": 1}, [("rest", "warn", "token_killed")]),
    ({"rest_error": "rate_limited", "rest_retry_after": "60"}, [("rest", "warn", "rest_limited")]),
]

ELSEWHERE = {
    "token_kills_older": "test_another_program_kills_our_token",
    "token_limit": "test_another_program_kills_our_token",
    "refresh_kills_older": "only who logs in meets it",
    "authorize": "only who logs in meets it",
    "authorize_state": "only who logs in meets it",
    "webhook_slow_seconds": "the doctor does not wait for a webhook",
}
"""Faults without a row, and why."""

_WAITING = ("not_accepted", "silent", "timeout")


async def _send_when_heard(zoom: Simulator) -> None:
    await zoom.until(lambda: bool(zoom.accepted))
    await zoom.burst(4)


def _name(row: object) -> str:
    return ",".join(f"{name}={value}" for name, value in row.items()) if isinstance(row, dict) else ""


@pytest.mark.parametrize(("faults", "expected"), FAULTS, ids=_name)
async def test_the_cause_is_named(tmp_path: Path, faults: dict[str, Any], expected: list[Trouble]) -> None:
    streams = any(name.endswith(("_every", "_events")) for name in faults)
    waits = any(reason in _WAITING for _, _, reason in expected)
    async with Simulator() as zoom, asyncio.TaskGroup() as tasks:
        zoom.faults.change(faults)
        sending = tasks.create_task(_send_when_heard(zoom)) if streams else None
        reports = await examine(
            configured(toml(zoom, tmp_path), tmp_path), step_seconds=SHORT_STEP_SECONDS if waits else 5.0
        )
        if sending is not None:
            sending.cancel()
    assert troubles(reports) == expected
    assert all(one.cure for one in reports if one.reason), "every trouble has its cure"
    assert not [one for one in reports if zoom.credentials.client_secret in repr(one)]


def test_every_fault_has_its_row() -> None:
    named = {name for faults, _ in FAULTS for name in faults}
    assert named | ELSEWHERE.keys() == set(Faults.__struct_fields__)
    assert not named & ELSEWHERE.keys()


def test_every_refusal_has_its_row() -> None:
    assert TOKEN_ERRORS.keys() == ERRORS.keys()
    assert RESTS.keys() == REST_ERRORS.keys()


def test_every_way_to_end_has_its_row() -> None:
    assert {faults.get("end_how") for faults, _ in FAULTS} - {None} == set(get_args(How))
    assert {faults.get("rubbish_kind") for faults, _ in FAULTS} - {None} == {
        "harmless",
        "invalid-utf8",
        "oversize",
    }


# --- what is no fault of its own ----------------------------------------------------------------------


@pytest.mark.parametrize("issue", [{"kills_older": True}, {"limit": 1}])
async def test_another_program_kills_our_token(tmp_path: Path, issue: dict[str, Any]) -> None:
    async with Simulator() as zoom:
        config = configured(toml(zoom, tmp_path), tmp_path)
        assert troubles(await examine(config)) == NOTHING
        zoom.tokens.issue("account_credentials", time.time(), **issue)
        assert troubles(await examine(config)) == [("rest", "warn", "token_killed")]
        assert zoom.token_requests == 2


@pytest.mark.parametrize("mode", get_args(OnSecondConnection))
async def test_another_program_has_the_subscription(tmp_path: Path, mode: OnSecondConnection) -> None:
    async with Simulator(on_second_connection=mode) as zoom, dialled(zoom) as other:
        await other.recv()
        reports = await examine(configured(toml(zoom, tmp_path), tmp_path))
    refused = [("accept", "fail", "displaced")]
    assert troubles(reports) == (refused if mode == "refuse-new" else NOTHING)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ('client_secret = "planted-wrong-secret"', [("token", "fail", "invalid_client")]),
        ('account_id = "planted-wrong-account"', [("token", "fail", "invalid_request")]),
        ('subscriptions = ["NoSuchSubscription0000"]', [("accept", "fail", "refused")]),
        ("subscriptions = []", NOTHING),
    ],
)
async def test_a_wrong_value(tmp_path: Path, wrong: str, expected: list[Trouble]) -> None:
    async with Simulator() as zoom:
        setting = wrong.partition(" = ")[0]
        lines = toml(zoom, tmp_path).splitlines()
        text = "\n".join(wrong if line.startswith(f"{setting} = ") else line for line in lines)
        reports = await examine(configured(text, tmp_path))
    assert troubles(reports) == expected
    assert "planted" not in repr(reports)


async def test_a_grant_without_a_user(tmp_path: Path) -> None:
    async with Simulator() as zoom:
        reports = await examine(configured(toml(zoom, tmp_path, grant="client_credentials"), tmp_path))
        zoom.faults.token_scopes = "meeting:read"
        (tmp_path / "more").mkdir()
        more = await examine(configured(toml(zoom, tmp_path / "more", grant="client_credentials"), tmp_path))
    assert troubles(reports) == [("rest", "warn", "wrong_grant")]
    assert troubles(more) == [("scopes", "warn", "no_scopes"), ("rest", "warn", "wrong_grant")]


async def test_the_other_grant_is_tried_as_the_relay_tries_it(tmp_path: Path) -> None:
    async with Simulator() as zoom:
        zoom.faults.change({"refuse": "Invalid Token", "refuse_times": 2})
        reports = await examine(configured(toml(zoom, tmp_path, grant="auto"), tmp_path))
        assert troubles(reports) == NOTHING
        assert zoom.token_requests_by_grant == {"account_credentials": 2, "client_credentials": 1}
