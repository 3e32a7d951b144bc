"""Why a connection ended or an attempt failed, in a closed set of words. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from zoomrelay import causes
from zoomrelay.errors import ConnectionEnded, DialError, TokenError

_TOKEN_LENGTH = 40
"""No word that Zoom says is as long, and no token is shorter."""


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
    TAKEOVER = "takeover"
    """It ended because another relay takes over from this one."""


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


def refusal(text: str) -> Ending:
    """What `success: false` means. Zoom changed its wording twice, so only words that survived count."""
    lowered = text.lower()
    said = f'Zoom says "{_quoted(text)}"'
    if "another place" in lowered:
        return Ending(Cause.DISPLACED, said, causes.DISPLACED.cure)
    if "token" in lowered:
        known = causes.EMPTY_TOKEN if "empty" in lowered else causes.REFUSED_TOKEN
        return Ending(Cause.REFUSED_TOKEN, said, known.cure)
    return Ending(Cause.REFUSED, said, causes.REFUSED.cure, believed_permanent=True)


def connection_ended(error: ConnectionEnded) -> Ending:
    """The end of an open socket. Codes only inform: every one leads to a new attempt."""
    detail = _quoted(f"{error.code or ''} {error.reason}")
    if "another place" in error.reason.lower():
        return Ending(Cause.DISPLACED, detail, causes.DISPLACED.cure, clean=error.clean)
    cure = causes.OVERSIZE.cure if error.cause == "oversize" else ""
    return Ending(Cause(error.cause), detail, cure, clean=error.clean)


def _quoted(text: str) -> str:
    """Zoom's words, short, without any that could be a token."""
    return " ".join("***" if len(word) >= _TOKEN_LENGTH else word for word in text.split())[:200]


def dial_failed(error: DialError) -> Ending:
    """An attempt that came to no socket."""
    if error.status in causes.UPGRADE_TOKEN.statuses:
        return Ending(Cause.REFUSED_TOKEN, str(error), causes.UPGRADE_TOKEN.cure)
    limited = error.status in causes.UPGRADE_LIMITED.statuses
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


def handed_over(ending: Ending) -> Ending:
    """The same during a takeover: that Zoom closes it for the sake of the new connection, or we do, is
    meant."""
    if ending.cause is Cause.DISPLACED or (ending.clean and ending.cause in (Cause.CLOSED, Cause.STOPPED)):
        return replace(ending, cause=Cause.TAKEOVER, detail=ending.detail or "closed for it", cure="")
    return ending
