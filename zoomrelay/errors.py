"""The error tree. An error answers one question: retry, or stop?

Foreign exceptions become one of these at the edge where they occur, with their cause kept. Exit codes
are chosen in `zoomrelay.cli` and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass


class ZoomrelayError(Exception):
    """Base of every error that zoomrelay raises on purpose."""

    retryable = False


# --- set-up -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration."""

    where: str
    """The setting's dotted path, or the file."""
    what: str
    """What is wrong and what was expected; never a secret's value."""
    cure: str = ""
    """What to do, where that is not plain from `what`."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.cure})" if self.cure else "")


class ConfigError(ZoomrelayError):
    """The configuration cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class StateDirectoryError(ZoomrelayError):
    """The state directory is missing, in use by another relay, or not ours to use."""


class RelayNotRunning(ZoomrelayError):
    """No relay answers at the control socket of this state directory."""


class ControlRefused(ZoomrelayError):
    """The running relay answered a command with a refusal; its words say why."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status: 400 a wrong request, 404 no such thing, 409 not
        beside what is under way, 422 an invalid configuration, 503 not now."""


class TakeoverRefused(ZoomrelayError):
    """The running relay was not taken over, and goes on; its words say why."""


# --- Zoom -------------------------------------------------------------------------------------------


class TokenError(ZoomrelayError):
    """No token could be had."""

    def __init__(
        self, message: str, *, reason: str, cure: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        """Short, stable word for metrics and logs, for instance `invalid_client`."""
        self.cure = cure
        self.retry_after = retry_after
        """Seconds that the other side asked us to wait."""
        self.answer_lost = False
        """The request may have been carried out, and its answer did not reach us."""


class TokenUnavailable(TokenError):
    """The token endpoint could not be reached, or answered with trouble of its own. Try again."""

    retryable = True


class TokenRefused(TokenError):
    """Zoom refused our credentials. Trying again soon will not help; somebody must act."""


class TokenStoreError(ZoomrelayError):
    """The token cache cannot be read, locked or written right now. Its words name the file."""

    retryable = True


class TokenStoreBusy(TokenStoreError):
    """Another process held the token cache for longer than we were ready to wait."""


class DialError(ZoomrelayError):
    """A WebSocket could not be opened. Its words hold no URL, since that holds the token."""

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        stage: str,
        cure: str = "",
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.stage = stage
        """How far it came: url, dns, tcp, proxy, tls, upgrade or timeout."""
        self.cure = cure
        self.status = status
        """HTTP status of a refused upgrade."""
        self.retry_after = retry_after
        """Seconds that the other side asked us to wait."""


class ConnectionEnded(ZoomrelayError):
    """An open WebSocket came to its end."""

    retryable = True

    def __init__(self, cause: str, *, code: int | None = None, reason: str = "", clean: bool = False) -> None:
        super().__init__(f"{cause}{f' {code}' if code else ''}{f' {reason}' if reason else ''}")
        self.cause = cause
        """closed, reset, oversize or protocol."""
        self.code = code
        self.reason = reason
        self.clean = clean
        """The other side sent a close frame."""


class ConsentError(ZoomrelayError):
    """A person's consent was not given, or could not be had. Its words say what to do."""


class StrangeRedirect(ConsentError):
    """What came back is not the answer to what was asked. The answer may still come."""

    retryable = True


# --- sinks ------------------------------------------------------------------------------------------


class SinkError(ZoomrelayError):
    """A sink did not take what it was sent."""

    def __init__(self, reason: str, *, excerpt: str = "", status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        """What happened, in a few words, for instance `HTTP 503`."""
        self.excerpt = excerpt
        """The first bytes of the receiver's answer, for the dead letter."""
        self.status = status


class SinkUnavailable(SinkError):
    """The receiver could not take it now; send the same again later."""

    retryable = True

    def __init__(
        self, reason: str, *, retry_after: float | None = None, excerpt: str = "", status: int | None = None
    ) -> None:
        super().__init__(reason, excerpt=excerpt, status=status)
        self.retry_after = retry_after
        """Seconds that the receiver asked us to wait."""


class SinkRejected(SinkError):
    """The receiver answered that it does not want this event.

    `final` says that the configuration settles the matter (`dead_letter_on`); otherwise delivery
    decides whether the answer speaks of the event or of the receiver.
    """

    def __init__(
        self, reason: str, *, final: bool = False, excerpt: str = "", status: int | None = None
    ) -> None:
        super().__init__(reason, excerpt=excerpt, status=status)
        self.final = final


# --- spool ------------------------------------------------------------------------------------------


class SpoolError(ZoomrelayError):
    """The spool cannot hold what it was given right now."""

    retryable = True


class ReplayRefused(ZoomrelayError):
    """Nothing can be replayed now; its words say why."""


class SpoolFormatError(ZoomrelayError):
    """The spool file was written by a newer zoomrelay; it was left untouched."""
