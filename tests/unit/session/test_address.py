from __future__ import annotations

import pytest

from zoomrelay.session.address import build_url

WS = "wss://ws.zoom.us/ws"


@pytest.mark.parametrize(
    ("ws_url", "subscription", "url"),
    [
        (WS, "aB_-1", "wss://ws.zoom.us/ws?subscriptionId=aB_-1&access_token=t.%2B%2F%3D%26"),
        (WS, "  aB ", "wss://ws.zoom.us/ws?subscriptionId=aB&access_token=t.%2B%2F%3D%26"),
        (
            "ws://127.0.0.1:8/ws?x=1&subscriptionId=old",
            "a&b",
            "ws://127.0.0.1:8/ws?x=1&subscriptionId=a%26b&access_token=t.%2B%2F%3D%26",
        ),
        (
            WS,
            "wss://other.zoom.us:444/ws?subscriptionId=aB&access_token=old&Access_Token=older&y=&x=1#f",
            "wss://other.zoom.us:444/ws?subscriptionId=aB&y=&x=1&access_token=t.%2B%2F%3D%26",
        ),
    ],
)
def test_the_address_is_built_from_id_or_pasted_url(ws_url: str, subscription: str, url: str) -> None:
    assert build_url(ws_url, subscription, "t.+/=&") == url
