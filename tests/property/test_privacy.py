"""No personal value survives, wherever it stands, and a second time changes nothing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zoomrelay.privacy.fields import KINDS, Kind
from zoomrelay.privacy.shield import Shield, Treatment

PLANTED = {
    Kind.NAME: "Planted Person",
    Kind.PERSON: "Planted Person",
    Kind.EMAIL: "planted.person@planted.example",
    Kind.PHONE: "+15550107777",
    Kind.ADDRESS: "7 Planted Street",
    Kind.NETWORK: "198.51.100.77",
    Kind.LINK: "https://planted.example/j/1?pwd=planted-passcode",
    Kind.TEXT: "planted words",
    Kind.SECRET: "planted-secret",
}
GIVEN_AWAY = (
    "Planted Person",
    "planted.person",
    "5550107777",
    "Planted Street",
    "198.51.100.77",
    "planted-passcode",
    "planted words",
    "planted-secret",
)

personal = st.sampled_from(sorted(KINDS)).map(lambda name: (name, PLANTED[KINDS[name]]))
harmless = st.tuples(
    st.sampled_from(["id", "uuid", "status", "x"]), st.integers() | st.none() | st.booleans()
)
fields = st.lists(personal | harmless, max_size=6).map(dict)


def _inside(inner: Any) -> Any:
    return st.tuples(fields, st.dictionaries(st.sampled_from(["object", "participant", "logs"]), inner)).map(
        lambda both: {**both[0], **both[1]}
    ) | st.lists(inner, max_size=3)


payloads = st.recursive(fields, _inside, max_leaves=8)


@given(payload=payloads, treatment=st.sampled_from(Treatment))
def test_nothing_personal_survives(payload: Any, treatment: Treatment) -> None:
    shield = Shield(treatment, b"0123456789abcdef")
    once = shield.content(json.dumps({"event": "x", "payload": payload}).encode(), "x", None)
    assert not [word for word in GIVEN_AWAY if word.encode() in once]
    assert shield.content(once, "x", None) == once


names = st.sampled_from(sorted(KINDS)) | st.text(max_size=5)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
anything = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(event=st.dictionaries(names, anything, max_size=5), treatment=st.sampled_from(Treatment))
def test_any_json_is_taken_and_a_second_time_changes_nothing(event: Any, treatment: Treatment) -> None:
    shield = Shield(treatment, b"0123456789abcdef")
    once = shield.content(json.dumps(event).encode(), "x", 1)
    assert isinstance(json.loads(once), dict)
    assert shield.content(once, "x", 1) == once
