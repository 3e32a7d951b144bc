"""`zoomrelay login`, in processes of its own, against the pretend Zoom."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest

from tests.support import approve
from tests.support.token_place import SECONDS, Done, TokenPlace, end

BROWSER = {"BROWSER": f"{sys.executable} {approve.__file__} %s"}
NO_BROWSER = {"BROWSER": "true %s"}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[TokenPlace]:
    async with TokenPlace(tmp_path, grant="authorization_code") as place:
        yield place


async def _address(process: asyncio.subprocess.Process) -> str:
    """The address that the person is asked to open."""
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        while line := (await process.stdout.readline()).decode():
            if line.startswith("http"):
                return line.strip()
    raise AssertionError((await end(process)).err)


async def _decided(address: str, decision: str = "allow") -> str:
    """Where Zoom sends the browser."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(address, data={"decision": decision}, allow_redirects=False) as response,
    ):
        return response.headers["Location"]


async def _get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return response.status, await response.text()


def _secrets(place: TokenPlace) -> list[str]:
    """What stands in the cache."""
    (cache,) = place.state_dir.glob("tokens/*.json")
    record = json.loads(cache.read_bytes())
    return [record["access"]["value"], record["refresh"]["value"]]


def _tells_no_secret(place: TokenPlace, done: Done) -> bool:
    return not any(secret in done.out + done.err for secret in _secrets(place))


async def test_a_login_while_the_relay_runs(place: TokenPlace) -> None:
    place.relay.start()
    await place.relay.until(lambda: place.relay.log("auth.credentials_refused"), "the refusal")
    assert "zoomrelay login --source main" in place.relay.log("auth.credentials_refused")[0]["cure"]
    done = await place.run("login", "--source", "main", environ=BROWSER)
    assert done.code == 0, done
    assert _tells_no_secret(place, done)
    assert re.search(r"before 20\d\d-\d\d-\d\d \d\d:\d\d UTC \(in (89|90) days\)", done.out)
    await place.relay.until(lambda: place.relay.log("auth.token_adopted"), "the token's adoption")
    assert place.judge(await place.token()) == ""
    assert place.zoom.token_requests_by_grant == {"authorization_code": 1}
    await place.relay.stop()


async def test_a_login_by_pasting(place: TokenPlace) -> None:
    """What is strange is explained and may be pasted anew; the redirect leads nowhere."""
    process = await place.start("login", "--no-browser")
    address = await _address(process)
    assert parse_qs(urlsplit(address).query)["redirect_uri"] == ["http://127.0.0.1/callback"]
    back = await _decided(address)
    foreign = re.sub(r"state=[^&]+", "state=earlier", back)
    done = await end(process, f"https://zoom.us/signin\n{foreign}\n\n{back}\n")
    assert done.code == 0, done
    assert done.err.count("another login") == 1 and "neither a code nor" in done.err
    assert _tells_no_secret(place, done)


@pytest.mark.full
async def test_a_client_without_a_secret_and_an_https_redirect(place: TokenPlace) -> None:
    place.configure(public=True)
    process = await place.start("login", "--redirect-uri", "https://app.example/back")
    back = await _decided(await _address(process))
    (code,) = parse_qs(urlsplit(back).query)["code"]
    assert (await end(process, code)).code == 0
    first = await place.token()
    second = await place.token("--rejected", first)
    assert first != second and place.judge(second) == ""
    assert place.zoom.token_requests_by_grant == {"authorization_code": 1, "refresh_token": 1}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("deny", "declined"),
        ("reused", "start the login again"),
        pytest.param("foreign", "another login", marks=pytest.mark.full),
        pytest.param("nothing", "no code was pasted", marks=pytest.mark.full),
    ],
)
async def test_what_goes_wrong_is_said(place: TokenPlace, answer: str, words: str) -> None:
    process = await place.start("login", "--no-browser")
    back = await _decided(await _address(process), "deny" if answer == "deny" else "allow")
    if answer == "foreign":
        back = re.sub(r"state=[^&]+", "state=earlier", back)
    if answer == "reused":
        back = "a-code-that-was-used"
    done = await end(process, "" if answer == "nothing" else back)
    assert done.code == 1
    assert words in done.err and "Traceback" not in done.err


@pytest.mark.full
async def test_strangers_at_the_door_do_not_end_the_wait(place: TokenPlace) -> None:
    process = await place.start("login", environ=NO_BROWSER)
    back = await _decided(await _address(process))
    stranger = f"{back.partition('?')[0]}?{urlencode({'code': 'x', 'state': 'old'})}"
    assert (await _get(stranger))[0] == 400
    status, page = await _get(back)
    assert status == 200 and "You may close this page" in page
    done = await end(process)
    assert done.code == 0 and "another login" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--redirect-uri", "http://localhost:8080/callback"), 2, "4700"),
        (("--source", "none"), 2, "there are: main"),
    ],
)
async def test_what_cannot_work_is_not_tried(
    place: TokenPlace, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = await place.run("login", *arguments)
    assert done.code == code and words in done.err


async def test_only_one_grant_has_a_login(tmp_path: Path) -> None:
    async with TokenPlace(tmp_path) as place:
        done = await place.run("login")
        assert done.code == 2
        assert "sources.main.grant" in done.err and "authorization_code" in done.err
        place.state_dir.rmdir()
    assert not place.state_dir.exists()
