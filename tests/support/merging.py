"""Whether copies of an event that come on several subscriptions are merged into one."""

from __future__ import annotations

from importlib.util import find_spec

MERGES = find_spec("zoomrelay.intake.merge") is not None
