"""A pretend Zoom: a token endpoint and an event WebSocket on one loopback port.

`zoomrelay.simulator.server.Simulator` is the way in; docs/simulator.md describes it for people.
"""
