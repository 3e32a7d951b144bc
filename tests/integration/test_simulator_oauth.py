"""The token endpoint answers as Zoom does, troubles included."""

import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.zoom_client import basic, dialled, message
from zoomrelay.simulator.server import Simulator


@pytest.fixture
async def zoom() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


async def _post(
    zoom: Simulator,
    *,
    form: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    secret: str = "",
) -> tuple[int, dict[str, object], dict[str, str]]:
    known = zoom.credentials
    headers = basic(known.client_id, secret or known.client_secret)
    async with (
        aiohttp.ClientSession() as session,
        session.post(zoom.token_url, data=form, params=query, headers=headers) as response,
    ):
        body = await response.json() if response.content_type == "application/json" else {}
        return response.status, body, dict(response.headers)


async def test_a_token_from_a_form_opens_the_socket(zoom: Simulator) -> None:
    form = {"grant_type": "account_credentials", "account_id": zoom.credentials.account_id}
    status, body, headers = await _post(zoom, form=form)
    assert (status, body["token_type"], body["expires_in"]) == (200, "bearer", 3599)
    assert headers["x-zm-trackingid"]
    async with dialled(zoom, token=body["access_token"]) as socket:
        assert (await message(socket))["success"] is True


async def test_the_request_of_zooms_own_sample_is_accepted(zoom: Simulator) -> None:
    status, body, _ = await _post(zoom, query={"grant_type": "client_credentials"})
    assert (status, body["token_type"]) == (200, "bearer")


async def test_account_credentials_in_the_query(zoom: Simulator) -> None:
    query = {"grant_type": "account_credentials", "account_id": zoom.credentials.account_id}
    assert (await _post(zoom, query=query))[0] == 200


@pytest.mark.parametrize(
    ("form", "secret", "body"),
    [
        (
            {"grant_type": "client_credentials"},
            "wrong",
            {"reason": "Invalid client_id or client_secret", "error": "invalid_client"},
        ),
        (
            {"grant_type": "account_credentials", "account_id": "wrong"},
            "",
            {"reason": "Bad Request", "error": "invalid_request"},
        ),
        (
            {"grant_type": "password"},
            "",
            {"reason": "unsupported grant type", "error": "unsupported_grant_type"},
        ),
    ],
)
async def test_refusals(zoom: Simulator, form: dict[str, str], secret: str, body: dict[str, str]) -> None:
    assert (await _post(zoom, form=form, secret=secret))[:2] == (400, body)


@pytest.mark.parametrize("header", [None, "Bearer x", "Basic", "Basic ###", "Basic /w=="])
async def test_no_credentials_are_wrong_credentials(zoom: Simulator, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    async with aiohttp.ClientSession() as session, session.post(zoom.token_url, headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error"] == "invalid_client"


@pytest.mark.parametrize("error", ["invalid_client", "app_disabled", "disabled_by_admin", "something_new"])
async def test_refusals_on_demand(zoom: Simulator, error: str) -> None:
    zoom.faults.token_error = error
    status, body, _ = await _post(zoom, form={"grant_type": "client_credentials"})
    assert status == 400
    assert body["error"]


@pytest.mark.parametrize("wait", ["2", "Wed, 21 Oct 2026 07:28:00 GMT", "2026-10-21T07:28:00Z"])
async def test_too_many_requests_with_every_form_of_retry_after(zoom: Simulator, wait: str) -> None:
    zoom.faults.change({"token_status": 429, "token_retry_after": wait, "token_times": 1})
    status, _, headers = await _post(zoom, form={"grant_type": "client_credentials"})
    assert (status, headers["Retry-After"]) == (429, wait)
    assert (await _post(zoom, form={"grant_type": "client_credentials"}))[0] == 200
    assert zoom.token_requests == 2


@pytest.mark.parametrize(
    ("body", "content_type"),
    [("html", "text/html"), ("json", "application/json"), ("empty", "")],
)
async def test_trouble_of_the_gateway_in_front(zoom: Simulator, body: str, content_type: str) -> None:
    zoom.faults.change({"token_status": 502, "token_body": body})
    status, _, headers = await _post(zoom, form={"grant_type": "client_credentials"})
    assert status == 502
    assert headers.get("Content-Type", "").partition(";")[0] == content_type


async def test_a_slow_endpoint(zoom: Simulator) -> None:
    zoom.faults.token_delay_seconds = 0.1
    begin = time.monotonic()
    assert (await _post(zoom, form={"grant_type": "client_credentials"}))[0] == 200
    assert time.monotonic() - begin >= 0.09


async def test_a_new_token_may_kill_the_older_one(zoom: Simulator) -> None:
    zoom.faults.token_kills_older = True
    _, first, _ = await _post(zoom, form={"grant_type": "client_credentials"})
    await _post(zoom, form={"grant_type": "client_credentials"})
    async with dialled(zoom, token=first["access_token"]) as socket:
        assert (await message(socket))["content"] == "Invalid Token"
