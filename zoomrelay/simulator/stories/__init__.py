"""Believable runs of events: each story is a generator over the life of one thing. Pure.

A story yields one event after the other as a dictionary; the script that plays it adds `event_ts`.
A story that needs another time stamp sets `event_ts` itself, and sets it to None to have none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zoomrelay.simulator.stage import Stage, Story
from zoomrelay.simulator.stories.contact_center import engagement
from zoomrelay.simulator.stories.meeting import meeting
from zoomrelay.simulator.stories.odd import oddity
from zoomrelay.simulator.stories.other import anything
from zoomrelay.simulator.stories.phone import call
from zoomrelay.simulator.stories.recording import recording
from zoomrelay.simulator.stories.user import user

STORIES: Mapping[str, Callable[[Stage], Story]] = {
    "meeting": meeting,
    "phone": call,
    "recording": recording,
    "contact_center": engagement,
    "user": user,
    "other": anything,
    "odd": oddity,
}
"""Families of events by the name that people use for them on the command line."""

DEFAULT_MIX: Mapping[str, float] = {
    "meeting": 8,
    "phone": 6,
    "recording": 3,
    "contact_center": 4,
    "user": 3,
    "other": 6,
    "odd": 1,
}
"""How often a story of each family begins, relative to the others."""


def parse_mix(text: str) -> dict[str, float]:
    """A mix as people write it, `meeting=8,phone`: a family without a number weighs 1. Raises
    `ValueError` where a number is none; `Script` judges the rest."""
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    return {family.strip(): float(weight) if weight else 1.0 for family, _, weight in pairs}
