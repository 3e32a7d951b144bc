"""A receiver built with Zoom's own Node library takes events in the format zoom-webhook as they are."""

from __future__ import annotations

import json

import pytest

from tests.support.node import node
from tests.unit.sinks.test_formats import CONTENTS, event
from zoomrelay.clock import SystemClock
from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.errors import SinkRejected
from zoomrelay.sinks.http import HttpSink

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("node")]

RECEIVER = """
import { HttpReceiver } from "@zoom/rivet/meetings";
const receiver = new HttpReceiver({ port: 0, webhooksSecretToken: "its secret" });
receiver.init({ eventEmitter: { emit: async (name, event) => console.log(JSON.stringify([name, event])) } });
const server = await receiver.start();
console.log(server.address().port);
"""


def sink(port: int, secret_token: str) -> HttpSink:
    url = f"http://127.0.0.1:{port}/zoom/events"
    config = HttpSinkConfig(name="crm", url=url, format="zoom-webhook", secret_token=secret_token)
    return HttpSink(config, SystemClock())


async def test_rivet_takes_every_kind_of_content() -> None:
    with node(RECEIVER) as (process, port):
        assert process.stdout is not None
        one = sink(port, "its secret")
        await one.open()
        for content in CONTENTS.values():
            await one.send((event(content),), 1)
            name, found = json.loads(process.stdout.readline())
            assert found == json.loads(content) and name == found["event"]
        await one.close()


async def test_rivet_refuses_another_secret_and_it_is_said() -> None:
    with node(RECEIVER) as (_, port):
        one = sink(port, "another")
        with pytest.raises(SinkRejected, match=r"endpoint\.url_validation: HTTP 400 Bad Request"):
            await one.open()
        await one.close()
