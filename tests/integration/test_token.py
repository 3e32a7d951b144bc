"""`zoomrelay token`, in processes of its own, against the pretend Zoom."""

import asyncio
import json
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from random import Random

import pytest
import structlog

from tests.support.token_place import Done, TokenPlace, end
from zoomrelay.cli import entry


class Here(TokenPlace):
    """Runs the command in this process, which takes a tenth of the time."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(directory)
        self._monkeypatch = monkeypatch

    async def run(self, *arguments: str, stdin: str = "", environ: Mapping[str, str] | None = None) -> Done:
        assert not environ
        command, *rest = arguments
        out, err = StringIO(), StringIO()
        with self._monkeypatch.context() as patch:
            for name, stream in (("stdin", StringIO(stdin)), ("stdout", out), ("stderr", err)):
                patch.setattr(sys, name, stream)
            line = [command, "--config", str(self.relay.config_file), *rest]
            code = await asyncio.to_thread(entry.run, line)
        return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    handlers, hooks = (
        logging.getLogger().handlers[:],
        (sys.excepthook, sys.unraisablehook, threading.excepthook),
    )
    async with Here(tmp_path, monkeypatch) as place:
        yield place
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(False)
    structlog.reset_defaults()
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[TokenPlace]:
    async with TokenPlace(tmp_path) as place:
        yield place


async def test_a_token_and_nothing_else(place: TokenPlace) -> None:
    done = await place.run("token")
    token = done.out.removesuffix("\n")
    assert (done.code, done.err, place.judge(token)) == (0, "", "")
    assert await place.token("--header") == f"Authorization: Bearer {token}"
    document = json.loads(await place.token("--json", "--source", "main"))
    assert document.pop("access_token") == token
    ends = datetime.fromisoformat(document.pop("expires_at"))
    assert 3500 < (ends - datetime.now(UTC)).total_seconds() < 3600
    assert 3500 < document.pop("expires_in") < 3600
    assert "user:read:user:admin" in document.pop("scopes")
    assert document == {
        "token_type": "bearer",
        "api_url": place.zoom.api_url.removesuffix("/v2"),
        "source": "main",
        "grant": "account_credentials",
    }
    assert place.zoom.token_requests == 1


def _age(place: TokenPlace, seconds: float) -> None:
    """Make the cached token so much older."""
    (cache,) = place.state_dir.glob("tokens/*.json")
    record = json.loads(cache.read_bytes())
    for clock in ("wall", "elapsed"):
        record["access"]["issued"][clock] -= seconds
    cache.write_text(json.dumps(record))


async def test_a_token_with_enough_life_left(here: Here) -> None:
    first = await here.token()
    _age(here, 2000)
    assert await here.token("--min-ttl", "1500") == first
    second = await here.token("--min-ttl", "1800")
    assert second != first
    assert await here.token("--min-ttl", "999999") == second, "none lives so long: a new one would not help"
    _age(here, 3400)
    assert here.zoom.token_requests == 2
    here.zoom.faults.token_status = 503
    assert await here.token() == second, "199 s are better than nothing"


async def test_a_token_that_zoom_refused(here: Here) -> None:
    first = await here.token()
    here.zoom.revoke_tokens()
    second = await here.token("--rejected", first)
    assert (here.judge(first), here.judge(second)) == ("Invalid Token", "")
    assert await here.token("--rejected", "-", stdin=first + "\n") == second, (
        "others have replaced it already"
    )
    assert here.zoom.token_requests == 2
    assert (await here.run("token", "--rejected", "-")).code == 2


async def test_forgetting_and_revoking(here: Here) -> None:
    first = await here.token()
    assert (await here.run("token", "--forget")).code == 0
    second = await here.token()
    assert second != first and here.judge(first) == ""
    done = await here.run("token", "--revoke")
    assert (done.code, done.out, here.judge(second)) == (0, "", "Invalid Token"), done
    assert here.judge(await here.token()) == ""


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"token_error": "invalid_client"}, ["invalid_client", "check client_id"]),
        ({"token_error": "app_disabled"}, ["app_disabled", "activate"]),
        ({"token_status": 503, "token_body": "html"}, ["HTTP 503"]),
    ],
)
async def test_no_token_and_why(here: Here, faults: dict[str, object], words: list[str]) -> None:
    here.zoom.faults.change(faults)
    done = await here.run("token")
    assert (done.code, done.out) == (1, "")
    assert all(word in done.err for word in words), done.err
    assert "Traceback" not in done.err
    assert here.zoom.credentials.client_secret not in done.err
    again = await here.run("token")
    assert again.code == 1 and "--forget" in again.err
    assert here.zoom.token_requests == 1, "who asks again and again does not ask Zoom"
    here.zoom.faults.clear()
    assert (await here.run("token", "--forget")).code == 0
    assert here.judge(await here.token()) == ""


async def test_no_state_directory_is_made(here: Here) -> None:
    here.state_dir.rmdir()
    for command in (("token",), ("token", "--forget")):
        done = await here.run(*command)
        assert (done.code, done.out) == (78, "")
        assert str(here.state_dir) in done.err and "install -d" in done.err
    assert not here.state_dir.exists()


async def test_which_source(here: Here) -> None:
    here.configure('[sources.other]\nclient_id = "x"\nclient_secret = "yyyyyyyy"\n')
    several, unknown = await here.run("token"), await here.run("token", "--source", "none")
    assert several.code == unknown.code == 2
    assert all("main, other" in done.err for done in (several, unknown))
    assert (await here.run("token", "--source", "main", "--json", "--header")).code == 2


async def test_who_is_killed_while_asking_leaves_the_cache_usable(place: TokenPlace) -> None:
    place.zoom.faults.token_delay_seconds = 60
    process = await place.start("token")
    await place.asked(1)
    process.kill()
    assert (await end(process)).code == -signal.SIGKILL
    place.zoom.faults.clear()
    assert place.judge(await place.token()) == ""
    assert place.zoom.token_requests == 2


# --- many at once ---------------------------------------------------------------------------------------


async def _crowd(directory: Path, *, processes: int, rounds: int, killed: int, seed: int) -> None:
    """Everybody, relay included, starts with nothing; some are killed."""
    random = Random(seed)
    async with TokenPlace(directory, sockets=True) as place:
        place.zoom.faults.token_kills_older = True
        place.relay.start()
        for _ in range(rounds):
            victims = set(random.sample(range(processes), killed))
            ends = [_one(place, random.uniform(0, 0.5) if n in victims else None) for n in range(processes)]
            for done in await asyncio.gather(*ends):
                assert done.code in (0, -signal.SIGKILL), done
        await place.relay.until(lambda: place.zoom.accepted, "acceptance")
        assert place.judge(await place.token()) == ""
        # Whoever is killed may have been asking just then: that request is nobody's.
        assert 1 <= place.zoom.token_requests <= 1 + killed * rounds
        assert killed or place.zoom.token_requests == 1
        await place.relay.stop()


async def _one(place: TokenPlace, kill_after_seconds: float | None) -> Done:
    process = await place.start("token")
    if kill_after_seconds is not None:
        await asyncio.sleep(kill_after_seconds)
        if process.returncode is None:
            process.kill()
    done = await end(process)
    if done.code == 0:
        assert place.judge(done.out.strip()) == "", "a dead token was handed out"
    return done


async def test_many_at_once_share_one_token(tmp_path: Path) -> None:
    await _crowd(tmp_path, processes=6, rounds=2, killed=0, seed=1)


@pytest.mark.full
async def test_forty_at_once_share_one_token(tmp_path: Path) -> None:
    await _crowd(tmp_path, processes=40, rounds=5, killed=0, seed=2)


@pytest.mark.full
async def test_any_of_many_may_be_killed(tmp_path: Path) -> None:
    await _crowd(tmp_path, processes=20, rounds=3, killed=5, seed=3)
