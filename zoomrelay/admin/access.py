"""Who may read the admin port. Pure, but for the name of this machine."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from urllib.parse import urlsplit


def token_is_right(authorization: str, token: str) -> bool:
    """Whether an Authorization header holds this bearer token (RFC 6750). The time that it takes does not
    tell how much of a wrong one is right."""
    scheme, _, given = authorization.partition(" ")
    same = hmac.compare_digest(given.strip().encode(errors="surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"


def host_is_ours(header: str, bound_host: str) -> bool:
    """Whether a browser that sends this Host header meant us. A page of somebody else can let its own name
    lead to our address (DNS rebinding) and read what we answer; a name that is ours, or a bare
    address, cannot be made to belong to that page. No header: not a browser."""
    if not header:
        return True
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    own = {"localhost", bound_host.lower(), socket.gethostname().lower()}
    return host in own or host.endswith(".localhost") or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
