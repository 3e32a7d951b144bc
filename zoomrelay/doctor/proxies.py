"""Which proxy stands on the way to a host, and why: by the rules of whoever connects. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "https": ("https", "all"),
    "http": ("http", "all"),
    "wss": ("wss", "socks", "https"),
    "ws": ("ws", "socks", "https", "http"),
}
"""Names of the environment's proxies (`https` is HTTPS_PROXY) that count for a scheme, the first wins.
WebSockets are dialled by `websockets`, which has an order of its own."""


@dataclass(frozen=True, slots=True)
class Route:
    """`url` is empty for the direct way; it may hold a password, `why` does not."""

    url: str
    why: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def readable(self) -> bool:
        try:
            return bool(self.host) and self.port > 0
        except ValueError:
            return False

    @property
    def supported(self) -> bool:
        return urlsplit(self.url).scheme in ("http", "https") and bool(self.host)


def route(
    scheme: str,
    host: str,
    configured: str,
    proxies: Mapping[str, str],
    bypass: Callable[[str], bool],
    *,
    plain: bool = False,
) -> Route:
    """The way to `host`. `configured` is the setting `proxy`, which beats the environment; `proxies` and
    `bypass` are `urllib.request.getproxies()` and `proxy_bypass`. `plain`: the scheme's own variable only, as
    sinks have it."""
    if configured:
        return _to(configured, "the setting proxy")
    names = (scheme,) if plain else _VARIABLES[scheme]
    name = next((name for name in names if proxies.get(name)), None)
    if name is None:
        variables = ", no ".join(f"{name.upper()}_PROXY" for name in names)
        return Route("", f"direct: none is set (no {variables})")
    if bypass(host):
        return Route("", f"direct: NO_PROXY names {host}")
    return _to(proxies[name], f"{name.upper()}_PROXY")


def _to(url: str, by: str) -> Route:
    found = Route(url if "://" in url else f"http://{url}", "")
    if not found.readable:
        return Route("invalid:", f"something that is no URL, by {by}")
    return Route(found.url, f"{urlsplit(found.url).scheme} proxy {found.place}, by {by}")
