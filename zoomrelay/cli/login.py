"""`zoomrelay login`: the one step of the authorization-code flow that needs a person."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import webbrowser
from datetime import UTC, datetime
from random import SystemRandom
from typing import Annotated

import typer

from zoomrelay.auth.addresses import authorize_url
from zoomrelay.auth.consent import CALLBACK, LOOPBACK, REDIRECT_RULES, Consent, begin, is_loopback
from zoomrelay.cli.login_server import Homecoming
from zoomrelay.cli.options import ConfigOption, load_config
from zoomrelay.cli.pasted import pasted_lines
from zoomrelay.cli.sources import SourceOption, chosen, token_directory
from zoomrelay.cli.token_cache import TokenCache
from zoomrelay.config.models import Config, SourceConfig
from zoomrelay.errors import ConsentError, StrangeRedirect, TokenRefused

PATIENCE_SECONDS = 600.0
"""For the person; the code itself, once Zoom has made it, lives for five minutes."""
_SPENT = (
    "a code is good for one use within five minutes, and with the redirect address it was made for: start the"
    " login again"
)
_TROUBLE = f'If Zoom shows "Invalid redirect (4700)": {REDIRECT_RULES}'


def command(
    config: ConfigOption = None,
    source: SourceOption = "",
    no_browser: Annotated[
        bool,
        typer.Option("--no-browser", help="Paste the code, or the address that the browser ends at."),
    ] = False,
    redirect_uri: Annotated[
        str, typer.Option(metavar="URL", help="The redirect address, as it stands in the app.")
    ] = CALLBACK,
) -> None:
    """Let a person grant access to the app of a source with grant = "authorization_code".

    The tokens go into the cache in the state directory, where a running relay finds them by itself.
    """
    settings = load_config(config).config
    app = _with_login(chosen(settings, source))
    token_directory(settings.state_dir)
    try:
        on_this_machine = is_loopback(redirect_uri) and not no_browser
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--redirect-uri") from error
    if on_this_machine:
        consent, code = asyncio.run(_from_browser(app, redirect_uri))
    else:
        consent = begin(app.client_id, redirect_uri, SystemRandom())
        code = _pasted(app, consent)
    ends = _redeemed(settings, app, consent, code)
    typer.echo(f'The source "{app.name}" may use the app now.{_until(ends)}')


def _redeemed(config: Config, source: SourceConfig, consent: Consent, code: str) -> float | None:
    try:
        return TokenCache(config, source).redeem(
            code, verifier=consent.verifier, redirect_uri=consent.redirect_uri
        )
    except TokenRefused as error:
        if error.reason in ("invalid_grant", "invalid_request", "invalid_token", "redirect_mismatch"):
            error.cure = _SPENT  # elsewhere these words speak of the app
        raise


def _with_login(source: SourceConfig) -> SourceConfig:
    if source.grant != "authorization_code":
        raise typer.BadParameter(
            f'needs no login: sources.{source.name}.grant is "{source.grant}", not "authorization_code"',
            param_hint="--source",
        )
    return source


async def _from_browser(source: SourceConfig, redirect_uri: str) -> tuple[Consent, str]:
    async with Homecoming(redirect_uri, say=_say) as home:
        consent = begin(source.client_id, home.redirect_uri, SystemRandom())
        address = consent.address(authorize_url(source.token_url))
        typer.echo(f"Open this address in a browser on this machine:\n\n{address}\n\n{_TROUBLE}\n")
        if _has_browser():
            # A thread of its own that nobody waits for: some browsers run until they are closed.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        return consent, await home.code(consent, PATIENCE_SECONDS)


def _pasted(source: SourceConfig, consent: Consent) -> str:
    typer.echo(f"Open this address in a browser:\n\n{consent.address(authorize_url(source.token_url))}\n")
    if consent.redirect_uri.startswith(f"http://{LOOPBACK}"):
        typer.echo("In the end the browser cannot show the page it is sent to; that is in order.")
    typer.echo(f"{_TROUBLE}\n\nThen paste the whole address at which it ended, or the code in it:")
    strange: StrangeRedirect | None = None
    for line in pasted_lines(sys.stdin.fileno(), PATIENCE_SECONDS):
        try:
            return consent.code_pasted(line)
        except StrangeRedirect as error:
            strange = error
            _say(f"{error}; paste the one that belongs to the address above:")
    raise strange or ConsentError("no code was pasted; start the login again")


def _has_browser() -> bool:
    """Where there is no screen, the standard library would start a browser in this terminal."""
    return sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    )


def _until(ends: float | None) -> str:
    if ends is None:
        return ""
    moment = datetime.fromtimestamp(ends, UTC)
    days = (moment - datetime.now(UTC)).days
    return (
        f" If nothing asks for a token before {moment:%Y-%m-%d %H:%M} UTC (in {days} days), this has to be"
        " done again; every refresh begins a new term."
    )


def _say(text: str) -> None:
    typer.echo(text, err=True)
