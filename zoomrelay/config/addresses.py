"""URLs and listening addresses: what is accepted, and how they are shown. Pure.

Every ValueError says what was expected and never what was given: a URL may hold a password.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit


def split_url(text: str, *schemes: str) -> SplitResult:
    """The parts of an absolute URL with one of `schemes`, a host and no user or password in it."""
    try:
        url = urlsplit(text)
        port_is_valid = url.port is None or url.port > 0
    except ValueError:
        raise ValueError("is not a URL that can be read") from None
    if url.scheme not in schemes or not url.hostname or not port_is_valid or _unprintable(text):
        raise ValueError("must be a URL that begins with " + " or ".join(f"{name}://" for name in schemes))
    if "@" in url.netloc:
        raise ValueError("must not hold a user name or password")
    return url


def _unprintable(text: str) -> bool:
    """urlsplit drops tabs and newlines without a word; whoever gave them should hear of it."""
    return " " in text or not text.isprintable()


def http_url(text: str) -> str:
    """`text` itself, once it is known to be an http(s) URL without credentials."""
    split_url(text, "https", "http")
    return text


def ws_url(text: str) -> str:
    """`text` itself, once it is known to be a ws(s) URL without credentials."""
    split_url(text, "wss", "ws")
    return text


def proxy_url(text: str) -> str:
    """Empty, or the URL of an http(s) proxy without credentials."""
    if not text:
        return text
    try:
        return http_url(text)
    except ValueError as error:
        if "password" not in str(error):
            raise
        raise ValueError(f"{error}; a proxy that asks for one belongs in HTTPS_PROXY") from None


def url_path(text: str) -> str:
    """`text` itself, once it is known to be a path as a request names it."""
    if not text.startswith("/") or not text.isascii() or _unprintable(text) or set(text) & set("?#%"):
        raise ValueError('must be a path like "/webhook", of plain characters')
    return text


def shown_url(text: str) -> str:
    """`text` without what may be secret in it: user, password and the values of the query."""
    url = urlsplit(text)
    query = urlencode([(key, "***") for key, _ in parse_qsl(url.query, keep_blank_values=True)], safe="*")
    return url._replace(netloc=url.netloc.rpartition("@")[2], query=query).geturl()


def listen_address(text: str) -> tuple[str, int] | None:
    """Host and port of `host:port`, `[::1]:port` or `:port` (host "" is every address); None for "".

    Port 0 lets the system choose.
    """
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError('must be host:port, ":port" for every address, or "" to turn it off')
    if ":" in host and not bracketed:
        raise ValueError("an IPv6 address needs brackets, like [::1]:9464")
    return (host[1:-1] if bracketed else host), int(port)


def listen(text: str) -> str:
    """`text` itself, once `listen_address` can read it."""
    listen_address(text)
    return text
