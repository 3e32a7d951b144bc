"""The token cache and the real process: restarts, kills while a token is renewed, changed secrets."""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from tests.support import crash
from tests.support.lab import Lab
from tests.support.process import RelayProcess
from tests.support.token_server import RotatingZoom
from zoomrelay.auth.endpoint import TokenEndpoint
from zoomrelay.auth.manager import TokenManager
from zoomrelay.auth.record import Record
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.clock import SystemClock
from zoomrelay.config import load
from zoomrelay.telemetry.metrics import Metrics


async def test_restarts_and_kills_cost_no_token(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=21) as lab:
        for _ in range(2):
            await lab.start()
            lab.kill()
        await lab.start()
        await lab.relay.stop()
        await lab.start()
        await lab.finish()
        await lab.relay.stop()
        assert lab.zoom.token_requests == 1
        assert len(lab.relay.log("auth.token_issued")) == 1
        assert len(lab.relay.log("auth.token_adopted")) == 3
        caches = list((lab.state_dir / "tokens").glob("*.json"))
        assert len(caches) == 1 and lab._tokens[0] in caches[0].read_text(), "the cache is what was found"
        lab.judge()


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
    async with Lab(tmp_path, seed=23, expires_in_seconds=4) as lab:
        secret_file.write_text(lab.zoom.credentials.client_secret)
        _with_secret_file(lab, secret_file)
        await lab.start()
        lab.zoom.set_rate(50)
        await lab.relay.until(lambda: lab.zoom.token_requests >= 2, "a renewal")
        known = lab.zoom.tokens._credentials
        lab.zoom.tokens._credentials = msgspec.structs.replace(known, client_secret=new)
        secret_file.write_text(new + "\n")
        issued = len(lab._tokens)
        await lab.relay.until(lambda: len(lab._tokens) > issued, "a token by the new secret")
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        assert len(lab.zoom.journal.connections) == 1
        assert lab.relay.log("auth.client_secret_changed")
        assert not lab.relay.log("auth.credentials_refused")
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
        config = load(self.relay.config_file, environ={}).config
        source = config.sources["main"]
        self.store = FileStore(config.state_dir, source)
        self.manager = TokenManager(
            source,
            TokenEndpoint(source, SystemClock()),
            SystemClock(),
            Random(1),
            Metrics(CollectorRegistry()),
            store=self.store,
        )

    async def log_in(self) -> None:
        """So that the access token must be renewed at once."""
        await self.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
        await self.manager.forget()

    async def kept(self) -> Record:
        return await self.store.read()


STEPS = [
    ("tokens.keep.half", 1),
    ("tokens.keep.after", 1),
    ("tokens.ask.before", 1),
    ("tokens.keep.after", 2),
]
LOSING_STEPS = [("tokens.ask.after", 1), ("tokens.keep.before", 2), ("tokens.keep.half", 2)]
LATER = [pytest.param(*step, marks=pytest.mark.full) for step in STEPS[:2] + LOSING_STEPS[1:]]


@pytest.mark.parametrize(("point", "passage"), [*STEPS[2:], LOSING_STEPS[0], *LATER])
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
