"""The composition root: the only place where concrete parts are chosen and joined."""

from zoomrelay.app.parts import build_spool, sink_starts
from zoomrelay.app.relay import Front, Relay

__all__ = ["Front", "Relay", "build_spool", "sink_starts"]
