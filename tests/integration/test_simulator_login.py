"""The authorize page, codes, refresh tokens, revocation and `/v2/users/me`, as a client sees them."""

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from tests.support.zoom_client import basic
from zoomrelay.simulator.rest import REST_ERRORS
from zoomrelay.simulator.server import Simulator

BACK = "http://127.0.0.1:4321/callback"
VERIFIER = "verifier-" + "0" * 40
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
Answer = tuple[int, dict[str, Any]]


class Client:
    """An app with its secret or, being public, without."""

    def __init__(self, zoom: Simulator, http: aiohttp.ClientSession) -> None:
        self.zoom, self.http = zoom, http
        self.public = False
        self.secret = zoom.credentials.client_secret

    def ask(self, **changes: str) -> dict[str, str]:
        asked = {
            "response_type": "code",
            "client_id": self.zoom.credentials.client_id,
            "redirect_uri": BACK,
            "state": "state 1&2",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        } | changes
        return {name: value for name, value in asked.items() if value}

    async def authorize(self, decision: str = "allow", **changes: str) -> dict[str, str]:
        """What the browser brings back to the app."""
        async with self.http.post(
            self.zoom.authorize_url,
            params=self.ask(**changes),
            data={"decision": decision},
            allow_redirects=False,
        ) as response:
            assert response.status == 302, await response.text()
            return dict(parse_qsl(urlsplit(response.headers["Location"]).query))

    async def post(self, url: str, **form: str) -> Answer:
        known = self.zoom.credentials
        headers = {} if self.public else basic(known.client_id, self.secret)
        form = form | ({"client_id": known.client_id} if self.public else {})
        async with self.http.post(url, data=form, headers=headers) as response:
            return response.status, await response.json()

    async def redeem(self, code: str, **changes: str) -> Answer:
        form = {"code": code, "redirect_uri": BACK, "code_verifier": VERIFIER} | changes
        return await self.post(self.zoom.token_url, grant_type="authorization_code", **form)

    async def refresh(self, token: str) -> Answer:
        return await self.post(self.zoom.token_url, grant_type="refresh_token", refresh_token=token)

    async def revoke(self, token: str) -> Answer:
        return await self.post(self.zoom.token_url.replace("/token", "/revoke"), token=token)

    async def me(self, token: str) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.http.get(f"{self.zoom.api_url}/users/me", headers=headers) as response:
            return response.status, await response.json()

    async def tokens(self) -> dict[str, Any]:
        """What a login leads to."""
        status, body = await self.redeem((await self.authorize())["code"])
        assert status == 200, body
        return body


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Simulator() as zoom, aiohttp.ClientSession() as http:
        yield Client(zoom, http)


@pytest.mark.parametrize("public", [False, True])
async def test_from_consent_to_a_token_that_is_refreshed(client: Client, public: bool) -> None:
    client.public = public
    back = await client.authorize()
    assert back["state"] == "state 1&2"
    status, first = await client.redeem(back["code"])
    assert status == 200, first
    assert (await client.me(first["access_token"]))[0] == 200
    status, second = await client.refresh(first["refresh_token"])
    assert status == 200 and second["refresh_token"] != first["refresh_token"]
    assert (await client.me(second["access_token"]))[1]["account_id"] == client.zoom.credentials.account_id
    assert client.zoom.token_requests_by_grant == {"authorization_code": 1, "refresh_token": 1}
    status, again = await client.redeem(back["code"])
    assert (status, again["code"]) == (400, 4734)


