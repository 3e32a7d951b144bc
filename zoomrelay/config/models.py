"""The settings: one frozen model per room. Names and defaults here are a contract with users.

`zoomrelay.config.load` builds these from flags, environment, credential files and TOML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

EventFormat = Literal["raw", "envelope"]
Grant = Literal["auto", "account_credentials", "client_credentials"]


class Settings(BaseModel):
    """Base of every group: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SourceConfig(Settings):
    """One Zoom app."""

    name: str
    account_id: str = ""
    client_id: str
    client_secret: SecretStr
    subscriptions: tuple[str, ...] = ()
    """Subscription ids, or whole wss:// URLs as pasted."""
    grant: Grant = "auto"
    secret_token: SecretStr | None = None
    verify_signature: Literal["off", "warn", "enforce"] = "warn"
    token_url: str = "https://zoom.us/oauth/token"
    ws_url: str = "wss://ws.zoom.us/ws"
    api_url: str = "https://api.zoom.us/v2"
    heartbeat_seconds: float = 25.0
    dead_after_seconds: float = 75.0
    max_message_bytes: int = 16 * 1024**2
    proxy: str = ""
    ca_file: Path | None = None


class SpoolConfig(Settings):
    type: Literal["sqlite", "memory"] = "sqlite"
    max_bytes: int = 1024**3


class SinkBase(Settings):
    """What every sink has."""

    name: str
    events: tuple[str, ...] = ()
    """Globs in order, the last match wins; empty means everything."""
    sources: tuple[str, ...] = ()
    """Names of sources; empty means all."""
    format: EventFormat = "raw"
    start: Literal["now", "oldest"] = "now"


class StdoutSinkConfig(SinkBase):
    type: Literal["stdout"] = "stdout"


class FileSinkConfig(SinkBase):
    type: Literal["file"] = "file"
    path: Path
    fsync: bool = True


class HttpSinkConfig(SinkBase):
    type: Literal["http"] = "http"
    url: str
    ordering: Literal["key", "strict", "none"] = "key"
    concurrency: int = 16
    timeout_seconds: float = 15.0
    give_up_after_seconds: float = 259200.0
    dead_letter_on: tuple[int, ...] = ()
    ca_file: Path | None = None


SinkConfig = Annotated[StdoutSinkConfig | FileSinkConfig | HttpSinkConfig, Field(discriminator="type")]


class AdminConfig(Settings):
    listen: str = "127.0.0.1:9464"
    """host:port; empty turns the TCP port off."""


class LogConfig(Settings):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Config(Settings):
    """The whole configuration, complete and valid."""

    state_dir: Path
    drain_seconds: float = 5.0
    sources: dict[str, SourceConfig]
    spool: SpoolConfig = SpoolConfig()
    sinks: dict[str, SinkConfig]
    admin: AdminConfig = AdminConfig()
    log: LogConfig = LogConfig()
