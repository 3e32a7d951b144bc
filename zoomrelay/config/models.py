"""The settings: one frozen model per room. Names and defaults here are a contract with users.

`zoomrelay.config.load` builds these from flags, environment, credential files and TOML. Rules that one
group can judge alone are here; rules between groups, or about the file system, are in `rules`.
Validators raise ValueError with a sentence about what was expected; it never repeats what was given.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticKnownError

from zoomrelay.config.addresses import http_url, listen, proxy_url, url_path, ws_url
from zoomrelay.config.http_headers import header_name, header_value
from zoomrelay.config.path_template import path_template
from zoomrelay.config.secrets import FileSecret, UnreadableSecret
from zoomrelay.config.sizes import size_bytes
from zoomrelay.config.subscriptions import subscription
from zoomrelay.privacy.fields import Kind

KEEP = "keep"
"""In `privacy.fields`: what the built-in map names is not hidden."""
TOKEN_AT_LEAST = 16
"""Characters of a token that others must not guess."""
EventFormat = Literal["raw", "envelope"]
"""What every sink can write."""
HttpFormat = Literal["raw", "envelope", "zoom-webhook", "cloudevents", "standard-webhooks", "splunk-hec"]
Compression = Literal["none", "gzip", "zstd"]
Grant = Literal["auto", "account_credentials", "client_credentials", "authorization_code"]


def _not_a_switch(value: object) -> object:
    """Python counts True as 1; a setting that wants a number does not."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _event_glob(text: str) -> str:
    if not re.fullmatch(r"!?[A-Za-z0-9_.*?-]+", text):
        raise ValueError('must be event names like "meeting.started", "meeting.*" or "!meeting.ended"')
    return text


def _positive_glob(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.*?-]+", text):
        raise ValueError('must be a table of event names like "meeting.rtms_started" or "meeting.*"')
    return text


def _privacy_field(text: str) -> str:
    name, sign, kind = text.partition("=")
    if not name or not sign or kind not in (*Kind, KEEP):
        raise ValueError(
            f'must be like "badge_number=name" or "topic={KEEP}"; kinds: {", ".join(Kind)}, {KEEP}'
        )
    return text


def _path(value: object) -> object:
    if value == "":
        raise ValueError("is empty; it must be a path")
    return value


def _path_or_none(value: object) -> object:
    return None if value == "" else value


def _secret_or_none(value: object) -> object:
    return None if value == "" else value


def _as_it_was(value: object) -> object:
    """A secret that is not read anew while the relay runs forgets its file."""
    return value.get_secret_value() if isinstance(value, FileSecret) else value


def _hard_to_guess(value: SecretStr | None) -> SecretStr | None:
    text = value.get_secret_value() if value else ""
    if isinstance(value, UnreadableSecret):
        return value
    if value and not (len(text) >= TOKEN_AT_LEAST and re.fullmatch(r"[\x21-\x7e]+", text)):
        raise ValueError(
            f"must be at least {TOKEN_AT_LEAST} plain characters without spaces, for instance of"
            " `openssl rand -hex 32`"
        )
    return value


def _secret_url(value: SecretStr | None) -> SecretStr | None:
    if value and not isinstance(value, UnreadableSecret):
        http_url(value.get_secret_value())
    return value


Seconds = Annotated[float, BeforeValidator(_not_a_switch), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_not_a_switch)]
SizeBytes = Annotated[int, BeforeValidator(size_bytes), Field(gt=0, lt=2**62)]
Word = Annotated[str, Field(pattern=r"^[\x21-\x7e]*$")]
FilePath = Annotated[Path, BeforeValidator(_path)]
TemplatePath = Annotated[FilePath, AfterValidator(path_template)]
SizeBytesOrZero = Annotated[int, BeforeValidator(size_bytes), Field(ge=0, lt=2**62)]
OptionalFilePath = Annotated[Path | None, BeforeValidator(_path_or_none)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_secret_or_none)]
ReadOnce = BeforeValidator(_as_it_was)
HttpUrl = Annotated[str, AfterValidator(http_url)]
# Named here, for inside a class body a field's own name hides a validator of the same name.
WsUrl = Annotated[str, AfterValidator(ws_url)]
ProxyUrl = Annotated[str, AfterValidator(proxy_url)]
Listen = Annotated[str, AfterValidator(listen)]
HeaderName = Annotated[str, AfterValidator(header_name)]
HeaderValue = Annotated[SecretStr, AfterValidator(header_value)]


