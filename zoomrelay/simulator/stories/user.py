"""What happens to a user of the account."""

from __future__ import annotations

from zoomrelay.simulator.stage import Person, Stage, Story


def user(stage: Stage) -> Story:
    """Signs in, is here and away, changes something, signs out; some are created or deactivated."""
    person = stage.person()
    profile = _profile(person)
    operator = {"operator": "user1@example.com", "operator_id": stage.id(22)}
    if stage.chance(0.3):
        yield stage.event("user.created", profile, **operator, creation_type="create")
    client = {"client_type": "mac", "version": "6.1.0", "date_time": stage.time()}
    yield stage.event("user.signed_in", profile | client)
    for status in stage.random.sample(("Available", "Away", "In_Meeting", "Do_Not_Disturb"), 2):
        presence = {"presence_status": status, "date_time": stage.time()}
        yield stage.event("user.presence_status_updated", profile | presence)
    if stage.chance(0.5):
        changed = {"id": person.id, "dept": "Department 2 / North", "job_title": "Tester"}
        old = {"id": person.id, "dept": "Department 1", "job_title": ""}
        time_stamp = stage.now_ms
        yield stage.event("user.updated", changed, **operator, old_object=old, time_stamp=time_stamp)
    yield stage.event("user.signed_out", profile | client)
    if stage.chance(0.1):
        yield stage.event("user.deactivated", profile, **operator)


def _profile(person: Person) -> dict[str, object]:
    return {
        "id": person.id,
        "first_name": person.name.split()[0],
        "last_name": str(person.number),
        "display_name": person.name,
        "email": person.email,
        "phone_number": "",
        "type": 2,
        "pmi": 1_000_000_000 + person.number,
        "language": "nl-NL",
        "dept": "Department 1",
        "account_number": person.number,
        "pic_url": f"https://zoom.example.com/p/v2/{person.id}/avatar",
    }
