"""What speaks of persons is masked wherever it stands; nothing else is touched."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zoomrelay.privacy import MASK, PERSONAL_FIELDS, is_personal, masked

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["email", "id", "JOIN_URL", "payload"]) | st.text(), inner, max_size=4
        )
    ),
)


def test_an_event() -> None:
    event = {
        "event": "meeting.participant_joined",
        "download_token": "abc",
        "payload": {
            "account_id": "a1",
            "object": {
                "topic": "Weekly",
                "join_url": "https://zoom.us/j/1?pwd=x",
                "participants": [{"user_name": "Ada", "email": "", "phone_number": 49301234}, "x"],
                "caller": {"phone_numbers": ["+49301", {"any": "+49302"}], "is_host": True, "name": None},
            },
        },
    }
    assert masked(event) == {
        "event": "meeting.participant_joined",
        "download_token": MASK,
        "payload": {
            "account_id": "a1",
            "object": {
                "topic": "Weekly",
                "join_url": MASK,
                "participants": [{"user_name": MASK, "email": "", "phone_number": MASK}, "x"],
                "caller": {"phone_numbers": [MASK, {"any": MASK}], "is_host": True, "name": None},
            },
        },
    }
    assert event["download_token"] == "abc"


def test_names_are_known_by_their_endings_and_in_any_case() -> None:
    assert all(map(is_personal, [*PERSONAL_FIELDS, "Host_Email", "agent_email", "zak_token"]))
    assert not any(map(is_personal, ["event", "event_ts", "id", "uuid", "topic", "", "emails_sent"]))


def test_no_depth_is_too_deep() -> None:
    value: Any = "Ada"
    for _ in range(50_000):
        value = {"x": [value]}
    hidden = masked({"name": value})["name"]
    for _ in range(50_000):
        (hidden,) = hidden["x"]
    assert hidden == MASK


def _texts(value: Any, personal: bool = False) -> list[tuple[bool, Any]]:
    if isinstance(value, dict):
        return [
            found for key, inner in value.items() for found in _texts(inner, personal or is_personal(key))
        ]
    if isinstance(value, list):
        return [found for inner in value for found in _texts(inner, personal)]
    return [(personal, value)]


@given(JSON)
def test_all_that_is_personal_and_only_that_is_hidden(value: Any) -> None:
    before, after = _texts(value), _texts(masked(value))
    assert len(before) == len(after)
    for (personal, given_value), (_, left) in zip(before, after, strict=True):
        hidden = personal and given_value not in (None, "") and not isinstance(given_value, bool)
        assert left == (MASK if hidden else given_value)
