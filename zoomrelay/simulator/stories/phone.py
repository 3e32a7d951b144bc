"""The life of a phone call."""

from __future__ import annotations

from typing import Any

from zoomrelay.simulator.stage import Person, Stage, Story


def call(stage: Stage) -> Story:
    """It rings, is answered (or missed), held and muted now and then, ends, and is filed."""
    caller, callee = stage.people(2)
    scene = _Call(stage, caller, callee)
    yield scene.happened("phone.caller_ringing")
    yield scene.happened("phone.callee_ringing")
    if stage.chance(0.2):
        yield scene.happened("phone.callee_missed", handup_result="No Answer")
    else:
        yield from scene.conversation()
    yield scene.filed("phone.caller_call_history_completed", "outbound")
    yield scene.filed("phone.callee_call_history_completed", "inbound")


class _Call:
    def __init__(self, stage: Stage, caller: Person, callee: Person) -> None:
        self._stage = stage
        self._callee = callee
        self._object: dict[str, object] = {
            "call_id": str(stage.digits(19)),
            "trace_id": stage.id(24),
            "caller": _party(stage, caller),
            "callee": _party(stage, callee),
            "ringing_start_time": stage.time(),
        }

    def happened(self, name: str, **more: object) -> dict[str, Any]:
        return self._stage.event(name, self._object | {"date_time": self._stage.time()} | more)

    def conversation(self) -> Story:
        answered = {"answer_start_time": self._stage.time()}
        yield self.happened("phone.callee_answered", **answered)
        yield self.happened("phone.caller_connected", **answered)
        while self._stage.chance(0.4):
            side, what = self._stage.random.choice(("caller", "callee")), "hold"
            if self._stage.chance(0.5):
                what = "mute"
            yield self.happened(f"phone.{side}_{what}", **answered)
            yield self.happened(f"phone.{side}_un{what}", **answered)
        ended = {"call_end_time": self._stage.time(), "handup_result": "Call connected"}
        yield self.happened("phone.callee_ended", **answered, **ended)
        yield self.happened("phone.caller_ended", **answered, **ended)

    def filed(self, name: str, direction: str) -> dict[str, Any]:
        caller, callee = self._object["caller"], self._object["callee"]
        assert isinstance(caller, dict) and isinstance(callee, dict)
        log = {
            "id": self._stage.id(22),
            "call_path_id": self._stage.id(22),
            "call_id": self._object["call_id"],
            "connect_type": "internal",
            "call_type": "general",
            "direction": direction,
            "hide_caller_id": False,
            "end_to_end": False,
            **{f"caller_{key}": value for key, value in caller.items()},
            **{f"callee_{key}": value for key, value in callee.items()},
            "start_time": self._object["ringing_start_time"],
            "end_time": self._stage.time(),
        }
        return self._stage.event(name, {"user_id": self._callee.id, "call_logs": [log]})


def _party(stage: Stage, person: Person) -> dict[str, object]:
    return {
        "name": person.name,
        "extension_id": person.id,
        "extension_number": int(person.extension),
        "extension_type": "user",
        "phone_number": stage.phone_number(),
        "user_id": person.id,
        "timezone": "Europe/Amsterdam",
        "device_type": "Zoom_Workplace(5.17.0)",
        "connection_type": "pstn_off_net",
    }
