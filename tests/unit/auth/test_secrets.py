"""Client secrets that change while the relay runs, and a second one for the time between."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.auth.test_endpoint import ISSUED, Server, answer, serving
from zoomrelay.auth.endpoint import TokenEndpoint
from zoomrelay.auth.secrets import ClientSecrets
from zoomrelay.clock import SystemClock
from zoomrelay.config import load
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import ConfigError, TokenRefused, TokenUnavailable
from zoomrelay.telemetry.redaction import redact

OLD, NEW, NEXT = "old-secret-of-the-app", "new-secret-of-the-app", "next-secret-of-the-app"
WRONG = answer(400, '{"reason": "Invalid client_id or client_secret", "error": "invalid_client"}')
DISABLED = answer(400, '{"code": 4717, "message": "The app has been disabled"}')


def configured(directory: Path, *lines: str, environ: dict[str, str] | None = None) -> SourceConfig:
    file = directory / "zoomrelay.toml"
    file.write_text("\n".join(["[sources.main]", 'client_id = "the-id"', *lines]))
    return load(file, environ=environ or {}).config.sources["main"]


def in_files(directory: Path) -> SourceConfig:
    (directory / "secret").write_text(f"{OLD}\n")
    (directory / "next").write_text(f"{NEXT}\n")
    return configured(
        directory,
        f'client_secret_file = "{directory}/secret"',
        f'client_secret_next_file = "{directory}/next"',
    )


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    secrets = ClientSecrets(in_files(tmp_path))
    assert secrets.candidates() == [("client_secret", OLD), ("client_secret_next", NEXT)]
    before = secrets.fingerprint()
    (tmp_path / "secret").write_text(f"{NEW}\n")
    with capture_logs() as logs:
        assert secrets.candidates() == [("client_secret", NEW), ("client_secret_next", NEXT)]
        secrets.candidates()
    assert [line["event"] for line in logs] == ["auth.client_secret_changed"]
    assert secrets.fingerprint() != before
    assert NEW not in str(logs) and NEW not in redact(f"it is {NEW}")


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("")])
def test_a_file_that_cannot_be_read_leaves_the_last_good_value(tmp_path: Path, damage: object) -> None:
    secrets = ClientSecrets(in_files(tmp_path))
    (tmp_path / "secret").write_text(NEW)
    secrets.candidates()
    damage(tmp_path / "secret")  # type: ignore[operator]
    with capture_logs() as logs:
        for _ in range(3):
            assert secrets.candidates()[0] == ("client_secret", NEW)
        (tmp_path / "secret").write_text(OLD)
        assert secrets.candidates()[0] == ("client_secret", OLD)
    assert [line["event"] for line in logs] == ["auth.client_secret_unreadable", "auth.client_secret_changed"]
    assert logs[0]["path"] == str(tmp_path / "secret")


def test_credential_files_are_read_anew_too(tmp_path: Path) -> None:
    (tmp_path / "sources.main.client_secret").write_text(OLD)
    secrets = ClientSecrets(configured(tmp_path, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}))
    (tmp_path / "sources.main.client_secret").write_text(NEW)
    assert secrets.candidates() == [("client_secret", NEW)]


def test_what_stands_in_the_configuration_stays(tmp_path: Path) -> None:
    assert ClientSecrets(configured(tmp_path, f'client_secret = "{OLD}"')).candidates() == [
        ("client_secret", OLD)
    ]


def test_a_changed_secret_file_is_no_changed_setting(tmp_path: Path) -> None:
    before = in_files(tmp_path)
    (tmp_path / "secret").write_text(NEW)
    after = load(tmp_path / "zoomrelay.toml", environ={}).config.sources["main"]
    assert before == after
    assert after != configured(tmp_path, f'client_secret = "{NEW}"')


def test_a_changed_secret_token_is_one(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first-token")
    lines = (f'client_secret = "{OLD}"', f'secret_token_file = "{tmp_path}/token"')
    before = configured(tmp_path, *lines)
    (tmp_path / "token").write_text("second-token")
    assert before != configured(tmp_path, *lines)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ((), "client_secret: is missing"),
        (('grant = "client_credentials"',), "client_secret: is missing"),
        (('client_secret = ""',), "client_secret: is empty"),
        (('grant = "authorization_code"', 'client_secret = ""'), "client_secret: is empty"),
    ],
)
def test_only_public_clients_have_no_secret(tmp_path: Path, lines: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        configured(tmp_path, *lines)
    source = configured(tmp_path, 'grant = "authorization_code"')
    assert ClientSecrets(source).candidates() == [("", "")]


# --- what is sent ---------------------------------------------------------------------------------------


class Picky(Server):
    """Takes one secret only; `answer` is for the others."""

    right = NEXT

    async def __call__(self, reader, writer) -> None:  # type: ignore[no-untyped-def]
        self.wrong, right = self.answer, self.right
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        pair = base64.b64encode(f"the-id:{right}".encode()).decode()
        self.requests.append((head, ""))
        writer.write(ISSUED if pair in head else self.wrong)
        await writer.drain()
        writer.close()


def endpoint_for(server: Server, source: SourceConfig) -> TokenEndpoint:
    url = f"http://127.0.0.1:{server.port}/oauth/token"
    return TokenEndpoint(source.model_copy(update={"token_url": url}), SystemClock(), timeout_seconds=5)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


async def test_the_next_secret_is_tried_and_remembered(tmp_path: Path) -> None:
    async with serving(Picky(WRONG)) as server:
        endpoint = endpoint_for(server, in_files(tmp_path))
        with capture_logs() as logs:
            for _ in range(3):
                assert (await endpoint.request("client_credentials")).value == "planted-token"
        assert len(server.requests) == 4, "two for the first token, one for each other"
        assert [(line["event"], line["setting"]) for line in logs] == [
            ("auth.client_secret_worked", "client_secret_next")
        ]
        server.right = OLD
        assert await endpoint.request("client_credentials"), "and back again"


async def test_another_refusal_does_not_try_the_next(tmp_path: Path) -> None:
    async with serving(Picky(DISABLED)) as server:
        endpoint = endpoint_for(server, in_files(tmp_path))
        with pytest.raises(TokenRefused) as caught:
            await endpoint.request("client_credentials")
        assert caught.value.reason == "app_disabled"
        assert len(server.requests) == 1


async def test_when_both_are_refused_it_says_so(tmp_path: Path) -> None:
    async with serving(Server(WRONG)) as server:
        endpoint = endpoint_for(server, in_files(tmp_path))
        with pytest.raises(TokenRefused) as caught:
            await endpoint.request("client_credentials")
        assert caught.value.reason == "invalid_client"
        assert len(server.requests) == 2


async def test_a_public_client_sends_its_id_in_the_form(tmp_path: Path) -> None:
    body = '{"access_token": "planted-token", "refresh_token": "planted-refresh", "expires_in": 3599}'
    async with serving(Server(answer(200, body))) as server:
        endpoint = endpoint_for(server, configured(tmp_path, 'grant = "authorization_code"'))
        form = {"code": "the-code", "code_verifier": "the-verifier", "redirect_uri": "http://127.0.0.1/x"}
        token = await endpoint.request("authorization_code", form)
        assert (token.refresh_token, token.grant) == ("planted-refresh", "authorization_code")
        assert "planted-refresh" not in repr(token)
        head, sent = server.requests[0]
        assert "authorization:" not in head
        assert sent == (
            "client_id=the-id&grant_type=authorization_code&code=the-code&code_verifier=the-verifier"
            "&redirect_uri=http%3A%2F%2F127.0.0.1%2Fx"
        )
        assert (await endpoint.request("refresh_token", {"refresh_token": "r"})).grant == "authorization_code"


async def test_revoking_goes_beside_the_token_url(tmp_path: Path) -> None:
    async with serving(Server(answer(200, '{"status": "success"}'))) as server:
        endpoint = endpoint_for(server, configured(tmp_path, f'client_secret = "{OLD}"'))
        await endpoint.revoke("the-token")
        head, sent = server.requests[0]
        assert head.startswith("post /oauth/revoke ")
        assert sent == "token=the-token"


@pytest.mark.parametrize(
    ("served", "lost"),
    [
        (answer(503, "busy"), True),
        (answer(200, "<html>"), True),
        (answer(429, "{}"), False),
        (b"HTTP/1.1 200 X\r\ncontent-length: 99\r\n\r\n{", True),
        (b"", True),
    ],
)
async def test_whether_the_answer_was_lost(tmp_path: Path, served: bytes, lost: bool) -> None:
    async with serving(Server(served)) as server:
        endpoint = endpoint_for(server, configured(tmp_path, f'client_secret = "{OLD}"'))
        with pytest.raises(TokenUnavailable) as caught:
            await endpoint.request("refresh_token", {"refresh_token": "planted-refresh"})
        assert caught.value.answer_lost is lost
        assert "planted-refresh" not in str(caught.value)


async def test_what_never_left_is_not_lost(tmp_path: Path) -> None:
    async with serving(Server(b"")) as server:
        pass
    endpoint = endpoint_for(server, configured(tmp_path, f'client_secret = "{OLD}"'))
    with pytest.raises(TokenUnavailable) as caught:
        await endpoint.request("refresh_token", {"refresh_token": "r"})
    assert caught.value.answer_lost is False
