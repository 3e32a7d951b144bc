from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from tests.unit.session.fakes import FakeConnection, FakeZoom, House
from zoomrelay.signature import verify

SECRET = b"secret token"
CONTENT = '{"event":"x","name":"Grüße"}'.encode()


def signed(content: bytes, timestamp: str = "1700000000", equals: str = "=") -> dict[str, str]:
    digest = hmac.new(SECRET, b"v0:" + timestamp.encode() + b":" + content, hashlib.sha256).hexdigest()
    return {"x-zm-request-timestamp": timestamp, "x-zm-signature": f"v0{equals}{digest}"}


@pytest.mark.parametrize("equals", ["=", "\\u003d", "\\u003D"])
def test_valid(equals: str) -> None:
    assert verify(SECRET, signed(CONTENT, equals=equals), CONTENT) == "valid"


def test_invalid() -> None:
    good = signed(CONTENT)
    assert verify(SECRET, good, CONTENT + b" ") == "invalid"
    assert verify(b"other", good, CONTENT) == "invalid"
    assert verify(SECRET, good | {"x-zm-request-timestamp": "1700000001"}, CONTENT) == "invalid"
    assert verify(SECRET, good | {"x-zm-signature": "v0=\ud800é"}, CONTENT) == "invalid"


@pytest.mark.parametrize("key", ["x-zm-signature", "x-zm-request-timestamp"])
def test_missing(key: str) -> None:
    header = signed(CONTENT)
    del header[key]
    assert verify(SECRET, header, CONTENT) == "missing"


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize("mode", ["off", "warn", "enforce"])
async def test_what_a_wrong_signature_does_is_configured(mode: str) -> None:
    def frame(content: str, header: dict[str, str]) -> bytes:
        return json.dumps({"module": "message", "content": content, "header": header}).encode()

    async def script(connection: FakeConnection) -> None:
        good, bad = '{"event":"a"}', '{"event":"b"}'
        connection.frame(frame(good, signed(good.encode())), frame(bad, signed(good.encode())))

    house = House(FakeZoom(script), secret_token=SECRET.decode(), verify_signature=mode)
    await house.during(3)
    forged = '{"event":"b"}'
    assert house.consumer.received == ['{"event":"a"}'] + ([forged] if mode != "enforce" else [])
    assert house.consumer.odd == ([(forged.encode(), "signature")] if mode == "enforce" else [])
    expected = None if mode == "off" else 1
    assert house.sample("signatures_total", source="main", result="valid") == expected
    assert house.sample("signatures_total", source="main", result="invalid") == expected
