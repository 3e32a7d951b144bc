"""What a webhook needs before it can listen."""

from __future__ import annotations

from zoomrelay.config.models import WebhookConfig
from zoomrelay.webhook.door import Certificate, bind


class Entrance:
    """The address of a source's webhook, which does not listen yet, and the certificate that it will show."""

    def __init__(self, source: str, webhook: WebhookConfig) -> None:
        """Both are taken at once. Raises `ConfigError`, which names the setting."""
        setting = f"sources.{source}.webhook"
        self.certificate: Certificate | None = None
        if webhook.cert_file is not None:
            self.certificate = Certificate(webhook.cert_file, webhook.key_file, f"{setting}.cert_file")
        self.sockets = bind(webhook.listen, f"{setting}.listen")

    def close(self) -> None:
        """Let go of the address; also after a door has."""
        for one in self.sockets:
            one.close()
