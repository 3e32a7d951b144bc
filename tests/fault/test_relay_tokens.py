"""The token cache and the real process: restarts, kills while a token is renewed, changed secrets."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support import crash, token_user
from tests.support.lab import Lab
from tests.support.process import RelayProcess, environment
from tests.support.token_server import RotatingZoom
from zoomrelay.intake import stamp


async def test_restarts_and_kills_cost_no_token(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=21) as lab:
        await lab.start()
        await lab.relay.until(lambda: lab.relay.log("session.accepted"), "the relay's own notice of it")
        noticed_ms = time.time() * 1000
        # Of what was before its first stamp the ledger knows nothing.
        await lab.relay.until(lambda: stamp.read(lab.state_dir).at >= noticed_ms, "a stamp")
        lab.kill()
        await lab.start()
        await lab.relay.stop()
        await lab.start()
        await lab.finish()
        await lab.relay.stop()
        assert lab.zoom.token_requests == 1
        assert len(lab.relay.log("auth.token_issued")) == 1
        assert len(lab.relay.log("auth.token_adopted")) == 2
        caches = list((lab.state_dir / "tokens").glob("*.json"))
        assert len(caches) == 1 and lab._tokens[0] in caches[0].read_text(), "the cache is what was found"
        lab.judge()


@pytest.mark.full
async def test_a_token_that_died_meanwhile_is_replaced_once(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=22) as lab:
        await lab.start()
        await lab.relay.stop()
        lab.zoom.tokens.revoke_all()
        await lab.start()
        await lab.finish()
        await lab.relay.stop()
        assert lab.zoom.token_requests == 2
        lab.judge()


async def test_a_changed_secret_file_touches_no_socket(tmp_path: Path) -> None:
    """The secret is changed in the Marketplace first and in the file later; tokens live for seconds."""
    secret_file, new = tmp_path / "secret", "NewSecretOfTheApp-8e1b"
    async with Lab(tmp_path, seed=23, expires_in_seconds=2) as lab:
        secret_file.write_text(lab.zoom.credentials.client_secret)
        _with_secret_file(lab, secret_file)
        await lab.start()
        lab.zoom.set_rate(50)
        await lab.relay.until(lambda: lab.zoom.token_requests >= 2, "a renewal")
        lab.zoom.set_client_secrets([new])
        secret_file.write_text(new + "\n")
        issued = len(lab._tokens)
        # A request under way between the two may have been refused; that is mended at once.
        await lab.relay.until(lambda: len(lab._tokens) > issued, "a token by the new secret", seconds=30)
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        assert len(lab.zoom.journal.connections) == 1
        assert lab.relay.log("auth.client_secret_changed")
        assert new not in lab.relay.log_text()
        lab.judge()


def _with_secret_file(lab: Lab, secret_file: Path) -> None:
    text = lab.relay.config_file.read_text()
    line = f'client_secret = "{lab.zoom.credentials.client_secret}"'
    assert line in text
    lab.relay.config_file.write_text(text.replace(line, f'client_secret_file = "{secret_file}"'))


# --- a source that somebody logged in for ---------------------------------------------------------------

_CONFIG = """
state_dir = "{state}"
[sources.main]
client_id = "the-client"
grant = "authorization_code"
token_url = "{url}"
[admin]
listen = ""
[log]
format = "json"
"""


class User:
    """A relay that owns tokens only, and whoever logs in for it."""

    def __init__(self, directory: Path, zoom: RotatingZoom) -> None:
        self.relay = RelayProcess(directory)
        (directory / "state").mkdir(mode=0o700)
        self.relay.config_file.write_text(_CONFIG.format(state=directory / "state", url=zoom.url))
        self.manager = token_user.manager(self.relay.config_file)

    async def log_in(self) -> None:
        """So that the access token must be renewed at once."""
        await self.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
        await self.manager.forget()


STEPS = [
    ("tokens.keep.half", 1),
    ("tokens.keep.after", 1),
    ("tokens.ask.before", 1),
    ("tokens.keep.after", 2),
]
LOSING_STEPS = [("tokens.ask.after", 1), ("tokens.keep.before", 2), ("tokens.keep.half", 2)]
LATER = [pytest.param(*step, marks=pytest.mark.full) for step in STEPS[1:] + LOSING_STEPS]


@pytest.mark.parametrize(("point", "passage"), [STEPS[0], *LATER])
async def test_killed_while_it_renews(
    tmp_path: Path, point: str, passage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    async with RotatingZoom() as zoom:
        user = User(tmp_path, zoom)
        await user.log_in()
        try:
            user.relay.start(module=crash.MODULE, environ={crash.VARIABLE: f"{point}:{passage}"})
            assert await user.relay.ended(60) == -signal.SIGKILL, user.relay.tail()
            user.relay.start()
            if (point, passage) in LOSING_STEPS:
                await _says_what_was_lost(user)
            else:
                await user.relay.until(lambda: _has_token(user), "a token")
                assert not user.relay.log("auth.credentials_refused")
            await user.relay.stop()
        finally:
            user.relay.abandon()
        leaks = [value for value in zoom.issued if value in user.relay.log_text()]
        assert leaks == []
        (cache,) = (tmp_path / "state" / "tokens").glob("*.json")
        assert zoom.issued[-1] in cache.read_text(), "the newest refresh token is kept"


async def _says_what_was_lost(user: User) -> None:
    await user.relay.until(lambda: user.relay.log("auth.credentials_refused"), "the complaint")
    assert user.relay.log("auth.refresh_interrupted")
    (line,) = user.relay.log("auth.credentials_refused")
    assert (line["reason"], line["cure"]) == ("refresh_token_lost", "run: zoomrelay login --source main")
    await user.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
    await user.relay.until(lambda: _has_token(user), "the tokens of the login")


def _has_token(user: User) -> bool:
    return bool(user.relay.log("auth.token_issued") or user.relay.log("auth.token_adopted"))


# --- several processes ----------------------------------------------------------------------------------


async def _ask(user: User, point: str = "") -> tuple[int, str]:
    """What one more process gets: its exit code and the token."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.token_user",
        str(user.relay.config_file),
        env=environment({crash.VARIABLE: point} if point else {}),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        told, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, told.decode().rpartition("\n")[2]  # the log stands before it


async def test_several_processes_share_one_token_and_one_is_killed_with_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    async with RotatingZoom() as zoom:
        user = User(tmp_path, zoom)
        await user.log_in()
        # Not two: who finds that two were killed while they asked waits for an hour.
        points = ["tokens.keep.half:2", "", "", "", ""]
        zoom.old_works = True
        answers = await asyncio.gather(*(_ask(user, point) for point in points))
        tokens = {token for code, token in answers if code == 0}
        assert {code for code, _ in answers[1:]} == {0}
        assert len(tokens) == 1 and tokens < set(zoom.issued)
        assert 2 <= len(zoom.grants) <= 3, "a login, a renewal, and one whose process was killed"
        assert await _ask(user) == (0, tokens.pop())
