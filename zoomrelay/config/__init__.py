"""Configuration: the settings, and how they are found. Start at `load`."""

from zoomrelay.config.addresses import listen_address
from zoomrelay.config.load import Loaded, load
from zoomrelay.config.models import Config
from zoomrelay.config.subscriptions import subscription_id

__all__ = ["Config", "Loaded", "listen_address", "load", "subscription_id"]
