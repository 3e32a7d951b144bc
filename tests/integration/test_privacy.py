"""A sink with privacy, on the real relay: nothing personal reaches it, nor what is kept of it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.support.lab import Lab
from tests.support.receiver import Receiver
from zoomrelay.privacy.fields import kind_of

_ADDRESS = re.compile(rb"[a-z0-9]+@example\.[a-z]+")


async def test_what_a_sink_with_privacy_gets(tmp_path: Path) -> None:
    receiver = Receiver(seed=1, refuse_part=0.3, status=422)
    options = 'privacy = "mask"\ndead_letter_on = [422]'
    async with Lab(tmp_path, seed=1, receiver=receiver, http_options=options) as lab:
        await lab.start()
        await lab.zoom.burst(300)
        await lab.finish()
        await lab.relay.stop()
        originals = [json.loads(content) for content in lab.delivered()["archive"]]
        personal = {value for event in originals for value in _personal(event)}
        assert len(personal) > 50
        kept = _kept(lab.state_dir / "spool.sqlite")
        assert len(kept) > 50
        assert len(kept) + len(receiver.taken) >= 300
        for content in [*kept, *receiver.taken]:
            given_away = personal & set(_strings(json.loads(content)))
            assert not given_away, content
            assert not _ADDRESS.search(content)
        names = sorted(event["event"] for event in originals)
        assert names == sorted(json.loads(content)["event"] for content in [*kept, *receiver.taken])


def _kept(spool: Path) -> list[bytes]:
    with closing(sqlite3.connect(spool)) as shell:
        return [row[0] for row in shell.execute("SELECT content FROM dead WHERE sink = 'crm'")]


def _personal(event: object, name: str = "") -> Iterator[str]:
    """Every personal string of an event, long enough not to stand elsewhere by chance."""
    if isinstance(event, dict):
        for key, value in event.items():
            yield from _personal(value, key)
    elif isinstance(event, list):
        for value in event:
            yield from _personal(value, name)
    elif isinstance(event, str) and len(event) > 8 and kind_of(name):
        yield event


def _strings(event: object) -> Iterator[str]:
    if isinstance(event, dict | list):
        for value in event.values() if isinstance(event, dict) else event:
            yield from _strings(value)
    elif isinstance(event, str):
        yield event
