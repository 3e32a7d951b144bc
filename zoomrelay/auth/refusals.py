"""What an answer without a token means: refused for good, or trouble that passes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zoomrelay.errors import TokenError, TokenRefused, TokenUnavailable

_CREDENTIALS = "check client_id and client_secret against the app's page in the Zoom Marketplace"
_ACCOUNT = "check account_id, and that the app is a Server-to-Server app of that account, and activated"
_GRANT = "the app's type does not offer this grant: set grant, and account_id for a Server-to-Server app"
_DISABLED = "activate the app in the Zoom Marketplace, or ask the account's admin to allow it"
_OWNER = "the app's owner was removed from the account: assign the app to a present user"
_REVOKED = "the app was authorised anew elsewhere: use a dedicated app for this relay"
_SCOPES = "look at the app's activation page in the Zoom Marketplace, it lists what is missing"

_BY_NUMBER = {
    4702: ("invalid_client", _CREDENTIALS),
    4704: ("invalid_client", _CREDENTIALS),
    4705: ("unsupported_grant_type", _GRANT),
    4706: ("invalid_request", _CREDENTIALS),
    4711: ("invalid_scope", _SCOPES),
    4717: ("app_disabled", _DISABLED),
    4735: ("owner_missing", _OWNER),
    4738: ("app_disabled", _DISABLED),
    4741: ("token_revoked", _REVOKED),
}
"""Zoom's OAuth error codes that only a person can cure (developers.zoom.us, OAuth error codes)."""

_BY_WORD = {
    "invalid_client": _CREDENTIALS,
    "unauthorized_client": _GRANT,
    "unsupported_grant_type": _GRANT,
    "invalid_grant": _ACCOUNT,
    "invalid_request": _ACCOUNT,
    "invalid_scope": _SCOPES,
    "access_denied": _DISABLED,
}
"""The `error` words of RFC 6749, with what they mean at Zoom."""

_BY_PHRASE = {
    "unsupported grant": "unsupported_grant_type",
    "app has been disabled": "app_disabled",
    "invalid client": "invalid_client",
}
"""For answers that are bare text. Only a hint: what is not found here is trouble that passes."""

_NUMBER = re.compile(r"\b47\d\d\b")
_MAX_WORDS = 200


def classify(
    status: int, answer: Mapping[str, object] | None, text: str, retry_after: float | None
) -> TokenError:
    """The error for an HTTP answer that holds no token.

    `answer` is its body as a JSON object, or None where it is none; `text` is its plain text, shown to
    the user in part, so secrets must be taken out before. Permanent only where Zoom says so in a form
    that we know, or with a client error in JSON: a gateway's page of HTML is never the last word.
    """
    if status in (408, 425, 429) or status >= 500:
        return _passing(status, "rate_limited" if status == 429 else f"http_{status}", retry_after)
    fields = {key.lower(): value for key, value in (answer or {}).items()}
    words = _words(fields, text)
    found = _refusal(fields, words)
    if found is None and answer is not None and 400 <= status < 500:
        found = (f"http_{status}", _ACCOUNT)
    if found is None:
        return _odd(status, answer, retry_after)
    reason, cure = found
    said = f'"{words}", ' if words else ""
    return TokenRefused(
        f"Zoom refused the credentials: {said}{reason}, HTTP {status}",
        reason=reason,
        cure=cure,
        retry_after=retry_after,
    )


def _words(fields: Mapping[str, object], text: str) -> str:
    """What Zoom says in words, one short line of it."""
    told = next(
        (
            str(fields[key])
            for key in ("reason", "error_description", "message", "errormessage")
            if fields.get(key)
        ),
        "",
    )
    if not told and not fields and "<" not in text:
        told = text
    return " ".join(told.split())[:_MAX_WORDS]


def _refusal(fields: Mapping[str, object], words: str) -> tuple[str, str] | None:
    """Reason and cure, by Zoom's number, by its `error` word, by a phrase; in this order of trust."""
    told = " ".join(str(fields.get(key, "")) for key in ("code", "errorcode", "error_code", "error"))
    for number in _NUMBER.findall(f"{told} {words}"):
        if int(number) in _BY_NUMBER:
            return _BY_NUMBER[int(number)]
    word = str(fields.get("error", "")).lower()
    if word in _BY_WORD:
        return word, _BY_WORD[word]
    for phrase, reason in _BY_PHRASE.items():
        if phrase in words.lower():
            return reason, _BY_WORD.get(reason, _DISABLED)
    return None


def _passing(status: int, reason: str, retry_after: float | None) -> TokenUnavailable:
    return TokenUnavailable(
        f"the token endpoint answered HTTP {status}", reason=reason, retry_after=retry_after
    )


def _odd(status: int, answer: Mapping[str, object] | None, retry_after: float | None) -> TokenUnavailable:
    if 300 <= status < 400:
        what, reason = f"a redirect (HTTP {status}), which is not followed", "redirected"
    elif answer is None:
        what, reason = f"HTTP {status} with something that is not JSON", "not_json"
    else:
        what, reason = f"HTTP {status} without a token", "no_token"
    return TokenUnavailable(
        f"the token endpoint answered {what}",
        reason=reason,
        cure="check token_url, and whether a proxy or a sign-in page stands between",
        retry_after=retry_after,
    )
