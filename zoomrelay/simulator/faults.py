"""The ways in which the pretend Zoom can misbehave. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from zoomrelay.simulator.rubbish import Rubbish

Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Times = Annotated[int, msgspec.Meta(ge=-1)]
Status = Annotated[int, msgspec.Meta(ge=0, le=599)]
How = Literal["close", "reset", "half-open"]
"""How a connection ends: with a closing frame, with a TCP reset, or in silence while TCP stays up."""


class Faults(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Set any of these at any time; zero, empty and false mean: no such fault.

    Those with `_times` beside them are used up by that many occasions; -1 lasts until it is cleared.
    """

    # connecting
    upgrade_status: Status = 0
    """Answer the upgrade with this HTTP status instead."""
    upgrade_times: Times = -1
    refuse: str = ""
    """Refuse the connection with this text (`Invalid Token`, `Token is invalid`, …)."""
    refuse_times: Times = -1
    never_accept: bool = False
    """Upgrade, then never send `build_connection`."""

    # an accepted connection
    end_after_seconds: Seconds = 0
    """End each connection this long after its acceptance (as set when it is accepted)."""
    end_after_events: Count = 0
    """End each connection when it has carried this many events."""
    end_how: How = "close"
    close_code: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 1000
    close_reason: str = "Bye"
    stop_answering: bool = False
    """Answer neither heartbeats nor pings; events go on."""
    refuse_heartbeat: str = ""
    """Answer heartbeats with `success:false` and this text."""

    # the stream; "every N" counts the events sent
    rubbish_every: Count = 0
    """After every N events a frame in which there is no event."""
    rubbish_kind: Rubbish = Rubbish.HARMLESS
    fragment_every: Count = 0
    """Send every Nth event in several frames."""
    duplicate_every: Count = 0
    """Send every Nth event twice."""
    reorder_every: Count = 0
    """Let every Nth event change places with the one after it."""
    late_every: Count = 0
    """Hold every Nth event back for `late_seconds`."""
    late_seconds: Seconds = 5.0

    # the webhook; what happens to the stream happens to it too
    webhook_slow_seconds: Seconds = 0
    """Take so long to send the body of each request."""

    # the token endpoint
    token_delay_seconds: Seconds = 0
    token_status: Status = 0
    """Answer with this HTTP status and `token_body` instead."""
    token_body: Literal["json", "html", "empty"] = "json"
    token_retry_after: str = ""
    """Value of the Retry-After header of such an answer, as it stands."""
    token_error: str = ""
    """Answer with this refusal instead (see `tokens.ERRORS`)."""
    token_times: Times = -1
    """How many answers `token_status` or `token_error` is good for."""
    token_kills_older: bool = False
    """A new token makes the ones before it invalid."""
    token_limit: Count = 0
    """No more than so many tokens are valid at a time; a further one makes the oldest invalid."""
    token_scopes: str = ""
    """The scopes that new tokens get, separated by spaces, instead of all."""
    token_lost_times: Times = 0
    """Serve this many requests and lose the answer on the way."""
    refresh_kills_older: bool = False
    """A new refresh token makes the ones before it invalid; else the last one works once more."""

    # the authorize page
    authorize: Literal["", "allow", "deny"] = ""
    """Answer for the user, without asking."""
    authorize_state: str = ""
    """Send this `state` back instead of the one that was given."""

    # the REST API
    rest_error: str = ""
    """Answer with this error instead (see `rest.REST_ERRORS`)."""
    rest_times: Times = -1
    rest_retry_after: str = "1"
    """Value of the Retry-After header of `rate_limited`, as it stands."""

    def change(self, changes: Mapping[str, Any], *, strict: bool = True) -> None:
        """Apply all of `changes`, or raise `ValueError` and change nothing. Where it is not `strict`,
        numbers and truths may be given as text."""
        if unknown := sorted(changes.keys() - set(self.__struct_fields__)):
            raise ValueError(f"no such fault: {', '.join(unknown)}")
        try:
            changed = msgspec.convert(msgspec.structs.asdict(self) | dict(changes), Faults, strict=strict)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        for name in changes:
            setattr(self, name, getattr(changed, name))

    def clear(self) -> None:
        """Behave again."""
        self.change(msgspec.structs.asdict(Faults()))

    def take_upgrade_status(self) -> int:
        """The status to refuse this upgrade with, 0 to let it pass."""
        return self.upgrade_status if self.upgrade_status and self._use("upgrade_times") else 0

    def take_refusal(self) -> str:
        """The text to refuse this connection with, empty to let it pass."""
        return self.refuse if self.refuse and self._use("refuse_times") else ""

    def take_token_fault(self) -> bool:
        """Whether this token request meets `token_status` or `token_error`."""
        return bool(self.token_status or self.token_error) and self._use("token_times")

    def take_lost_answer(self) -> bool:
        """Whether the answer to this token request gets lost."""
        return self._use("token_lost_times")

    def take_rest_error(self) -> str:
        """The name of the error with which to answer, empty to answer in earnest."""
        return self.rest_error if self.rest_error and self._use("rest_times") else ""

    def _use(self, times: str) -> bool:
        left: int = getattr(self, times)
        if left > 0:
            setattr(self, times, left - 1)
        return left != 0
