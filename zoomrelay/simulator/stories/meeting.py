"""The life of a meeting and of those who take part in it."""

from __future__ import annotations

from typing import Any

from zoomrelay.simulator.stage import Person, Stage, Story


def meeting(stage: Stage) -> Story:
    """Created (sometimes), started, people come, share and go, ended (nearly always)."""
    host, *guests = stage.people(stage.random.randint(3, 9))
    scene = _Meeting(stage, host)
    if stage.chance(0.4):
        yield scene.created()
    yield scene.happened("meeting.started")
    present: list[_Participant] = []
    for person in (host, *guests):
        present.append(participant := _Participant(stage, person))
        yield scene.participant("meeting.participant_joined", participant, join_time=stage.time())
        if stage.chance(0.25):
            yield from scene.sharing(stage.random.choice(present))
        if stage.chance(0.2) and len(present) > 1:
            yield scene.leaves(present.pop(stage.random.randrange(1, len(present))))
    while present:
        yield scene.leaves(present.pop())
    if stage.chance(0.97):
        yield scene.happened("meeting.ended", end_time=stage.time())


class _Participant:
    """One appearance of a person: whoever comes back gets new ids."""

    def __init__(self, stage: Stage, person: Person) -> None:
        outsider = stage.chance(0.3)
        self.fields: dict[str, object] = {
            "user_id": str(stage.digits(8)),
            "user_name": person.name,
            "id": "" if outsider else person.id,
            "participant_uuid": stage.uuid(),
            "participant_user_id": "" if outsider else person.id,
            "email": "" if outsider else person.email,
            "phone_number": "",
            "registrant_id": stage.id(22) if outsider else "",
            "customer_key": f"customer-{person.number:06d}",
            "public_ip": f"192.0.2.{stage.random.randrange(1, 255)}",
        }


class _Meeting:
    def __init__(self, stage: Stage, host: Person) -> None:
        self._stage = stage
        self._host = host
        number = stage.digits(11)
        self._object: dict[str, object] = {
            "uuid": stage.uuid(),
            # Zoom's documents give the id as a number in some events and as a string in others.
            "id": number if stage.chance(0.5) else str(number),
            "host_id": host.id,
            "topic": f"Meeting {number % 1000} of {host.name} / weekly review",
            "type": 2,
            "start_time": stage.time(),
            "timezone": "Europe/Amsterdam",
            "duration": stage.random.choice((15, 30, 45, 60)),
        }

    def created(self) -> dict[str, Any]:
        object_ = self._object | {
            "join_url": f"https://zoom.example.com/j/{self._object['id']}?pwd={self._stage.id(32)}",
            "password": self._stage.id(6),
            "settings": {
                "use_pmi": False,
                "alternative_hosts": "",
                "join_before_host": True,
                "meeting_invitees": [{"email": person.email} for person in self._stage.people(3)],
            },
            "is_simulive": False,
        }
        operator = {"operator": self._host.email, "operator_id": self._host.id, "operation": "single"}
        return self._stage.event("meeting.created", object_, **operator)

    def happened(self, name: str, **more: object) -> dict[str, Any]:
        return self._stage.event(name, self._object | more)

    def participant(self, name: str, participant: _Participant, **more: object) -> dict[str, Any]:
        return self._stage.event(name, self._object | {"participant": participant.fields | more})

    def leaves(self, participant: _Participant) -> dict[str, Any]:
        reason = f"{participant.fields['user_name']} left the meeting.<br>Reason: left by themselves."
        return self.participant(
            "meeting.participant_left", participant, leave_time=self._stage.time(), leave_reason=reason
        )

    def sharing(self, participant: _Participant) -> Story:
        details = {
            "content": self._stage.random.choice(("application", "desktop", "whiteboard", "unknown")),
            "link_source": "",
            "file_link": "",
            "source": "",
            "date_time": self._stage.time(),
        }
        for name in ("meeting.sharing_started", "meeting.sharing_ended"):
            yield self.participant(name, participant, sharing_details=details)
