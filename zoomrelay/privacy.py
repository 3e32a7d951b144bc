"""Which fields of Zoom's events speak of persons, or open doors; and how they are masked. Pure.

By the names of Zoom's published event schemas. A field counts wherever it stands, for Zoom puts the same
names at every depth. What people write in free text (topics, messages) is not looked through.
"""

from __future__ import annotations

from typing import Any

MASK = "***"


def _fields(text: str) -> frozenset[str]:
    return frozenset(text.split())


NAMES = _fields("""
    name user_name display_name first_name last_name nick_name participant_name registrant_name host_name
    caller_name callee_name owner_name operator_name sender_name contact_name consumer_display_name
""")
EMAILS = _fields("""
    email host_email user_email participant_email registrant_email operator sender operator_email
    contact_email owner_email assistant alternative_hosts alternative_hosts_email_addresses
""")
PHONE_NUMBERS = _fields("""
    phone_number phone_numbers caller_number callee_number caller_did_number callee_did_number from_number
    to_number forward_number extension_number did_number dial_in_number consumer_number
""")
TOKENS = _fields("""
    download_token download_access_token access_token refresh_token token registration_token
    play_passcode recording_play_passcode password passcode h323_password h323_passcode pstn_password
    encrypted_password
""")
URLS = _fields("""
    join_url start_url registration_url download_url play_url share_url response_url personal_meeting_url
""")
PERSONAL_FIELDS = NAMES | EMAILS | PHONE_NUMBERS | TOKENS | URLS
_ENDINGS = ("_email", "_phone_number", "_token", "_password", "_passcode", "_join_url", "_display_name")


def is_personal(field: str) -> bool:
    """Whether what stands in a field of this name is to be hidden."""
    field = field.lower()
    return field in PERSONAL_FIELDS or field.endswith(_ENDINGS)


def masked(value: Any) -> Any:
    """The JSON value with `***` for every text and number in a personal field, also further inside of it.
    What is empty, null, true or false stays, and so does the shape. The argument is left as it is."""
    # An event may be nested deeper than Python recurses, so this keeps its own list of what is to do.
    result: list[Any] = [None]
    todo: list[tuple[Any, Any, Any, bool]] = [(result, 0, value, False)]
    while todo:
        into, at, found, personal = todo.pop()
        if isinstance(found, dict):
            into[at] = made = dict.fromkeys(found)
            todo += ((made, key, inner, personal or is_personal(key)) for key, inner in found.items())
        elif isinstance(found, list):
            into[at] = row = [None] * len(found)
            todo += ((row, number, inner, personal) for number, inner in enumerate(found))
        else:
            into[at] = MASK if personal and _tells_something(found) else found
    return result[0]


def _tells_something(value: Any) -> bool:
    return value is not None and value != "" and not isinstance(value, bool)
