"""Events of odd shapes that Zoom is known to send, and some that JSON allows."""

from __future__ import annotations

from typing import Any

from zoomrelay.simulator.stage import Stage, Story


def oddity(stage: Stage) -> Story:
    """One odd event."""
    yield stage.random.choice(_ODDITIES)(stage)


def _no_object(stage: Stage) -> dict[str, Any]:
    payload = {
        "meeting_uuid": stage.uuid(),
        "operator_id": stage.person().id,
        "rtms_stream_id": stage.id(24),
        "server_urls": "wss://127.0.0.1:443",
    }
    return {"event": "meeting.rtms_started", "payload": payload}


def _bot(stage: Stage) -> dict[str, Any]:
    person = stage.person()
    payload = {
        "accountId": stage.account_id,
        "channelName": "general",
        "cmd": "status 🚦",
        "name": person.name,
        "robotJid": f"v1{stage.id(20)}@xmpp.example.com",
        "timestamp": stage.now_ms,
        "toJid": f"{stage.id(20)}@conference.xmpp.example.com",
        "userId": person.id,
        "userName": person.name,
    }
    return {"event": "bot_notification", "payload": payload}


def _time_in_payload(stage: Stage) -> dict[str, Any]:
    payload = {
        "account_id": stage.account_id,
        "user_id": stage.person().id,
        "signature": stage.id(64),
        "deauthorization_time": stage.time(),
        "client_id": stage.id(22),
        "event_ts": stage.time().replace("T", " ").rstrip("Z"),
    }
    return {"event": "app_deauthorized", "payload": payload, "event_ts": None}


def _time_as_string(stage: Stage) -> dict[str, Any]:
    return stage.event("user.updated", {"id": stage.person().id}) | {"event_ts": str(stage.now_ms)}


def _list_object(stage: Stage) -> dict[str, Any]:
    deals = [{"conversation_id": stage.id(22), "deal_id": stage.digits(9)} for _ in range(3)]
    return stage.event("revenue_accelerator.conversation_crm_associations_changed", deals)


def _no_payload(stage: Stage) -> dict[str, Any]:
    return {"event": "bot_installed", "event_ts": None, "install_id": stage.id(22)}


def _lone_surrogate(stage: Stage) -> dict[str, Any]:
    """A name that was cut in the middle of an emoji."""
    person = stage.person()
    return stage.event(
        "team_chat.dm_message_posted", {"id": stage.id(22), "message": f"{person.name} \ud83d"}
    )


def _unknown_name(stage: Stage) -> dict[str, Any]:
    return stage.event("tomorrow.product_not_yet_known", {"id": stage.digits(18), "ratio": 1.5e-7})


_ODDITIES = (
    _no_object,
    _bot,
    _time_in_payload,
    _time_as_string,
    _list_object,
    _no_payload,
    _lone_surrogate,
    _unknown_name,
)
