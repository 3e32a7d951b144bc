"""Personal data in Zoom's events: which fields hold it, and what a sink gets instead."""
