"""What a sink with privacy gets of an event."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from zoomrelay.privacy.fields import _NAMES, Kind, normal
from zoomrelay.privacy.shield import Shield, Treatment

KEY = b"0123456789abcdef"


def hidden(payload: Any, treatment: Treatment, **fields: Kind | None) -> Any:
    content = json.dumps({"event": "x.y", "payload": payload, "event_ts": 7}).encode()
    event = json.loads(Shield(treatment, KEY, fields).content(content, "x.y", 7))
    assert event["event"] == "x.y"
    assert event["event_ts"] == 7
    return event["payload"]


@pytest.mark.parametrize(
    ("field", "value", "masked"),
    [
        ("user_name", "Jane Doe", "J***"),
        ("userName", "Jane Doe", "J***"),
        ("consumer_display_name", "Jane Doe", "J***"),
        ("callee_device_private_ip", "192.0.2.9", "192.0.2.0/24"),
        ("email", "jane.doe@example.com", "j***@example.com"),
        ("alternative_hosts", "a@example.com;b@example.com", "***"),
        ("phone_number", "+1 (555) 010-4242", "***42"),
        ("phone_number", 15550104242, "***42"),
        ("extension_number", 1012, "***"),
        ("public_ip", "203.0.113.77", "203.0.113.0/24"),
        ("ip_address", "2001:db8:1:2::9", "2001:db8:1::/48"),
        ("mac_address", "00:00:5e:00:53:01", "***"),
        ("city", "Springfield", "***"),
        ("join_url", "https://example.zoom.us/j/12345?pwd=abc", "https://example.zoom.us/***"),
        ("topic", "Jane's meeting", "***"),
        ("download_token", "eyJ.x.y", "***"),
        ("unlisted", "ask jane.doe@example.com", "ask j***@example.com"),
        ("unlisted", "at https://example.zoom.us/j/1?pwd=abc now", "at https://example.zoom.us/*** now"),
        ("unlisted", "https://example.com/help", "https://example.com/help"),
        ("unlisted", 15550104242, 15550104242),
        ("to_jid", "abc@xmpp.zoom.us", "abc@xmpp.zoom.us"),
        ("user_name", "", ""),
        ("user_name", None, None),
        ("topic", True, True),
    ],
)
def test_masked(field: str, value: object, masked: object) -> None:
    assert hidden({"object": {field: value}}, Treatment.MASK) == {"object": {field: masked}}
    assert hidden({"object": {field: masked}}, Treatment.MASK) == {"object": {field: masked}}


@pytest.mark.parametrize(
    "text",
    ["A" * 300_000 + " x@y", "a" * 300_000 + " ://x", "a://" * 75_000, "a@" * 150_000, "a." * 150_000 + "@"],
    ids=["base64", "a word", "links", "addresses", "dots"],
)
def test_a_long_text_without_spaces_is_looked_through_once(text: str) -> None:
    """Else it takes minutes."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    try:
        assert hidden({"unlisted": text}, Treatment.MASK) == {"unlisted": text}
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_dropped() -> None:
    payload = {
        "id": 1,
        "email": "a@b.example",
        "numbers": ["1", "2"],
        "object": [{"user_name": "J", "user_id": "7"}],
    }
    assert hidden(payload, Treatment.DROP) == {"id": 1, "numbers": [], "object": [{"user_id": "7"}]}


def test_pseudonyms_are_the_same_for_the_same_person() -> None:
    one = hidden({"host_email": "Jane@Example.com", "user_name": "Jane"}, Treatment.PSEUDONYM)
    other = hidden({"object": {"email": "jane@example.com "}}, Treatment.PSEUDONYM)
    assert one["host_email"] == other["object"]["email"]
    assert one["host_email"].startswith("p_")
    assert one["user_name"] != hidden({"email": "Jane"}, Treatment.PSEUDONYM)["email"]
    content = b'{"event":"x","email":"jane@example.com"}'
    another_key = json.loads(Shield(Treatment.PSEUDONYM, b"another key, as long").content(content, "x", None))
    assert another_key["email"] != one["host_email"]


def test_links_texts_and_secrets_have_no_pseudonym() -> None:
    payload = {"topic": "t", "password": "p", "play_url": "https://a.example/b"}
    masked = {"topic": "***", "password": "***", "play_url": "https://a.example/***"}
    assert hidden(payload, Treatment.PSEUDONYM) == masked


def test_parts_of_something_personal_are_personal_unless_they_are_ids() -> None:
    address = {"id": "a1", "country": "US", "line": "1 Main St", "type": "work"}
    expected = {"id": "a1", "country": "***", "line": "***", "type": "work"}
    assert hidden({"emergency_address": address}, Treatment.MASK) == {"emergency_address": expected}


def test_a_person_is_a_name_or_a_table() -> None:
    payload = {"owner": "Jane", "users": ["Jane", {"id": "7", "role": "host", "user_name": "Jane"}]}
    expected = {"owner": "J***", "users": ["J***", {"id": "7", "role": "host", "user_name": "J***"}]}
    assert hidden(payload, Treatment.MASK) == expected
    names = hidden({"owner": "Jane", "user_name": "Jane"}, Treatment.PSEUDONYM)
    assert names["owner"] == names["user_name"]


def test_every_name_stands_once() -> None:
    names = [name for names in _NAMES.values() for name in names.split()]
    assert sorted({normal(name) for name in names}) == sorted(normal(name) for name in names)


def test_names_of_fields_are_looked_through_too() -> None:
    assert hidden({"jane@example.com": 1}, Treatment.DROP) == {"j***@example.com": 1}


def test_own_fields_and_fields_that_are_kept() -> None:
    payload = {"badge": "Jane", "topic": "Stand-up"}
    expected = {"badge": "J***", "topic": "Stand-up"}
    assert hidden(payload, Treatment.MASK, badge=Kind.NAME, topic=None) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"[1]",
        b"{",
        b"\xff",
        b'{"event":"x","n":1e999}',
        b'{"event":"x","n":NaN}',
        b'{"a":' * 5000,
        b'{"event":' + b"9" * 5000 + b"}",
    ],
)
def test_what_cannot_be_looked_through_is_not_shown(content: bytes) -> None:
    shield = Shield(Treatment.MASK)
    assert json.loads(shield.content(content, "x", 3)) == {"event": "x", "event_ts": 3}
    assert json.loads(shield.content(content, "x", None)) == {"event": "x"}


def test_halves_of_characters_survive() -> None:
    content = b'{"event":"x","site":"\\ud800"}'
    assert json.loads(Shield(Treatment.MASK).content(content, "x", None)) == {"event": "x", "site": "\ud800"}
    assert "😀".encode() in Shield(Treatment.MASK).content('{"event":"x","site":"😀"}'.encode(), "x", None)
