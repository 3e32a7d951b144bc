"""What a sink with privacy reads."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.delivery.fakes import LoopClock, event
from zoomrelay.delivery.shielded import ShieldedSpool
from zoomrelay.event import GAP_OPENED
from zoomrelay.privacy.shield import Shield, Treatment
from zoomrelay.spool.base import SinkStart
from zoomrelay.spool.memory import MemorySpool

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


@pytest.mark.parametrize(("subscription", "shown"), [("", True), ("abc", False)], ids=["ours", "Zoom's"])
async def test_only_the_relays_own_events_are_read_as_they_are(subscription: str, shown: bool) -> None:
    whole = MemorySpool(max_bytes=2**20, clock=LoopClock())
    await whole.open([SinkStart("sink")])
    spool = ShieldedSpool(whole, Shield(Treatment.DROP))
    content = b'{"event":"%b","payload":{"object":{"host_email":"jane@example.com"}}}' % GAP_OPENED.encode()
    one = event(1, name=GAP_OPENED)
    await whole.append([msgspec.structs.replace(one, content=content, subscription=subscription)])
    (item,) = await spool.read("sink", 10, 2**20)
    assert (b"jane" in item.event.content) == shown
