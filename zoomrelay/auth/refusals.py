"""What an answer without a token means: refused for good, or trouble that passes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zoomrelay import causes
from zoomrelay.causes import Cause
from zoomrelay.errors import TokenError, TokenRefused, TokenUnavailable

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
        limited = status == 429
        cause = causes.RATE_LIMITED if limited else causes.HTTP_5XX
        return _passing(status, cause, cause.key if limited else f"http_{status}", retry_after)
    fields = {key.lower(): value for key, value in (answer or {}).items()}
    words = _words(fields, text)
    found = _cause(fields, words)
    if found is not None and not found.permanent:
        return _passing(status, found, found.key, retry_after)
    if found is None and answer is not None and 400 <= status < 500:
        found = causes.HTTP_4XX
    if found is None:
        return _odd(status, answer, retry_after)
    reason = f"http_{status}" if found is causes.HTTP_4XX else found.key
    said = f'"{words}", ' if words else ""
    return TokenRefused(
        f"Zoom refused the credentials: {said}{reason}, HTTP {status}",
        reason=reason,
        cure=found.cure,
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


def _cause(fields: Mapping[str, object], words: str) -> Cause | None:
    """By Zoom's number, by its `error` word, by a phrase; in this order of trust."""
    told = " ".join(str(fields.get(key, "")) for key in ("code", "errorcode", "error_code", "error"))
    numbers = (causes.TOKEN.by_code(int(number)) for number in _NUMBER.findall(f"{told} {words}"))
    return (
        next(filter(None, numbers), None)
        or causes.TOKEN.by_word(str(fields.get("error", "")).lower())
        or causes.TOKEN.by_phrase(words)
    )


def _passing(status: int, cause: Cause, reason: str, retry_after: float | None) -> TokenUnavailable:
    return TokenUnavailable(
        f"the token endpoint answered HTTP {status}",
        reason=reason,
        cure=cause.cure,
        retry_after=retry_after,
    )


def _odd(status: int, answer: Mapping[str, object] | None, retry_after: float | None) -> TokenUnavailable:
    if 300 <= status < 400:
        what, cause = f"a redirect (HTTP {status}), which is not followed", causes.REDIRECTED
    elif answer is None:
        what, cause = f"HTTP {status} with something that is not JSON", causes.NOT_JSON
    else:
        what, cause = f"HTTP {status} without a token", causes.NO_TOKEN
    return TokenUnavailable(
        f"the token endpoint answered {what}", reason=cause.key, cure=cause.cure, retry_after=retry_after
    )
