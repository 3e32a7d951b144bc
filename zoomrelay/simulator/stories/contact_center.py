"""The life of a contact-centre engagement."""

from __future__ import annotations

from typing import Any

from zoomrelay.simulator.stage import Stage, Story


def engagement(stage: Stage) -> Story:
    """Queued, answered by an agent, held and muted now and then, ended, wrapped up."""
    scene = _Engagement(stage)
    yield scene.happened("engagement_started", start_time=stage.time())
    yield scene.agent("engagement_user_answered")
    while stage.chance(0.4):
        pair = stage.random.choice((("hold", "unhold"), ("muted", "unmuted")))
        for what in pair:
            yield scene.agent(f"engagement_user_{what}")
    if stage.chance(0.4):
        note = f'Caller asked about order {stage.digits(7)}; "all good" in the end.\nCalled back at 10/11.'
        yield scene.agent("engagement_note_added", note=note, note_id=stage.id(22))
    yield scene.agent("engagement_user_ended")
    yield scene.happened("engagement_ended", end_time=stage.time(), close_source="Agent")
    yield scene.agent("engagement_wrap_up_started")
    if stage.chance(0.7):
        disposition = {"disposition_id": stage.id(22), "disposition_name": "Resolved / no follow-up"}
        yield scene.agent("engagement_disposition_added", **disposition)
    yield scene.agent("engagement_wrap_up_ended", wrap_up_duration=stage.random.randint(1, 90))


class _Engagement:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        agent, consumer = stage.people(2)
        queue = stage.random.randint(1, 12)
        self._agent = {"user_id": agent.id, "user_display_name": agent.name, "user_email": agent.email}
        self._object: dict[str, object] = {
            "engagement_id": stage.id(22),
            "channel_type": "voice",
            "channel": "voice",
            "direction": "inbound",
            "flow_id": stage.id(22),
            "flow_name": f"Flow {queue}",
            "queue_id": stage.id(22),
            "queue_name": f"Queue {queue}",
            "consumers": [
                {
                    "consumer_id": consumer.id,
                    "consumer_number": stage.phone_number(),
                    "consumer_display_name": consumer.name,
                    "consumer_email": consumer.email,
                }
            ],
            "consumer_display_name": consumer.name,
            "consumer_number": stage.phone_number(),
            "entry_point": f"entry/point/{queue}",
        }

    def happened(self, what: str, **more: object) -> dict[str, Any]:
        return self._stage.event(f"contact_center.{what}", self._object | more)

    def agent(self, what: str, **more: object) -> dict[str, Any]:
        return self.happened(what, **self._agent, date_time=self._stage.time(), **more)
