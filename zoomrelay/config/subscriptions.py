"""Zoom's subscription ids, bare or inside the URL that Zoom's Marketplace shows. Pure.

Ids are 22 characters of the base64url alphabet today; the length is not documented, so it is not checked.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from zoomrelay.config.addresses import split_url

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HOW = "copy the endpoint URL, or only its subscriptionId, from the app's event subscription page"


def subscription(text: str) -> str:
    """`text` made ready for use: a bare id, or a whole URL without any `access_token` in it.

    Raises ValueError, saying what to do, for anything in which there is no subscription id.
    """
    text = text.strip()
    if "://" not in text:
        return _checked(text)
    url = split_url(text, "wss", "ws")
    _checked(_parameter(url))
    kept = [(key, value) for key, value in _parameters(url) if key.lower() != "access_token"]
    return url._replace(query=urlencode(kept), fragment="").geturl()


def subscription_id(text: str) -> str:
    """The id in a bare id or in a whole `wss://…?subscriptionId=…` URL. Raises ValueError without one."""
    text = text.strip()
    return _checked(_parameter(urlsplit(text)) if "://" in text else text)


def _checked(candidate: str) -> str:
    if not _ID.fullmatch(candidate):
        raise ValueError(f"there is no subscription id in it: {_HOW}")
    return candidate


def _parameter(url: SplitResult) -> str:
    return next((value for key, value in _parameters(url) if key.lower() == "subscriptionid"), "")


def _parameters(url: SplitResult) -> list[tuple[str, str]]:
    return parse_qsl(url.query, keep_blank_values=True)
