import json
import re
from collections import defaultdict
from random import Random

import pytest

from zoomrelay.simulator.catalogue import NAMES
from zoomrelay.simulator.script import Script, encode
from zoomrelay.simulator.stories import STORIES, parse_mix

NOW_MS = 1_790_000_000_000


def _events(count: int, *, seed: int = 1, **options: object) -> list[bytes]:
    script = Script(Random(seed), **options)  # type: ignore[arg-type]
    return [script.next(NOW_MS + number) for number in range(count)]


def test_equal_seeds_give_equal_bytes() -> None:
    assert _events(3000) == _events(3000)
    assert _events(50, seed=1) != _events(50, seed=2)


def test_no_two_events_are_equal_even_at_the_same_moment() -> None:
    script = Script(Random(3))
    events = [script.next(NOW_MS) for _ in range(5000)]
    without_number = {json.dumps(_numbered(event)[0], sort_keys=True) for event in events}
    assert len(set(events)) == 5000
    assert len(without_number) < 5000, "then the number would not be needed"
    assert [_numbered(event)[1] for event in events] == list(range(1, 5001))


def _numbered(event: bytes) -> tuple[object, int]:
    decoded = json.loads(event)
    return decoded, decoded.get("payload", decoded).pop("simulated")


def test_every_event_is_json_with_a_name_and_of_a_believable_size() -> None:
    events = _events(5000)
    assert all(isinstance(json.loads(event)["event"], str) for event in events)
    assert 650 < sum(map(len, events)) / len(events) < 1000
    assert max(map(len, events)) > 5000


def test_time_stamps_are_the_time_that_was_passed_in() -> None:
    stamps = [json.loads(event).get("event_ts") for event in _events(2000, mix={"meeting": 1, "phone": 1})]
    assert stamps == [NOW_MS + number for number in range(2000)]


def test_names_are_those_of_the_catalogue_but_for_the_odd_ones() -> None:
    usual = {family: 1.0 for family in STORIES if family != "odd"}
    names = {json.loads(event)["event"] for event in _events(8000, mix=usual)}
    assert names <= set(NAMES)
    others = {json.loads(event)["event"] for event in _events(4000, mix={"other": 1})}
    assert len(others) > 500


def test_odd_shapes_are_there() -> None:
    contents = _events(400, mix={"odd": 1})
    events = [json.loads(content) for content in contents]
    stamps = {type(event.get("event_ts")) for event in events}
    objects = {type(event.get("payload", {}).get("object")) for event in events}
    assert stamps == {int, str, type(None)}
    assert objects == {dict, list, type(None)}
    assert any("payload" not in event for event in events)
    assert any(rb'\ud83d"' in content for content in contents), "half of a surrogate pair"


def test_spellings_vary() -> None:
    events = _events(2000)
    assert any(not event.isascii() for event in events)
    assert any(rb"\u" in event and event.isascii() for event in events)
    assert any(rb"\/" in event for event in events)


def test_meetings_live_in_order() -> None:
    lives: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for event in map(json.loads, _events(6000, mix={"meeting": 1})):
        object_ = event["payload"]["object"]
        who = object_.get("participant", {}).get("participant_uuid", "")
        lives[object_["uuid"]].append((event["event"], who))
    whole = [life for life in lives.values() if life[-1][0] == "meeting.ended"]
    assert len(whole) > 100
    for life in whole:
        names = [name for name, _ in life if name != "meeting.created"]
        assert names[0] == "meeting.started"
        joined = [who for name, who in life if name == "meeting.participant_joined"]
        left = [who for name, who in life if name == "meeting.participant_left"]
        assert sorted(joined) == sorted(left)
        assert all(
            life.index(("meeting.participant_joined", who)) < life.index(("meeting.participant_left", who))
            for who in joined
        )


def test_ids_are_sometimes_numbers_and_sometimes_strings() -> None:
    ids = {type(json.loads(event)["payload"]["object"]["id"]) for event in _events(500, mix={"meeting": 1})}
    assert ids == {int, str}


def test_a_completed_recording_brings_its_download_token() -> None:
    events = [json.loads(event) for event in _events(300, mix={"recording": 1})]
    completed = [event for event in events if event["event"] == "recording.completed"]
    assert completed
    assert all(len(event["download_token"]) > 100 for event in completed)


def test_addresses_and_hosts_are_reserved_ones() -> None:
    text = b"".join(_events(2000)).decode().replace("\\/", "/")
    hosts = set(re.findall(r"[@/]((?:[a-z0-9-]+\.)+[a-z]{2,})", text))
    assert hosts
    assert all(host.endswith("example.com") for host in hosts), hosts


@pytest.mark.parametrize("mix", [{"nonsense": 1.0}, {"meeting": 0.0}, {}])
def test_a_mix_without_sense_is_refused(mix: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Script(Random(0), mix=mix)


def test_a_mix_as_people_write_it() -> None:
    assert parse_mix("meeting=8, phone") == {"meeting": 8.0, "phone": 1.0}
    with pytest.raises(ValueError):
        parse_mix("meeting=many")


@pytest.mark.parametrize("style", [0, 1, 2])
def test_styles_spell_the_same_event(style: int) -> None:
    event = {"event": "a/b", "payload": {"name": "Ü 🌻"}}
    assert json.loads(encode(event, style=style)) == event
