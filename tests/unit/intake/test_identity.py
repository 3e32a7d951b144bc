"""What is read out of an event."""

from __future__ import annotations

import json
from random import Random

import pytest

from zoomrelay.event import Event
from zoomrelay.intake.identity import VOLATILE_FIELDS, Identifier, Unidentifiable
from zoomrelay.simulator.script import Script
from zoomrelay.simulator.stage import Stage
from zoomrelay.simulator.stories import STORIES


def read(content: bytes, source: str = "main") -> Event:
    return Identifier(source).read(content, "sub", 0)


def content(**more: object) -> bytes:
    return json.dumps({"event": "meeting.started", "event_ts": 1, "payload": {}} | more).encode()


# --- identity ---------------------------------------------------------------------------------------

PLAIN = (
    b'{"event":"meeting.started","event_ts":1700000000000,"payload":{"account_id":"A","object":'
    b'{"uuid":"4444AAAiAAAAAiAiAiiAii==","id":86000000000,"ratio":1.5e-7}}}'
)
RECORDING = (
    b'{"event":"recording.completed","event_ts":1700000000000,"payload":{"object":{"uuid":"/u//u==",'
    b'%s"recording_files":[{"id":"f","download_url":"https://x/%s"}]}},"download_token":"%s"}'
)


@pytest.mark.parametrize(
    ("event", "id_"),
    [
        (PLAIN, "9560612f22a6a9a840c60c8f16b70bd9"),
        (RECORDING % (b'"n":1.5e-7,', b"1", b"aaa"), "39cad3bfd147110237bdfb3288182256"),
        (RECORDING % (b'"topic":"x \\ud83d",', b"1", b"aaa"), "065442805e05a12c328b371a7f5a405b"),
    ],
)
def test_ids_never_change(event: bytes, id_: str) -> None:
    """These ids are in receivers' databases: where this fails, the scheme needs a new prefix."""
    assert read(event).digest.hex() == id_


@pytest.mark.parametrize("odd", [b"", b'"n":1.5e-7,', b'"topic":"x \\ud83d",', b'"n":1e999,'])
def test_copies_that_differ_in_volatile_fields_are_one_event(odd: bytes) -> None:
    one, other = (RECORDING % (odd, url, token) for url, token in ((b"1", b"aaa"), (b"2", b"bbb")))
    assert read(one).digest == read(other).digest
    assert read(one).digest != read(one.replace(b'"f"', b'"g"')).digest


@pytest.mark.parametrize("field", sorted(VOLATILE_FIELDS))
def test_every_volatile_field_is_found(field: str) -> None:
    one, other = (content(payload={"object": {"a": [{field: value}]}}) for value in ("1", "2"))
    assert one != other and read(one).digest == read(other).digest


def test_what_looks_volatile_and_is_not_counts() -> None:
    for field in ("join_url", "share_url", "x_token", "my_download_url", "download_urls"):
        assert read(content(payload={field: "1"})).digest != read(content(payload={field: "2"})).digest


def test_everything_else_makes_another_event() -> None:
    variants = [
        content(),
        content(event="meeting.ended"),
        content(event_ts=2),
        content(event_ts="1"),
        content(payload={"a": 1}),
        content(payload={"a": 1.5}),
        content(payload={"a": [1]}),
        content() + b" ",
    ]
    assert len({read(variant).digest for variant in variants}) == len(variants)


def test_the_source_is_part_of_it() -> None:
    digests = {read(content(), source).digest for source in ("a", "b", "ab")}
    assert len(digests) == 3
    assert read(content(), "a").digest in digests


# --- odd events -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event_ts", "expected"),
    [
        ("1700000000000", 1700000000000),
        ("-5", -5),
        ("0", 0),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("1" * 400, None),
        ("1" * 6000, None),
        ("1.7e12", None),
        ("1700000000000.0", None),
        ('"1700000000000"', None),
        ("true", None),
        ("null", None),
        ("{}", None),
        ("[1]", None),
        ("NaN", None),
    ],
)
def test_event_ts_may_be_anything(event_ts: str, expected: int | None) -> None:
    reading = read(b'{"event":"x","event_ts":%s}' % event_ts.encode())
    assert (reading.name, reading.event_ts) == ("x", expected)


