"""Two relays on one state directory, one of which takes over from the other."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from tests.support.lab import Lab
from tests.support.process import RelayProcess

TAKEOVER = ("-m", "zoomrelay", "run", "--takeover")


def successor(lab: Lab, **how: Any) -> RelayProcess:
    """A process that is to take over from the lab's relay; it is started, and left behind by nobody."""
    new = RelayProcess(lab.relay.directory)
    lab.also(new)
    new.start(**{"module": TAKEOVER, **how})
    return new


async def take_over(lab: Lab, **how: Any) -> float:
    """One takeover from beginning to end; the seconds it took."""
    old, start = lab.relay, time.monotonic()
    new = successor(lab, **how)
    done = len(new.log("takeover.done"))
    await new.until(lambda: len(new.log("takeover.done")) > done, "the end of the takeover", seconds=60)
    seconds = time.monotonic() - start
    assert await old.ended(30) == 0, old.tail()
    lab.relay = new
    return seconds


def twice(delivered: list[bytes]) -> int:
    """How many events came more than once."""
    return sum(count > 1 for count in Counter(delivered).values())
