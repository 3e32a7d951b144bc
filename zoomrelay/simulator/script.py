"""Streams of believable events: many stories told at once. Pure; chance and time are passed in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

from zoomrelay.simulator.stage import Stage, Story
from zoomrelay.simulator.stories import DEFAULT_MIX, STORIES

_STORIES_AT_ONCE = 40


class Script:
    """An endless stream of events.

    Equal seeds, mixes and times give equal bytes. Every event holds a number of its own under
    `simulated`, so no two are equal, and events of one story come in the order of that story.
    """

    def __init__(self, random: Random, *, mix: Mapping[str, float] = DEFAULT_MIX) -> None:
        """`mix` weighs the families (`stories.STORIES`); raises `ValueError` for an unknown one."""
        if unknown := sorted(mix.keys() - STORIES.keys()):
            raise ValueError(f"no such family of events: {', '.join(unknown)} (known: {', '.join(STORIES)})")
        if not any(weight > 0 for weight in mix.values()):
            raise ValueError("the mix of events is empty")
        self._random = random
        self._stage = Stage(random)
        self._families = list(mix)
        self._weights = [mix[family] for family in self._families]
        self._stories: list[Story] = []
        self._count = 0

    def next(self, now_ms: int) -> bytes:
        """The next event as Zoom would write it, happening at `now_ms` (milliseconds since the epoch)."""
        self._stage.now_ms = now_ms
        event = self._next_event()
        self._count += 1
        event.get("payload", event)["simulated"] = self._count
        if "event_ts" not in event:
            event["event_ts"] = now_ms
        elif event["event_ts"] is None:
            del event["event_ts"]
        return encode(event, style=self._random.randrange(16))

    def _next_event(self) -> dict[str, Any]:
        while True:
            if len(self._stories) < _STORIES_AT_ONCE:
                self._begin()
            index = self._random.randrange(len(self._stories))
            event = next(self._stories[index], None)
            if event is not None:
                return event
            del self._stories[index]

    def _begin(self) -> None:
        (family,) = self._random.choices(self._families, self._weights)
        self._stories.append(STORIES[family](self._stage))


def encode(event: Mapping[str, Any], *, style: int = 2) -> bytes:
    """The event as JSON, spelt in one of the ways that are seen in the wild.

    Style 0 escapes everything that is not ASCII, style 1 escapes slashes; all others are plain UTF-8.
    What UTF-8 cannot hold (half of a surrogate pair) is always escaped.
    """
    if style != 0:
        try:
            content = msgspec.json.encode(event)
        except UnicodeEncodeError:
            style = 0
    if style == 0:
        return json.dumps(event, separators=(",", ":")).encode()
    return content.replace(b"/", b"\\/") if style == 1 else content
