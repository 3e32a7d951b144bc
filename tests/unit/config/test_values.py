"""Sizes, subscriptions and addresses as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomrelay.config import listen_address, subscription_id
from zoomrelay.config.addresses import shown_url
from zoomrelay.config.sizes import size_bytes, size_text
from zoomrelay.config.subscriptions import subscription

ID = "ZhPGtK84QbapRWXzEBW7MA"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (7, 7),
        ("7", 7),
        ("7B", 7),
        ("64KB", 64_000),
        ("64KiB", 65_536),
        ("64 kib", 65_536),
        ("16MiB", 16 * 1024**2),
        (" 1.5GiB ", 3 * 1024**3 // 2),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes(text: object, expected: int) -> None:
    assert size_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "MiB", "64 M", "64M", "-1MiB", "1e6", "1,5MiB", 1.5, True, None, "9" * 40]
)
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        size_bytes(text)


@given(st.integers(1, 2**45))
def test_a_shown_size_reads_back(count: int) -> None:
    assert size_bytes(size_text(count)) == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ID, ID),
        (f" {ID}\n", ID),
        ("_a-b", "_a-b"),
        (f"wss://ws.zoom.us/ws?subscriptionId={ID}", f"wss://ws.zoom.us/ws?subscriptionId={ID}"),
        (f"wss://h/ws?subscriptionId={ID}&access_token=eyJ", f"wss://h/ws?subscriptionId={ID}"),
        (f"wss://h/ws?access_token=eyJ&subscriptionId={ID}&x=1", f"wss://h/ws?subscriptionId={ID}&x=1"),
        (f"ws://127.0.0.1:8080/ws?subscriptionId={ID}#x", f"ws://127.0.0.1:8080/ws?subscriptionId={ID}"),
    ],
)
def test_subscriptions(text: str, expected: str) -> None:
    assert subscription(text) == expected
    assert subscription_id(text) == (ID if ID in text else expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two words",
        "wss://ws.zoom.us/ws",
        "wss://ws.zoom.us/ws?subscriptionId=",
        f"https://ws.zoom.us/ws?subscriptionId={ID}",
        f"wss://u:p@ws.zoom.us/ws?subscriptionId={ID}",
        "wss://[/ws",
    ],
)
def test_what_is_no_subscription(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        subscription(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        (":9464", ("", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("[::]:0", ("::", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_listening_addresses(text: str, expected: tuple[str, int] | None) -> None:
    assert listen_address(text) == expected


@pytest.mark.parametrize(
    "text", ["9464", "host", "host:", "host:x", "host:65536", "host:-1", "::1:9464", "h:²"]
)
def test_what_is_no_listening_address(text: str) -> None:
    with pytest.raises(ValueError):
        listen_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://crm.example/zoom", "https://crm.example/zoom"),
        ("https://u:p@crm.example/zoom", "https://crm.example/zoom"),
        ("https://crm.example:8443/zoom?key=abc&x=", "https://crm.example:8443/zoom?key=***&x=***"),
    ],
)
def test_shown_urls(text: str, expected: str) -> None:
    assert shown_url(text) == expected
