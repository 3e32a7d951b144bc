"""What a webhook needs before it can listen."""

from __future__ import annotations

from zoomrelay.config.models import WebhookConfig
from zoomrelay.webhook.door import Certificate, bind


class Entrance:
    """The address of a source's webhook, which does not listen yet, and the certificate that it will show."""

    def __init__(self, source: str, webhook: WebhookConfig) -> None:
        """Both are taken at once. Raises `ConfigError`, which names the setting."""
        self.certificate = certificate_of(source, webhook)
        self.sockets = bind(webhook.listen, f"sources.{source}.webhook.listen")

    def close(self) -> None:
        """Let go of the address; also after a door has."""
        for one in self.sockets:
            one.close()


def certificate_of(source: str, webhook: WebhookConfig) -> Certificate | None:
    """The one that it will show; None without TLS. Raises `ConfigError`, which names the setting."""
    if webhook.cert_file is None:
        return None
    return Certificate(webhook.cert_file, webhook.key_file, f"sources.{source}.webhook.cert_file")