@pytest.mark.parametrize(
    ("event", "name", "key"),
    [
        (b'{"event":"x"}', "x", ""),
        (b'{"event":""}', "", ""),
        (b'{"event":"x","payload":null}', "x", ""),
        (b'{"event":"x","payload":"text"}', "x", ""),
        (b'{"event":"x","payload":[1]}', "x", ""),
        (b'{"event":"x","payload":{"object":[{"uuid":"u"}]}}', "x", ""),
        (b'{"event":"x","payload":{"object":"text","meeting_uuid":"m"}}', "x", "m"),
        (b'{"event":"x","payload":{"object":{"uuid":{"a":1},"id":7}}}', "x", "7"),
        (b'{"event":"x","payload":{"object":{"uuid":"","id":"i"}}}', "x", "i"),
        (b'{"event":"x","payload":{"object":{"id":true}}}', "x", ""),
        (b'{"event":"x","payload":{"object":{"id":1.5}}}', "x", ""),
        (b'{"event":"x","payload":{"object":{"id":%s}}}' % (b"9" * 5000), "x", ("9" * 200)),
        (b'{"event":"x","payload":{"object":{"id":%s}}}' % (b"9" * 100), "x", ""),
        (b'{"event":"x","payload":{"object":{"call_logs":"?","user_id":"u"}}}', "x", "u"),
        (b'{"event":"x","payload":{"object":{"call_logs":[],"user_id":"u"}}}', "x", "u"),
        (b'{"event":"x","payload":{"object":{"call_logs":[7],"user_id":"u"}}}', "x", "u"),
        (b'{"event":"x","payload":{"object":{"uuid":"u","t":"\\ud83d"}}}', "x", "u"),
        (b'{"event":"x","payload":{"object":{"uuid":"u\\ud83d"}}}', "x", "u?"),
        (b'{"event":"x\\udc00"}', "x?", ""),
        (b'{"event":"a","event":"b"}', "b", ""),
        (b' {"event" : "x"}\n', "x", ""),
        ('{"event":"ÿ😀"}'.encode(), "ÿ😀", ""),
        (b'{"event":"%s"}' % (b"n" * 1000), "n" * 200, ""),
        (b'{"event":"x","payload":{"object":{"uuid":"%s"}}}' % (b"u" * 1000), "x", "u" * 200),
    ],
)
def test_odd_shapes(event: bytes, name: str, key: str) -> None:
    reading = read(event)
    assert (reading.name, reading.key) == (name, key)
    assert len(reading.digest) == 16


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"not json",
        b'"text"',
        b"[1]",
        b"7",
        b"null",
        b"{}",
        b'{"event":7}',
        b'{"event":null}',
        b'{"event":"x"}}',
        b'{"event":"x"',
        b'{"event":"\xff"}',
        b"[" * 100_000,
        b'{"event":"x","a":' + b"[" * 100_000,
    ],
)
def test_what_is_no_event_is_said_to_be_none(junk: bytes) -> None:
    with pytest.raises(Unidentifiable) as caught:
        read(junk)
    assert "\xff" not in str(caught.value) and len(str(caught.value)) < 100


# --- ordering keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        ({"object": {"uuid": "u", "id": 1, "host_id": "h"}}, "u"),
        ({"object": {"id": 123, "topic": "t"}}, "123"),
        ({"object": {"id": "123"}}, "123"),
        ({"object": {"call_id": "c", "id": "i"}}, "c"),
        ({"object": {"user_id": "u", "call_logs": [{"id": "i", "call_id": "c"}]}}, "c"),
        ({"object": {"recordings": [{"id": "i", "call_id": "c"}]}}, "c"),
        ({"object": {"engagement_id": "e", "user_id": "u"}}, "e"),
        ({"object": {"session_id": "s", "id": "i"}}, "s"),
        ({"object": {"channel_id": "c", "id": "i"}}, "c"),
        ({"object": {"user_id": "u", "id": "i"}}, "u"),
        ({"meeting_uuid": "m", "rtms_stream_id": "r"}, "m"),
        ({"webinar_uuid": "w"}, "w"),
        ({"session_id": "s"}, "s"),
        ({"accountId": "a"}, ""),
    ],
)
def test_the_table_of_keys(payload: dict[str, object], key: str) -> None:
    assert read(content(payload=payload)).key == key
    # The tolerant way round comes to the same.
    assert read(content(payload=payload, event_ts="odd")).key == key


@pytest.mark.parametrize("family", ["meeting", "phone", "recording", "contact_center", "user"])
def test_every_event_of_one_story_has_one_key(family: str) -> None:
    for seed in range(50):
        stage = Stage(Random(seed))
        stage.now_ms = 1_700_000_000_000
        keys = {read(json.dumps(event).encode()).key for event in STORIES[family](stage)}
        assert len(keys) == 1 and keys != {""}


def test_whatever_the_simulator_says_is_read() -> None:
    script = Script(Random(5), mix=dict.fromkeys(STORIES, 1.0))
    readings = [read(script.next(1_700_000_000_000 + n)) for n in range(3000)]
    assert len({reading.digest for reading in readings}) == 3000
