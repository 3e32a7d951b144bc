"""Where Zoom's OAuth lives, derived from `token_url`. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit


def authorize_url(token_url: str) -> str:
    """Where a person grants access; without a query."""
    return _beside(token_url, "authorize")


def revoke_url(token_url: str) -> str:
    """Where a token is revoked."""
    return _beside(token_url, "revoke")


def _beside(token_url: str, name: str) -> str:
    """`…/oauth/token` → `…/oauth/NAME`."""
    url = urlsplit(token_url)
    return url._replace(path=f"{url.path.rstrip('/').rpartition('/')[0]}/{name}", query="").geturl()
