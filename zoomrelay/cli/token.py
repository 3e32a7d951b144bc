"""`zoomrelay token`: a valid token for other programs, out of the cache that they share with the relay.

What answers from a warm cache imports as little as can be; the rest is imported where it is needed.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from zoomrelay.auth.stores.glance import glance
from zoomrelay.cli.options import ConfigOption, load_config
from zoomrelay.cli.sources import SourceOption, chosen, token_directory
from zoomrelay.clock import Clock, SystemClock

if TYPE_CHECKING:
    from zoomrelay.auth.token import Token
    from zoomrelay.cli.token_cache import TokenCache
    from zoomrelay.config.models import Config, SourceConfig

MIN_TTL_SECONDS = 300.0
SHARE = 0.9
"""Of a new token's life: who wants more gets that, and not a new token each time."""


def command(
    config: ConfigOption = None,
    source: SourceOption = "",
    min_ttl: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Life that the token should have left.")
    ] = MIN_TTL_SECONDS,
    header: Annotated[bool, typer.Option("--header", help="Print it as an Authorization header.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it with its end, scopes and more.")] = False,
    rejected: Annotated[
        str,
        typer.Option(
            metavar="TOKEN",
            help='Zoom refused this one: print another. "-" reads it from standard input.',
            show_default=False,
        ),
    ] = "",
    forget: Annotated[bool, typer.Option("--forget", help="Drop the token from the cache.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Make it invalid at Zoom, and drop it.")] = False,
) -> None:
    """Print a valid token, and nothing else. A new one is asked for only if there is none in the cache with
    enough life left. Exits with 1 if none can be had, and says why on standard error.

    --forget keeps the refresh token of a login; after --revoke a new login is needed.
    """
    if sum((header, as_json, forget, revoke)) > 1 or (rejected and (forget or revoke)):
        raise typer.BadParameter("these options exclude each other; see --help")
    settings = load_config(config).config
    app = chosen(settings, source)
    state_dir = token_directory(settings.state_dir)
    if forget or revoke:
        cache = _cache(settings, app)
        cache.revoke() if revoke else cache.forget()
        return
    clock = SystemClock()
    token = None if rejected else glance(state_dir, app, clock, min_ttl, SHARE)
    if token is None:
        token = _cache(settings, app).get(min_ttl, SHARE, rejected=_given(rejected))
    typer.echo(_shown(token, app, clock, as_json=as_json, header=header))


def _cache(config: Config, source: SourceConfig) -> TokenCache:
    from zoomrelay.cli.token_cache import TokenCache

    return TokenCache(config, source)


def _given(rejected: str) -> str:
    """The rejected token itself; what is read need not stand in the list of processes."""
    given = sys.stdin.readline() if rejected == "-" else rejected
    if rejected and not given.strip():
        raise typer.BadParameter("no token was given", param_hint="--rejected")
    return given.strip()


def _shown(token: Token, source: SourceConfig, clock: Clock, *, as_json: bool, header: bool) -> str:
    if not as_json:
        return f"Authorization: Bearer {token.value}" if header else token.value
    left_seconds = token.life_seconds - (clock.elapsed() - token.issued.elapsed)
    ends = datetime.fromtimestamp(clock.wall(), UTC) + timedelta(seconds=left_seconds)
    document = {
        "access_token": token.value,
        "token_type": "bearer",
        "expires_at": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "expires_in": int(left_seconds),
        "scopes": list(token.scopes),
        "api_url": token.api_url or source.api_url.removesuffix("/v2"),
        "source": source.name,
        "grant": token.grant,
    }
    return json.dumps(document, indent=2)
