"""zoomrelay holds Zoom's event WebSocket open and hands every event to where it is wanted."""

__version__ = "0.1.0"
