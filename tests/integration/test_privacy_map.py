"""The map of personal fields against the payload types of Zoom's own library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import node_packages
from zoomrelay.privacy.fields import kind_of

PERSONAL_WORD = re.compile(
    r"(^|_)("
    r"name|email|mail|phone|number|numbers|address|ip|url|link|token|password|passcode|pin|key|"
    r"message|content|text|summary|transcript|transcription|notes|note|description|desc|"
    r"comment|comments|question|questions|answer|location|city|zip|title|company|jid|avatar|"
    r"pic|photo|gender|birthday|department|employee|body|subject|topic|agenda|secret|gps|mac|"
    r"bssid|contact|owner|sender|recipient|invitee|inviter|registrant|visitor|consumer|"
    r"customer|caller|callee|reason"
    r")(_|$)",
    re.IGNORECASE,
)
"""A field with one of these words in its name is looked at."""
LOOKED_AT = re.compile(
    r"""
    # settings, counts, ids, times: nobody is in them
    ^(allow|show|hide|display|require|enable|disable|use|block|record|save|auto|only|store|not|has|have|is|force
      |play|ask|who|prevent|embed|suppress|include|import|add|sending|translate|access|alert|join_before|always
      |number_of|no_of|select|default|private|external|share_\w+_in|check|complete|admin_change|minimum|at)_
    | _(id|ids|uuid|type|time|date|status|count|enabled|required|requirement|source|site_id
      |iso_code|country_code|notification|notification_by_email|prompt|access_control|statuses|report|timestamp|template|rating)$
    # of organisations and things
    | ^(account|app|org|site|source|policy|country|vanity)_(name|url|link|description)$ | ^phone_country$
    | ^(tracking_url|dial_in_numbers|key|ai_summary|message_via_sms|cc_transcript_file|chat_message_file)$
    | ^(failure|park_failure|result)_reason$ | ^recording_(storage_location|transcription|audio_transcript)$
    | ^(storage_location|call_live_transcription|pstn_password_protected|chat_with_direct_message)$
    | ^(anonymous|meeting|webinar)_question_answer$ | ^zoom_phone(_on_mobile|_on_pwa)?$
    """,
    re.VERBOSE,
)


def _fields(package: Path) -> Iterator[str]:
    """Names of the fields in the types of events."""
    for declarations in package.glob("*/*.d.ts"):
        for event in re.finditer(r'= Event<"[^"]+">\s*&(.*?)\n};', declarations.read_text(), re.DOTALL):
            yield from re.findall(r"[\s{](\w+)\??\s*:", event[1])


@pytest.mark.full
def test_every_field_that_sounds_personal_is_in_the_map_or_was_looked_at() -> None:
    names = set(_fields(node_packages() / "node_modules" / "@zoom" / "rivet"))
    assert len(names) > 500
    sounding = {name for name in names if PERSONAL_WORD.search(name)}
    missing = {name for name in sounding if kind_of(name) is None and not LOOKED_AT.search(name)}
    assert not missing
