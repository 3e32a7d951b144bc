"""Any event of the catalogue, with a payload of the usual shape and nothing special in it."""

from __future__ import annotations

from zoomrelay.simulator.catalogue import FAMILIES, NAMES
from zoomrelay.simulator.stage import Stage, Story

_DOTTED = tuple(name for name in NAMES if name not in FAMILIES[""])


def anything(stage: Stage) -> Story:
    """One event."""
    person = stage.person()
    # A few are big: group settings and transcripts reach some 10 KB.
    lines = stage.random.choice((2, 3, 4, 6, 60))
    object_ = {
        "id": stage.id(22),
        "uuid": stage.uuid(),
        "user_id": person.id,
        "name": person.name,
        "email": person.email,
        "date_time": stage.time(),
        "details": [
            {"type": f"type_{line}", "value": f"Value {line} set by {person.name}", "path": f"a/b/{line}"}
            for line in range(lines)
        ],
    }
    yield stage.event(stage.random.choice(_DOTTED), object_, operator=person.email, operator_id=person.id)
