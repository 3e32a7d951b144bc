"""The promise of a format: events become one request. Pure, so that the bytes can be held to the other
side's own library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from multidict import istr

from zoomrelay.event import Event

CONTENT_TYPE = istr("content-type")
USER_AGENT = istr("user-agent")
AUTHORIZATION = istr("authorization")


class Request(NamedTuple):
    """What is posted, before compression."""

    body: bytes
    headers: Mapping[istr, str]
    """With `content-type`; these win over headers of the configuration."""


class Format(Protocol):
    """Has no memory; `request` may be called for the same events again, with another time."""

    def request(self, events: Sequence[Event], wall: float) -> Request:
        """`events` (never empty, in order) as one request that is made at `wall`, seconds since the epoch.
        Formats without a batch form are given one event."""
        ...
