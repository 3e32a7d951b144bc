"""Each format, read by the other side's own library."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from backports import zstd
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks import Webhook, WebhookVerificationError

from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.config.signing_keys import signing_keys
from zoomrelay.event import Event
from zoomrelay.sinks.compression import compressor
from zoomrelay.sinks.formats import registry
from zoomrelay.sinks.formats.base import Request
from zoomrelay.sinks.formats.zoom_webhook import ZoomWebhook

WALL = 1_769_860_800.9
MOMENT = 1_769_860_799_123
"""Milliseconds: 2026-01-31T11:59:59.123Z"""

CONTENTS = {
    "ascii": b'{"event":"meeting.started","payload":{"object":{"topic":"Weekly"}}}',
    "emoji": '{"event":"x","payload":{"a":"\U0001f600 \u2708\ufe0f \U0001f468\u200d\U0001f469"}}'.encode(),
    "four bytes": '{"event":"x","payload":{"object":{"topic":"\U00020bb7\U0001d11e \u5409"}}}'.encode(),
    "escapes": b'{"event":"x","payload":{"url":"https:\\/\\/zoom.us\\/","topic":"\\ud83d\\ude00 \\u00e9"}}',
    "1 MB": b'{"event":"x","payload":{"object":{"text":"%b"}}}' % (b"z" * 1_000_000),
    "no object": b'{"event":"app_deauthorized","event_ts":1,"payload":{"account_id":"a"}}',
    "newlines": b'{\r\n "event": "x",\n "payload": {}\n}',
    "percent": b'{"event":"x","payload":{"object":{"topic":"100 %s %% %d"}}}',
}
ALL = pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)


def event(
    content: bytes = CONTENTS["ascii"],
    name: str = "meeting.started",
    *,
    event_ts: int | None = MOMENT,
    number: int = 15,
) -> Event:
    return Event(bytes([number]) * 16, "main", "sub", name, event_ts, "key", 1_769_860_800_000, content)


def made(*events: Event, **settings: Any) -> Request:
    config = HttpSinkConfig(name="crm", url="http://crm/", **settings)
    return registry.build(config).request(events, WALL)


def plain(request: Request) -> dict[str, str]:
    return {str(name): value for name, value in request.headers.items()}


# --- raw and envelope


@ALL
def test_raw_is_the_content(content: bytes) -> None:
    request = made(event(content))
    assert (request.body, plain(request)) == (content, {"content-type": "application/json"})


@pytest.mark.parametrize("format", ["raw", "envelope"])
def test_batches_of_these_are_lines(format: str) -> None:
    events = [event(content) for content in CONTENTS.values()]
    request = made(*events, format=format, batch_events=500)
    found = [json.loads(line) for line in request.body.splitlines()]
    wanted = [json.loads(content) for content in CONTENTS.values()]
    assert [one if format == "raw" else one["event"] for one in found] == wanted
    assert plain(request) == {"content-type": "application/x-ndjson"}


# --- zoom-webhook


@ALL
def test_zoom_webhook_has_zoom_s_signature_and_headers(content: bytes) -> None:
    request = made(event(content), format="zoom-webhook", secret_token="its secret")
    message = b"v0:1769860800:" + request.body  # as Zoom's documents have it
    signature = "v0=" + hmac.new(b"its secret", message, hashlib.sha256).hexdigest()
    assert json.loads(request.body) == json.loads(content)
    assert plain(request) == {
        "content-type": "application/json; charset=utf-8",
        "user-agent": "Zoom Marketplace/1.0a",
        "x-zm-request-timestamp": "1769860800",
        "x-zm-signature": signature,
        "x-zm-request-id": "0f0f0f0f_0f0f_0f0f_0f0f_0f0f0f0f0f0f",
        "x-zm-trackingid": "v=2.0;clid=zoomrelay;rid=0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [(content, content) for name, content in CONTENTS.items() if name not in ("escapes", "newlines")]
    + [
        (
            CONTENTS["escapes"],
            '{"event":"x","payload":{"url":"https://zoom.us/","topic":"\U0001f600 é"}}'.encode(),
        ),
        (CONTENTS["newlines"], b'{"event":"x","payload":{}}'),
        (
            rb'{"a":"\\/\\u0041\"\n\t \u000a\u0001\u0022\u005c\u2028"}',
            rb'{"a":"\\/\\u0041\"\n\t \n\u0001\"\\' + "\u2028".encode() + b'"}',
        ),
        (rb'{"a":"\uD83D x \udE00"}', rb'{"a":"\ud83d x \ude00"}'),
        (b'{"b":1.0,"a":12345678901234567890,"c":-0E5}', b'{"b":1.0,"a":12345678901234567890,"c":-0E5}'),
        (b"no json \xff\\u", b"no json \xff\\u"),
        (b'{"a":"\xff\\/"}', b'{"a":"\xff\\/"}'),
        (b"[" * 9999, b"[" * 9999),
    ],
)
def test_zoom_webhook_sends_the_content_or_its_usual_spelling(content: bytes, expected: bytes) -> None:
    assert made(event(content), format="zoom-webhook", secret_token="its secret").body == expected


def test_zoom_webhook_signs_anew_at_each_attempt() -> None:
    format = ZoomWebhook("its secret")
    first, second = (plain(format.request([event()], wall)) for wall in (WALL, WALL + 60))
    assert first["x-zm-signature"] != second["x-zm-signature"]
    assert int(second["x-zm-request-timestamp"]) - int(first["x-zm-request-timestamp"]) == 60
    assert first["x-zm-request-id"] == second["x-zm-request-id"]


def answer(secret: bytes, plain_token: str, **more: object) -> bytes:
    encrypted = hmac.new(secret, plain_token.encode(), hashlib.sha256).hexdigest()
    return json.dumps({"plainToken": plain_token, "encryptedToken": encrypted} | more).encode()


def test_the_challenge_is_zoom_s_and_signed() -> None:
    request = ZoomWebhook("its secret").challenge("00ff" * 8, WALL)
    assert json.loads(request.body) == {
        "event": "endpoint.url_validation",
        "payload": {"plainToken": "00ff" * 8},
        "event_ts": 1_769_860_800_900,
    }
    message = b"v0:1769860800:" + request.body
    signature = hmac.new(b"its secret", message, hashlib.sha256).hexdigest()
    assert plain(request)["x-zm-signature"] == "v0=" + signature


@pytest.mark.parametrize(
    ("given", "flaw"),
    [
        (answer(b"its secret", "t0ken"), ""),
        (b"OK", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no encryptedToken"),
        (b'{"plainToken":"t0ken"}', "no encryptedToken"),
        (b'{"plainToken":"t0ken","encryptedToken":1}', "no encryptedToken"),
        (answer(b"its secret", "other"), "does not repeat plainToken"),
        (answer(b"another", "t0ken"), "has another secret token"),
        (answer(b"its secret", "t0ken", encryptedToken="\u00e9\ud83d"), "has another secret token"),
    ],
)
def test_what_is_wrong_with_an_answer_to_the_challenge_is_said(given: bytes, flaw: str) -> None:
    found = ZoomWebhook("its secret").flaw("t0ken", given)
    assert (flaw in found) if flaw else found == ""


# --- cloudevents


def check_attributes(found: Any, *, name: str = "meeting.started") -> None:
    attributes = found.get_attributes()
    assert attributes.pop("time") == datetime(2026, 1, 31, 11, 59, 59, 123000, UTC)
    assert attributes == {
        "specversion": "1.0",
        "id": "z1_0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
        "source": "/zoomrelay/main",
        "type": f"us.zoom.{name}",
        "datacontenttype": "application/json",
    }


@ALL
@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_cloudevents_are_read_by_the_sdk(mode: str, content: bytes) -> None:
    request = made(event(content), format="cloudevents", cloudevents_mode=mode)
    found = from_http_event(HTTPMessage(plain(request), request.body))
    check_attributes(found)
    assert found.get_data() == json.loads(content)
    if mode == "binary":
        assert request.body == content
    else:
        assert request.body.endswith(b'"data":%b}' % content)


@pytest.mark.parametrize("name", ['odd "name" 100%', "ünïcode \U0001f600", "a\x7fb\tc", "~!"])
@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_odd_names_survive(mode: str, name: str) -> None:
    request = made(event(name=name), format="cloudevents", cloudevents_mode=mode)
    assert all(re.fullmatch(r"[\x20-\x7e]*", value) for value in request.headers.values())
    found = from_http_event(HTTPMessage(plain(request), request.body))
    check_attributes(found, name=name)


def test_a_batch_of_cloudevents_is_an_array_of_them() -> None:
    events = [event(content) for content in CONTENTS.values()]
    request = made(*events, format="cloudevents", batch_events=500)
    assert plain(request) == {"content-type": "application/cloudevents-batch+json; charset=utf-8"}
    one_by_one = json.loads(request.body)
    assert len(one_by_one) == len(CONTENTS)
    for one, content in zip(one_by_one, CONTENTS.values(), strict=True):
        found = JSONFormat().read(CloudEvent, json.dumps(one))
        check_attributes(found)
        assert found.get_data() == json.loads(content)


@pytest.mark.parametrize("odd", [None, 0, -1, 1_769_860_800, 10**20])
def test_where_event_ts_is_no_moment_the_time_is_that_of_receipt(odd: int | None) -> None:
    found = json.loads(made(event(event_ts=odd), format="cloudevents").body)
    assert found["time"] == "2026-01-31T12:00:00.000Z"


# --- standard-webhooks

OLD, NEW = ("whsec_" + base64.b64encode(letter * 24).decode() for letter in (b"o", b"n"))


@ALL
@pytest.mark.parametrize("mine", [OLD, NEW])
def test_standard_webhooks_are_verified_with_either_secret(mine: str, content: bytes) -> None:
    both = f"{NEW}\n{OLD}"
    config = HttpSinkConfig(name="crm", url="http://crm/", format="standard-webhooks", secret_token=both)
    one = event(content)
    request = registry.build(config).request([one], time.time())
    headers = plain(request) | {"webhook-id": one.id}
    found = Webhook(mine).verify(request.body, headers)
    assert found == {
        "type": "meeting.started",
        "timestamp": "2026-01-31T11:59:59.123Z",
        "data": json.loads(content),
    }
    assert request.body.endswith(b'"data":%b}' % content)
    with pytest.raises(WebhookVerificationError):
        Webhook(mine).verify(request.body + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("c2VjcmV0").verify(request.body, headers)


def test_standard_webhooks_sign_as_the_library_does() -> None:
    request = made(event(), format="standard-webhooks", secret_token=OLD)
    moment = datetime.fromtimestamp(int(WALL), UTC)
    assert plain(request)["webhook-signature"] == Webhook(OLD).sign(event().id, moment, request.body.decode())


@pytest.mark.parametrize("spelling", ["whsec_c2VjcmV0IQ==", "c2VjcmV0IQ==", "c2VjcmV0IQ", " c2VjcmV0IQ \n"])
def test_secrets_are_read_in_every_spelling_of_the_library(spelling: str) -> None:
    assert signing_keys(spelling) == (b"secret!",) == (Webhook(spelling.strip())._whsecret,)


# --- splunk-hec


def test_splunk_events_are_objects_one_after_the_other() -> None:
    events = [event(content, number=number) for number, content in enumerate(CONTENTS.values())]
    request = made(*events, format="splunk-hec", secret_token="11-22", batch_events=500)
    assert plain(request) == {"content-type": "application/json", "authorization": "Splunk 11-22"}
    decoder, text, found = json.JSONDecoder(), request.body.decode(), []
    while text:
        one, end = decoder.raw_decode(text)
        found.append(one)
        text = text[end:].lstrip()
    assert found == [
        {
            "time": 1769860799.123,
            "source": "zoomrelay:main",
            "sourcetype": "zoom:webhook",
            "fields": {"id": one.id},
            "event": json.loads(one.content),
        }
        for one in events
    ]


@pytest.mark.parametrize("format", ["cloudevents", "standard-webhooks", "splunk-hec"])
@pytest.mark.parametrize("content", [b"no json \xff", b'{"a":NaN}', b'{"a":"\xed\xa0\xbd"}', b"[" * 9999])
def test_what_embeds_events_is_json_whatever_they_are(format: str, content: bytes) -> None:
    secret = {} if format == "cloudevents" else {"secret_token": OLD}
    json.loads(made(event(content), format=format, **secret).body.decode(), parse_constant=pytest.fail)


# --- compression


@ALL
def test_compressed_bodies_are_read_by_the_usual_libraries(content: bytes) -> None:
    for kind, read in (("gzip", gzip.decompress), ("zstd", zstd.decompress)):
        compress = compressor(kind)
        assert compress and read(compress(content)) == content
    assert compressor("none") is None
