"""The one way to a format: by the configuration of its sink."""

from __future__ import annotations

from typing import assert_never

from pydantic import SecretStr

from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.config.signing_keys import signing_keys
from zoomrelay.sinks.formats import cloudevents
from zoomrelay.sinks.formats.base import Format
from zoomrelay.sinks.formats.plain import Lines, Plain
from zoomrelay.sinks.formats.splunk_hec import SplunkHec
from zoomrelay.sinks.formats.standard_webhooks import StandardWebhooks
from zoomrelay.sinks.formats.zoom_webhook import ZoomWebhook


def build(config: HttpSinkConfig) -> Format:
    """The format that `config`, which keeps `zoomrelay.config.http_rules`, describes."""
    batches = config.batch_events > 1
    match config.format:
        case "raw" | "envelope":
            return Lines(config.format) if batches else Plain(config.format)
        case "zoom-webhook":
            return ZoomWebhook(_revealed(config.secret_token))
        case "cloudevents":
            return _cloudevents(config.cloudevents_mode == "binary", batches)
        case "standard-webhooks":
            return StandardWebhooks(signing_keys(_revealed(config.secret_token)))
        case "splunk-hec":
            return SplunkHec(_revealed(config.secret_token))
        case _:
            assert_never(config.format)


def _cloudevents(binary: bool, batches: bool) -> Format:
    if binary:
        return cloudevents.Binary()
    return cloudevents.Batch() if batches else cloudevents.Structured()


def _revealed(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
