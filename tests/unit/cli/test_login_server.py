"""The page on loopback that waits for the browser."""

import asyncio
from random import Random

import aiohttp
import pytest

from zoomrelay.auth.consent import begin
from zoomrelay.cli.login_server import Homecoming
from zoomrelay.errors import ConsentError


async def _get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.headers.get("Cache-Control") == "no-store" or response.status == 404
        return response.status, await response.text()


async def test_the_code_is_taken_and_strangers_are_told_so() -> None:
    said: list[str] = []
    async with Homecoming("http://127.0.0.1/callback", say=said.append) as home:
        consent = begin("client", home.redirect_uri, Random(1))
        waiting = asyncio.create_task(home.code(consent, 30))
        await asyncio.sleep(0)
        status, page = await _get(f"{home.redirect_uri}?code=abc&state=stale")
        assert status == 400 and "another login" in page and "still waiting" in said[0]
        assert (await _get(home.redirect_uri.replace("callback", "favicon.ico")))[0] == 404
        status, page = await _get(f"{home.redirect_uri}?code=abc&state={consent.state}")
        assert status == 200 and "You may close this page" in page
        assert await waiting == "abc"
        assert (await _get(f"{home.redirect_uri}?code=abc&state={consent.state}"))[0] == 410


async def test_no_is_an_answer() -> None:
    async with Homecoming("http://127.0.0.1/", say=print) as home:
        consent = begin("client", home.redirect_uri, Random(1))
        waiting = asyncio.create_task(home.code(consent, 30))
        await asyncio.sleep(0)
        assert (
            "did not grant"
            in (await _get(f"{home.redirect_uri}?error=access_denied&state={consent.state}"))[1]
        )
        with pytest.raises(ConsentError, match="declined"):
            await waiting


async def test_a_port_that_is_named_must_be_free() -> None:
    async with Homecoming("http://127.0.0.1/callback", say=print) as home:
        with pytest.raises(ConsentError, match="cannot be used"):
            await Homecoming(home.redirect_uri, say=print).__aenter__()


@pytest.mark.looptime
async def test_waiting_has_an_end() -> None:
    home = Homecoming("http://127.0.0.1/callback", say=print)
    with pytest.raises(ConsentError, match=r"did not come back within 600 s.*allow list"):
        await home.code(begin("client", home.redirect_uri, Random(1)), 600)
