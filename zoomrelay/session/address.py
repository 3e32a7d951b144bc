"""The address of a subscription's socket. Pure."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

_ID = "subscriptionId"
_TOKEN = "access_token"


def build_url(ws_url: str, subscription: str, token: str) -> str:
    """The address to dial. A pasted URL keeps its host and parameters and beats `ws_url`; a token that
    somebody left in it is dropped. Zoom takes the token in the query only: in a header it is refused
    with "token is empty".
    """
    subscription = subscription.strip()
    pasted = "://" in subscription
    parts = urlsplit(subscription if pasted else ws_url)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0].lower() != _TOKEN]
    if not pasted:
        query = [pair for pair in query if pair[0] != _ID] + [(_ID, subscription)]
    query.append((_TOKEN, token))
    return urlunsplit(
        (parts.scheme, parts.netloc, parts.path, urlencode(query, quote_via=quote, safe=""), "")
    )
