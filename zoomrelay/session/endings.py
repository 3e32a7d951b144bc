"""Why a connection ended or an attempt failed, in a closed set of words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from zoomrelay.errors import ConnectionEnded, DialError, TokenError


class Cause(StrEnum):
    """The word for logs, metrics and the gap ledger."""

    CLOSED = "closed"
    """Zoom closed it with a close frame, of whatever code: Zoom says 1000 "Bye" for refusals too."""
    RESET = "reset"
    """It broke without a close frame."""
    SILENT = "silent"
    """Nothing came for `dead_after_seconds`, or nothing could be sent."""
    SUSPENDED = "suspended"
    """This machine slept."""
    DISPLACED = "displaced"
    """Another connection took the subscription."""
    REFUSED_TOKEN = "refused_token"
    """Zoom refused the token."""
    REFUSED = "refused"
    """Zoom refused for another reason."""
    NOT_ACCEPTED = "not_accepted"
    """The socket opened, and Zoom neither accepted nor refused in time."""
    OVERSIZE = "oversize"
    """A message exceeded `max_message_bytes`."""
    PROTOCOL = "protocol"
    """The other side broke the rules of WebSocket."""
    DIAL_FAILED = "dial_failed"
    """No socket could be opened."""
    NO_TOKEN = "no_token"
    """No token could be had."""
    STOPPED = "stopped"
    """We closed it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """One end, explained. Holds no secret."""

    cause: Cause
    detail: str = ""
    cure: str = ""
    clean: bool = False
    """Zoom ended it with a close frame: what it sent before has arrived."""
    retry_after: float | None = None
    """Seconds that somebody asked us to wait."""
    believed_permanent: bool = False
    """Trying again soon will probably not help."""


_EMPTY_TOKEN_CURE = (
    "Zoom saw no token in the socket's address: something on the way strips the query from it"
    " (look at the proxy), or ws_url does not lead to Zoom directly"
)
_TOKEN_CURE = (
    "Zoom does not take this app's token for this subscription: check that the subscription belongs to the"
    " app, and that the app is activated and has its WebSocket scopes"
)
_REFUSED_CURE = "check that the subscription exists, is of type WebSocket, and that the app is activated"
_LOOK_FOR = (
    ", and Zoom serves one at a time. Look for a second relay, an old container, a colleague's laptop, a"
    " script with the same subscription id; stop it, or give each a subscription of its own. A reload (HUP)"
    " or a restart tries at once"
)
DISPLACED_CURE = "another program uses this subscription" + _LOOK_FOR
CONTESTED_CURE = (
    "Zoom closes it again and again soon after it was accepted, so most likely another program uses this"
    " subscription" + _LOOK_FOR
)


def refusal(text: str) -> Ending:
    """What `success: false` means. Zoom changed its wording twice, so only words that survived count."""
    lowered = text.lower()
    said = f'Zoom says "{" ".join(text.split())[:200]}"'
    if "another place" in lowered:
        return Ending(Cause.DISPLACED, said, DISPLACED_CURE)
    if "token" in lowered:
        cure = _EMPTY_TOKEN_CURE if "empty" in lowered else _TOKEN_CURE
        return Ending(Cause.REFUSED_TOKEN, said, cure)
    return Ending(Cause.REFUSED, said, _REFUSED_CURE, believed_permanent=True)


def connection_ended(error: ConnectionEnded) -> Ending:
    """The end of an open socket. Codes only inform: every one leads to a new attempt."""
    detail = " ".join(f"{error.code or ''} {error.reason}".split())[:200]
    if "another place" in error.reason.lower():
        return Ending(Cause.DISPLACED, detail, DISPLACED_CURE, clean=error.clean)
    cure = "raise max_message_bytes" if error.cause == "oversize" else ""
    return Ending(Cause(error.cause), detail, cure, clean=error.clean)


def dial_failed(error: DialError) -> Ending:
    """An attempt that came to no socket."""
    if error.status in (401, 403):
        return Ending(Cause.REFUSED_TOKEN, str(error), _TOKEN_CURE)
    limited = error.status in (408, 425, 429)
    return Ending(
        Cause.DIAL_FAILED,
        str(error),
        error.cure,
        retry_after=error.retry_after or (30.0 if limited else None),
        believed_permanent=error.status is not None and 400 <= error.status < 500 and not limited,
    )


def no_token(error: TokenError) -> Ending:
    """An attempt that did not even get a token; the token's own rhythm sets the next."""
    return Ending(
        Cause.NO_TOKEN,
        str(error),
        error.cure,
        retry_after=error.retry_after,
        believed_permanent=not error.retryable,
    )