async def test_the_page_asks_and_can_be_answered_beforehand(client: Client) -> None:
    url, asked = client.zoom.authorize_url, client.ask()
    async with client.http.get(url, params=asked) as response:
        assert response.status == 200 and "Allow" in await response.text()
    client.zoom.faults.change({"authorize": "allow", "authorize_state": "foreign"})
    async with client.http.get(url, params=asked, allow_redirects=False) as response:
        back = dict(parse_qsl(urlsplit(response.headers["Location"]).query))
    assert back["code"] and back["state"] == "foreign"
    client.zoom.faults.clear()
    assert (await client.authorize("deny"))["error"] == "access_denied"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"redirect_uri": "http://localhost:4321/callback"}, "Invalid redirect (4700)"),
        ({"redirect_uri": BACK, "code_challenge": ""}, "Invalid redirect (4700)"),
        ({"client_id": "another"}, "Invalid client (4702)"),
        ({"response_type": "token"}, "Bad Request"),
        ({"code_challenge_method": "S512"}, "Bad Request"),
    ],
)
async def test_what_the_page_refuses_it_refuses_to_the_face(
    client: Client, changes: dict[str, str], said: str
) -> None:
    async with client.http.get(client.zoom.authorize_url, params=client.ask(**changes)) as response:
        assert response.status == 400
        assert said in await response.text()


@pytest.mark.parametrize(
    ("changes", "code"), [({"redirect_uri": BACK + "/"}, 4709), ({"code": "made-up"}, 4734)]
)
async def test_codes_that_are_refused(client: Client, changes: dict[str, str], code: int) -> None:
    granted = (await client.authorize())["code"]
    status, body = await client.redeem(changes.pop("code", granted), **changes)
    assert (status, body["code"]) == (400, code)


async def test_an_answer_lost_after_the_rotation(client: Client) -> None:
    tokens = await client.tokens()
    client.zoom.faults.change({"token_lost_times": 1, "refresh_kills_older": True})
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.refresh(tokens["refresh_token"])
    status, body = await client.refresh(tokens["refresh_token"])
    assert (status, body["code"]) == (400, 4741)
    assert client.zoom.tokens.issued == 2


async def test_an_answer_lost_where_the_old_one_works_once_more(client: Client) -> None:
    tokens = await client.tokens()
    client.zoom.faults.token_lost_times = 1
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.refresh(tokens["refresh_token"])
    assert (await client.refresh(tokens["refresh_token"]))[0] == 200
    assert (await client.refresh(tokens["refresh_token"]))[1]["code"] == 4741


async def test_revoking_takes_one_token_of_either_kind(client: Client) -> None:
    tokens = await client.tokens()
    assert await client.revoke(tokens["access_token"]) == (200, {"status": "success"})
    assert (await client.me(tokens["access_token"]))[1]["code"] == 124
    assert await client.revoke(tokens["refresh_token"]) == (200, {"status": "success"})
    assert (await client.refresh(tokens["refresh_token"]))[1]["code"] == 4741
    assert (await client.revoke("made up"))[1]["code"] == 4700
    client.secret = "wrong"
    assert (await client.revoke("made up"))[1]["error"] == "invalid_client"


async def test_a_changed_secret(client: Client) -> None:
    async with client.http.post(
        f"{client.zoom.control_url}/client-secrets", json={"secrets": ["next", client.secret]}
    ) as response:
        assert response.status == 200
    old = client.secret
    for secret in ("next", old):
        client.secret = secret
        assert await client.tokens()
    client.zoom.set_client_secrets(["next"])
    assert (await client.post(client.zoom.token_url, grant_type="client_credentials"))[0] == 400


async def test_every_refusal_of_the_rest_api(client: Client) -> None:
    token = (await client.tokens())["access_token"]
    for name, (status, body) in REST_ERRORS.items():
        client.zoom.faults.change({"rest_error": name, "rest_times": 1})
        assert await client.me(token) == (status, body)
        assert (await client.me(token))[0] == 200


@pytest.mark.parametrize(
    ("grant", "scopes", "code"), [("client_credentials", "", 200), ("account_credentials", "a:b", 4711)]
)
async def test_tokens_that_may_not_ask_who_they_are(
    client: Client, grant: str, scopes: str, code: int
) -> None:
    client.zoom.faults.token_scopes = scopes
    account_id = client.zoom.credentials.account_id
    _, body = await client.post(client.zoom.token_url, grant_type=grant, account_id=account_id)
    assert (await client.me(body["access_token"]))[1]["code"] == code
    client.zoom.revoke_tokens(refresh=True)
    assert (await client.me(body["access_token"]))[1]["code"] == 124
