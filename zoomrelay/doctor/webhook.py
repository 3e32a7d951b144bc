"""A webhook's address and certificate; or what the relay that has them says. Whether Zoom gets there cannot
be told from here: that shows when the URL is validated in the Marketplace."""

from __future__ import annotations

from collections.abc import Callable

from zoomrelay import causes
from zoomrelay.admin.health import PathStatus, Status
from zoomrelay.admin.words import duration, path_counts
from zoomrelay.config.models import SourceConfig, WebhookConfig
from zoomrelay.doctor.finding import Finding, failed, passed, skipped
from zoomrelay.doctor.walk import Step
from zoomrelay.errors import ConfigError
from zoomrelay.webhook.door import Certificate, bind

_VALIDATE = "whether Zoom gets here shows when the URL is validated in the Marketplace"


def webhook_step(source: SourceConfig, webhook: WebhookConfig, relay: Callable[[], Status | None]) -> Step:
    """`relay`: what the relay says that has the address, if one runs."""

    async def probe() -> Finding:
        status = relay()
        return judge_address(source.name, webhook) if status is None else _as_told(source.name, status)

    return Step("webhook", probe, source=source.name, target=webhook.listen)


def judge_address(source: str, webhook: WebhookConfig) -> Finding:
    """Whether it could be listened on now, with this certificate."""
    setting = f"sources.{source}.webhook"
    try:
        if webhook.cert_file is not None:
            Certificate(webhook.cert_file, webhook.key_file, f"{setting}.cert_file")
        sockets = bind(webhook.listen, f"{setting}.listen")
    except ConfigError as error:
        return failed(causes.WEBHOOK_ADDRESS, "; ".join(str(problem) for problem in error.problems))
    for one in sockets:
        one.close()
    how = "HTTPS" if webhook.cert_file is not None else "HTTP, for a proxy that ends TLS"
    return passed(f"can be listened on ({how}); {_VALIDATE}")


def _as_told(source: str, status: Status) -> Finding:
    paths = [path for one in status.sources if one.name == source for path in one.paths if path.is_webhook]
    if not paths:
        return skipped("the relay that runs here does not know this webhook; reload does not add any")
    return _judge(paths[0], status.now)


def _judge(path: PathStatus, now: float) -> Finding:
    if path.accepted_since is None:
        return failed(causes.WEBHOOK_ADDRESS, "the relay says: it is closed")
    if path.trouble:
        return failed(causes.DEAF if path.deaf else causes.QUIET, f"the relay says: {path.trouble}")
    came = path_counts(path) if path.first or path.merged else f"nothing has come yet; {_VALIDATE}"
    return passed(f"the relay listens on it, for {duration(now - path.accepted_since)}: {came}")
