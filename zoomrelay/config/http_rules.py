"""Rules between the settings of one http sink. Pure.

Each problem names the setting that is to be changed. What only another format could use is refused rather
than ignored: whoever writes it expects it to work.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import SecretStr

from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.config.signing_keys import signing_keys
from zoomrelay.errors import Problem

USE_OF_THE_SECRET = {
    "zoom-webhook": "signs with it",
    "standard-webhooks": "signs with it",
    "splunk-hec": "sends it as its token",
}
SIGNED = frozenset({"zoom-webhook", "standard-webhooks"})
"""Formats whose receivers verify the very bytes of one event: no batches, no compression."""


def broken_http_rules(sink: HttpSinkConfig) -> Iterator[Problem]:
    """What is wrong between settings that are right by themselves."""
    for setting, what, cure in (
        *_secret(sink),
        *_other_formats(sink),
        *_batches(sink),
        *_authorization(sink),
        *_certificate(sink),
    ):
        yield Problem(f"sinks.{sink.name}.{setting}", what, cure)


Broken = Iterator[tuple[str, str, str]]
"""(setting, what is wrong, cure)"""


def _secret(sink: HttpSinkConfig) -> Broken:
    use = USE_OF_THE_SECRET.get(sink.format)
    if sink.secret_token is None:
        if use:
            yield "secret_token", "is missing", f"{sink.format} {use}; set it, or secret_token_file"
    elif not use:
        yield "secret_token", f"is for {', '.join(USE_OF_THE_SECRET)}", f"the format is {sink.format}"
    elif sink.format == "standard-webhooks":
        yield from _keys(sink.secret_token)
    elif not _is_word(sink.secret_token):
        yield "secret_token", "must be one word of plain characters", ""


def _keys(secret: SecretStr) -> Broken:
    try:
        signing_keys(secret.get_secret_value())
    except ValueError as error:
        yield "secret_token", str(error), ""


def _is_word(secret: SecretStr) -> bool:
    value = secret.get_secret_value()
    return value.isascii() and value.isprintable() and " " not in value


def _other_formats(sink: HttpSinkConfig) -> Broken:
    if sink.cloudevents_mode != "structured" and sink.format != "cloudevents":
        yield "cloudevents_mode", "is for the format cloudevents", f"the format is {sink.format}"
    if not sink.validate_receiver and sink.format != "zoom-webhook":
        yield "validate", "is for the format zoom-webhook", f"the format is {sink.format}"
    if sink.compression != "none" and sink.format in SIGNED:
        yield "compression", f"is not for {sink.format}", "its signature is over the bytes as they are sent"


def _batches(sink: HttpSinkConfig) -> Broken:
    if sink.batch_events == 1:
        for setting in ("batch_bytes", "batch_seconds"):
            if getattr(sink, setting) != HttpSinkConfig.model_fields[setting].default:
                yield setting, "means nothing without batches", "set batch_events"
    elif sink.format in SIGNED:
        yield "batch_events", f"must be 1: {sink.format} has no batches", ""
    elif sink.format == "cloudevents" and sink.cloudevents_mode == "binary":
        yield "batch_events", 'must be 1: cloudevents_mode = "binary" has no batches', ""


def _authorization(sink: HttpSinkConfig) -> Broken:
    if bool(sink.username) != (sink.password is not None):
        missing, given = ("password", "username") if sink.username else ("username", "password")
        yield missing, f"is missing beside {given}", ""
    ways = {
        'format = "splunk-hec"': sink.format == "splunk-hec",
        "username": bool(sink.username or sink.password),
        "bearer_token": sink.bearer_token is not None,
        "headers.authorization": any(name.lower() == "authorization" for name in sink.headers),
    }
    first, *others = [way for way, used in ways.items() if used] or [""]
    for other in others:
        yield other, f"is another Authorization beside {first}", "keep one"


def _certificate(sink: HttpSinkConfig) -> Broken:
    if sink.key_file and not sink.cert_file:
        yield "cert_file", "is missing beside key_file", ""
