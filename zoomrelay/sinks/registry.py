"""The one way to a sink: by its configuration."""

from __future__ import annotations

from typing import assert_never

from zoomrelay.clock import Clock
from zoomrelay.config.models import FileSinkConfig, HttpSinkConfig, SinkConfig, StdoutSinkConfig
from zoomrelay.sinks.base import Sink


def build(config: SinkConfig, clock: Clock) -> Sink:
    """The sink that `config` describes, not yet open."""
    # Imported where they are wanted: what a sink needs is loaded, and installed, only with that sink.
    match config:
        case StdoutSinkConfig():
            from zoomrelay.sinks.stdout import StdoutSink

            return StdoutSink(config)
        case FileSinkConfig():
            from zoomrelay.sinks.file import FileSink

            return FileSink(config, clock=clock)
        case HttpSinkConfig():
            from zoomrelay.sinks.http import HttpSink

            return HttpSink(config, clock)
        case _:
            assert_never(config)