class Settings(BaseModel):
    """Base of every group: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _NoneGiven(str):
    """An empty default that can be told from an empty value."""


_NONE_GIVEN = _NoneGiven()


class WebhookConfig(Settings):
    """Where Zoom may send a source's events by HTTP."""

    listen: Annotated[Listen, Field(min_length=1)]
    """host:port, as in `AdminConfig`; an address of its own."""
    path: Annotated[str, AfterValidator(url_path)] = "/webhook"
    secret_token: Annotated[OptionalSecret, ReadOnce] = None
    """None: that of the source."""
    max_body_bytes: SizeBytes = 1024**2
    cert_file: OptionalFilePath = None
    """With it HTTPS, else HTTP: for a proxy that ends TLS. The key is in `key_file`, or in the same file."""
    key_file: OptionalFilePath = None

    @field_validator("key_file")
    @classmethod
    def _key_has_its_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("cert_file", ...) is None:
            raise ValueError("needs cert_file")
        return value


class SourceConfig(Settings):
    """One Zoom app."""

    name: str
    webhook: WebhookConfig | None = None
    account_id: Word = ""
    client_id: Word = Field(default=_NONE_GIVEN, validate_default=True)
    """Empty where there is nothing but a `webhook`, which needs no token."""
    grant: Grant = "auto"
    """`auto` means account_credentials where there is an `account_id`, else client_credentials."""
    client_secret: SecretStr | None = Field(default=None, validate_default=True)
    """Read anew at each use where it came from a file. None: a public client (authorization_code, PKCE)."""
    client_secret_next: OptionalSecret = None
    """Tried when `client_secret` is refused, so that the two can be changed over at leisure."""
    subscriptions: tuple[Annotated[str, AfterValidator(subscription)], ...] = ()
    """Subscription ids, or whole wss:// URLs as pasted (without an access token); `subscription_id`
    gives the id of either. Empty means tokens only."""
    secret_token: Annotated[OptionalSecret, ReadOnce] = None
    verify_signature: Literal["off", "warn", "enforce"] = "warn"
    """Without a `secret_token` nothing can be verified, and `enforce` is refused."""
    token_url: HttpUrl = "https://zoom.us/oauth/token"
    ws_url: WsUrl = "wss://ws.zoom.us/ws"
    api_url: HttpUrl = "https://api.zoom.us/v2"
    heartbeat_seconds: Annotated[Seconds, Field(ge=5, le=55)] = 25.0
    dead_after_seconds: Seconds = Field(default_factory=lambda data: 3.0 * data["heartbeat_seconds"])
    """Silence of every kind of frame after which a link is dead; 3 x `heartbeat_seconds` if not given."""
    quiet_after_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Report a subscription that is accepted and brings no event for so long; 0 turns it off."""
    max_message_bytes: SizeBytes = 16 * 1024**2
    proxy: ProxyUrl = ""
    """Empty: HTTPS_PROXY and NO_PROXY decide."""
    ca_file: OptionalFilePath = None
    """None: the system's authorities."""

    @property
    def has_app(self) -> bool:
        """Whether there are credentials to ask Zoom for tokens with."""
        return bool(self.client_id)

    @property
    def webhook_secret(self) -> SecretStr | None:
        """What webhooks are signed with; an app has one Secret Token for everything."""
        return (self.webhook and self.webhook.secret_token) or self.secret_token

    @field_validator("client_id", mode="before")
    @classmethod
    def _only_webhooks_need_no_app(cls, value: object, info: ValidationInfo) -> object:
        if value is _NONE_GIVEN and info.data.get("webhook", ...) is None:
            raise PydanticKnownError("missing")
        if value == "" and value is not _NONE_GIVEN:
            raise PydanticKnownError("string_too_short", {"min_length": 1})
        return value

    @field_validator("grant")
    @classmethod
    def _grant_has_its_account(cls, value: str, info: ValidationInfo) -> str:
        if value == "account_credentials" and info.data.get("account_id") == "":
            raise ValueError("account_credentials needs account_id")
        return value

    @field_validator("client_secret")
    @classmethod
    def _only_public_clients_have_none(
        cls, value: SecretStr | None, info: ValidationInfo
    ) -> SecretStr | None:
        public = info.data.get("grant", "authorization_code") == "authorization_code"
        if value is None and not public and info.data.get("client_id", ...):
            raise PydanticKnownError("missing")
        if value is not None and not value.get_secret_value():
            raise PydanticKnownError("string_too_short", {"min_length": 1})
        return value

    @field_validator("verify_signature")
    @classmethod
    def _enforcing_needs_the_token(cls, value: str, info: ValidationInfo) -> str:
        if value == "enforce" and info.data.get("secret_token", ...) is None:
            raise ValueError("enforce needs secret_token")
        return value

    @field_validator("dead_after_seconds")
    @classmethod
    def _outlasts_a_heartbeat(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("heartbeat_seconds", 0.0):
            raise ValueError("must be larger than heartbeat_seconds")
        return value


class SpoolConfig(Settings):
    type: Literal["sqlite", "memory"] = "sqlite"
    max_bytes: SizeBytes = 1024**3
    retain_seconds: Annotated[Seconds, Field(ge=0)] = 0.0
    """For how long delivered events are kept for replay, as far as `max_bytes` allows."""


class SinkBase(Settings):
    """What every sink has."""

    name: str
    events: tuple[Annotated[str, AfterValidator(_event_glob)], ...] = ()
    """Globs in order, the last match wins; empty means everything."""
    sources: tuple[str, ...] = ()
    """Names of sources; empty means all."""
    gap_events: bool = False
    """Whether it gets `zoomrelay.gap_opened` and `zoomrelay.gap_closed`; `events` does not apply to these."""
    format: EventFormat = "raw"
    privacy: Literal["off", "drop", "mask", "pseudonym"] = "off"
    """What becomes of personal data before this sink gets an event; see `PrivacyConfig`."""
    start: Literal["now", "oldest"] = "now"


class StdoutSinkConfig(SinkBase):
    type: Literal["stdout"] = "stdout"


class FileSinkConfig(SinkBase):
    type: Literal["file"] = "file"
    path: TemplatePath
    """May hold placeholders (`zoomrelay.config.path_template`)."""
    fsync: bool = True
    rotate_bytes: SizeBytesOrZero = 0
    """A segment ends before it would grow beyond this; 0 is no bound."""
    rotate_seconds: Annotated[Seconds, Field(ge=0)] = 0.0
    """A segment ends so long after its first event; 0 is no bound."""
    compression: Compression = "none"
    """Of segments that have ended."""
    min_free_bytes: SizeBytesOrZero = 0
    """Nothing is written that would leave less on the disk; 0 is no bound."""

    @property
    def rotates(self) -> bool:
        return bool(self.rotate_bytes or self.rotate_seconds)

    @field_validator("compression")
    @classmethod
    def _compression_needs_segments(cls, value: str, info: ValidationInfo) -> str:
        sizes = (info.data.get("rotate_bytes", 1), info.data.get("rotate_seconds", 1))
        if value != "none" and not any(sizes):
            raise ValueError(
                f"{value} needs rotate_bytes or rotate_seconds: only what has ended is compressed"
            )
        return value


class HttpSinkConfig(SinkBase):
    type: Literal["http"] = "http"
    url: HttpUrl
    ordering: Literal["key", "strict", "none"] = "key"
    concurrency: Annotated[Whole, Field(ge=1, le=1000)] = 16
    timeout_seconds: Annotated[Seconds, Field(gt=0)] = 15.0
    give_up_after_seconds: Annotated[Seconds, Field(gt=0)] = 259200.0
    deadline_seconds: dict[
        Annotated[str, AfterValidator(_positive_glob)], Annotated[Seconds, Field(ge=0)]
    ] = Field(default_factory=dict)
    """Globs over event names, the last match wins, each with the seconds after receipt until which an event
    is of use; 0 is no deadline."""
    dead_letter_on: tuple[Annotated[Whole, Field(ge=300, le=599)], ...] = ()
    """Statuses that settle an event as dead at once."""
    max_rate: Annotated[Seconds, Field(ge=0)] = 0.0
    """Events per second; 0 is no bound."""
    format: HttpFormat = "raw"  # type: ignore[assignment]  # wider than that of other sinks
    secret_token: OptionalSecret = None
    """What `zoom-webhook` and `standard-webhooks` sign with (the latter with each of several, between white
    space), and the token of `splunk-hec`."""
    validate_receiver: Annotated[bool, Field(alias="validate")] = True
    """Whether `zoom-webhook` begins with Zoom's challenge to the receiver."""
    cloudevents_mode: Literal["structured", "binary"] = "structured"
    batch_events: Annotated[Whole, Field(ge=1, le=10_000)] = 1
    """The most events in one request; above 1, requests are in the batch form of their format."""
    batch_bytes: SizeBytes = 1024**2
    """A batch is sent once it holds so much, before compression."""
    batch_seconds: Annotated[Seconds, Field(ge=0, le=3600)] = 1.0
    """The longest that an event waits for others to fill its batch."""
    compression: Compression = "none"
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Sent with every request. `NAME_file` names a file with the value."""
    username: Annotated[str, Field(pattern=r"^[\x21-\x39\x3b-\x7e]*$")] = ""
    password: OptionalSecret = None
    """HTTP Basic, with `username`."""
    bearer_token: OptionalSecret = None
    proxy: ProxyUrl = ""
    """Empty: HTTP_PROXY, HTTPS_PROXY and NO_PROXY decide."""
    ca_file: OptionalFilePath = None
    cert_file: OptionalFilePath = None
    """A certificate that we show to the receiver; the key is in `key_file`, or in the same file."""
    key_file: OptionalFilePath = None

    @property
    def basic_credentials(self) -> str:
        """`username` and `password` as HTTP Basic sends them; empty without these."""
        if self.password is None:
            return ""
        return base64.b64encode(f"{self.username}:{self.password.get_secret_value()}".encode()).decode()

    def secrets(self) -> list[str]:
        """Every secret in it, in plain text and as it is sent, to be kept out of whatever is shown."""
        given = (self.secret_token, self.password, self.bearer_token, *self.headers.values())
        texts = [secret.get_secret_value() for secret in given if secret is not None]
        return [self.basic_credentials, *(part for text in texts for part in {text, *text.split()})]


SinkConfig = Annotated[StdoutSinkConfig | FileSinkConfig | HttpSinkConfig, Field(discriminator="type")]


class AdminConfig(Settings):
    listen: Listen = "127.0.0.1:9464"
    """host:port; empty turns the TCP port off. `listen_address` takes it apart."""
    bearer_token: Annotated[OptionalSecret, AfterValidator(_hard_to_guess), ReadOnce] = None
    """What the TCP port asks of visitors, but for `/livez` and `/readyz`; None: nothing."""
    ping_url: Annotated[OptionalSecret, AfterValidator(_secret_url), ReadOnce] = None
    """Called once a minute while all is well. A secret: whoever knows it can pretend that all is well."""

    def secrets(self) -> list[str]:
        """Every secret in it, in plain text, to be kept out of whatever is shown."""
        given = [self.bearer_token.get_secret_value()] if self.bearer_token else []
        if self.ping_url is None:
            return given
        url = self.ping_url.get_secret_value()
        behind_host = re.sub(r"^\w+://[^/?#]*", "", url)
        parts = [part for part in re.split(r"[/?&=#]", behind_host) if len(part) >= TOKEN_AT_LEAST]
        return [*given, url, behind_host, *parts]


class PrivacyConfig(Settings):
    """For sinks whose `privacy` is not off."""

    key: Annotated[OptionalSecret, ReadOnce] = None
    """Of pseudonyms: with another key, the same person gets another one."""
    fields: tuple[Annotated[str, AfterValidator(_privacy_field)], ...] = ()
    """Beyond and before the built-in map: "badge_number=name", "topic=keep"."""

    def kinds(self) -> dict[str, Kind | None]:
        """`fields` taken apart: name -> kind, None for what is kept."""
        pairs = [text.split("=") for text in self.fields]
        return {name: None if kind == KEEP else Kind(kind) for name, kind in pairs}


class LogConfig(Settings):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class General(Settings):
    """What stands outside every table."""

    state_dir: FilePath
    drain_seconds: Annotated[Seconds, Field(ge=0)] = 5.0


class Config(General):
    """The whole configuration, complete and valid. The running relay has a `settings.RelaySettings`."""

    sources: dict[str, SourceConfig]
    spool: SpoolConfig = SpoolConfig()
    sinks: dict[str, SinkConfig]
    admin: AdminConfig = AdminConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    log: LogConfig = LogConfig()
