"""Settings of http sinks that only make sense together, and headers with secrets from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoomrelay.config import show
from zoomrelay.errors import ConfigError

SOURCE = '[sources.main]\nclient_id = "c"\nclient_secret = "s"\n'
HTTP = SOURCE + '[sinks.crm]\ntype = "http"\nurl = "https://crm.example/"\n'

REFUSED = [
    (
        'format = "zoom-webhook"',
        "secret_token: is missing (zoom-webhook signs with it; set it, or secret_token_file)",
    ),
    (
        'format = "splunk-hec"',
        "secret_token: is missing (splunk-hec sends it as its token; set it, or secret_token_file)",
    ),
    (
        'secret_token = "x"',
        "secret_token: is for zoom-webhook, standard-webhooks, splunk-hec (the format is raw)",
    ),
    ('format = "splunk-hec"\nsecret_token = "a b"', "secret_token: must be one word of plain characters"),
    (
        'format = "standard-webhooks"\nsecret_token = "whsec_MfKQ whsec_not-base64"',
        "secret_token: entry 2 is not a secret of Standard Webhooks, which is whsec_ and base64",
    ),
    ('format = "standard-webhooks"\nsecret_token = " "', "secret_token: is empty"),
    (
        'format = "cloudevent"',
        "format: must be 'raw', 'envelope', 'zoom-webhook', 'cloudevents', 'standard-webhooks' "
        "or 'splunk-hec'",
    ),
    (
        'cloudevents_mode = "binary"',
        "cloudevents_mode: is for the format cloudevents (the format is raw)",
    ),
    ("validate = false", "validate: is for the format zoom-webhook (the format is raw)"),
    ('validate = "x"', "validate: must be true or false"),
    (
        'format = "zoom-webhook"\nsecret_token = "x"\ncompression = "gzip"',
        "compression: is not for zoom-webhook (its signature is over the bytes as they are sent)",
    ),
    ("batch_seconds = 3", "batch_seconds: means nothing without batches (set batch_events)"),
    ('batch_bytes = "2MiB"', "batch_bytes: means nothing without batches (set batch_events)"),
    (
        'format = "zoom-webhook"\nsecret_token = "x"\nbatch_events = 2',
        "batch_events: must be 1: zoom-webhook has no batches",
    ),
    (
        'format = "cloudevents"\ncloudevents_mode = "binary"\nbatch_events = 2',
        'batch_events: must be 1: cloudevents_mode = "binary" has no batches',
    ),
    ("max_rate = -1", "max_rate: must be at least 0"),
    ('compression = "brotli"', "compression: must be 'none', 'gzip' or 'zstd'"),
    ('username = "u"', "password: is missing beside username"),
    ('password = "p"', "username: is missing beside password"),
    (
        'bearer_token = "t"\nusername = "u"\npassword = "p"',
        "bearer_token: is another Authorization beside username (keep one)",
    ),
    (
        'bearer_token = "t"\nheaders = { Authorization = "x" }',
        "headers.authorization: is another Authorization beside bearer_token (keep one)",
    ),
    (
        'format = "splunk-hec"\nsecret_token = "x"\nbearer_token = "t"',
        'bearer_token: is another Authorization beside format = "splunk-hec" (keep one)',
    ),
    ('headers = { "x y" = "1" }', "headers: each key must be the name of an HTTP header"),
    ('headers = { Content-Length = "1" }', "headers.Content-Length: is a header that the sink sets itself"),
    ('headers = { x-zm-signature = "1" }', "headers.x-zm-signature: is a header that the sink sets itself"),
    (
        'headers = { x-key = "a\\nb" }',
        "headers.x-key: must be one line of plain characters, without spaces at its ends",
    ),
    ("headers = { x-key = 1 }", "headers.x-key: must be text in quotes"),
    ("headers = 1", "headers: must be a table"),
    ("headers = { x-key_file = 1 }", "headers.x-key_file: must be a path in quotes"),
    (
        'headers = { x-key_file = "/not/there" }',
        "headers.x-key_file: the file /not/there cannot be read: No such file or directory",
    ),
    ('headers = { x-key = "a", x-key_file = "/x" }', "headers.x-key: is given twice (keep one)"),
    ('cert_file = "/not/there"', "cert_file: /not/there is not a file that can be read"),
    (
        'proxy = "http://u:p@proxy:1"',
        "proxy: must not hold a user name or password; a proxy that asks for one belongs in HTTPS_PROXY",
    ),
]


@pytest.mark.parametrize(("lines", "expected"), REFUSED)
def test_a_setting_is_refused_by_its_name(problems, lines: str, expected: str) -> None:
    assert problems(HTTP + lines + "\n") == [f"sinks.crm.{expected}"]


def test_a_key_without_its_certificate(problems, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.touch()
    assert problems(HTTP + f'key_file = "{key}"\n') == [
        "sinks.crm.cert_file: is missing beside key_file",
    ]


PLANTED = "pl4nted-s3cret"


@pytest.mark.parametrize(
    "line",
    [
        f'headers = {{ "authorization: Bearer {PLANTED}" = "" }}',
        f'headers = {{ x-key = " {PLANTED}" }}',
        f'headers = ["{PLANTED}"]',
        f'url = "https://user:{PLANTED}@crm.example/"',
        f'format = "standard-webhooks"\nsecret_token = "whsec_{PLANTED}"',
        f'format = "zoom-webhook"\nsecret_token = "{PLANTED} x"',
        f'bearer_token = ["{PLANTED}"]',
        f'username = "{PLANTED}: x"\npassword = "{PLANTED}"',
    ],
)
def test_no_problem_shows_a_secret(problems, line: str) -> None:
    text = HTTP.replace('url = "https://crm.example/"\n', "") if line.startswith("url") else HTTP
    assert PLANTED not in "\n".join(problems(text + line + "\n"))


def test_headers_come_from_the_file_of_settings_and_from_files_of_their_own(
    load_text, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(PLANTED + "\n")
    lines = f'[sinks.crm.headers]\nx-team = "crm"\nx-key_file = "{tmp_path / "key"}"\n'
    loaded = load_text(HTTP + lines)
    headers = loaded.config.sinks["crm"].headers
    assert {name: value.get_secret_value() for name, value in headers.items()} == {
        "x-team": "crm",
        "x-key": PLANTED,
    }
    assert tmp_path / "key" in loaded.files_read
    shown = [one.line for one in show.settings(loaded) if one.path == ("sinks", "crm", "headers")]
    assert shown == ['headers = {"x-team" = "***", "x-key" = "***"}']


def test_the_secret_token_has_its_file_twin_and_variable(load_text, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("whsec_MfKQ\nwhsec_C2Fu\n")
    lines = f'format = "standard-webhooks"\nsecret_token_file = "{tmp_path / "token"}"\n'
    sink = load_text(HTTP + lines, {"ZOOMRELAY_SINKS__CRM__BATCH_EVENTS": "1"}).config.sinks["crm"]
    assert sink.secret_token.get_secret_value() == "whsec_MfKQ\nwhsec_C2Fu"
    assert {"whsec_MfKQ", "whsec_C2Fu"} < set(sink.secrets())


def test_headers_come_from_credential_files_too(load_text, secrets_directory: Path) -> None:
    (secrets_directory / "sinks.crm.headers.x-key").write_text(PLANTED + "\n")
    lines = '[sinks.crm.headers]\nx-team = "crm"\nx-key_file = "/not/there"\n'
    loaded = load_text(HTTP + lines)
    headers = {name: value.get_secret_value() for name, value in loaded.config.sinks["crm"].headers.items()}
    assert headers == {"x-team": "crm", "x-key": PLANTED}
    assert "credential file" in loaded.origins["sinks.crm.headers"]
    alone = load_text(HTTP).config.sinks["crm"].headers
    assert alone["x-key"].get_secret_value() == PLANTED


# --- deadlines --------------------------------------------------------------------------------------


def test_deadlines_are_a_table_in_its_order(load_text) -> None:
    loaded = load_text(HTTP + '[sinks.crm.deadline_seconds]\n"meeting.*" = 3600\n"meeting.rtms_*" = 0.5\n')
    assert list(loaded.config.sinks["crm"].deadline_seconds.items()) == [
        ("meeting.*", 3600.0),
        ("meeting.rtms_*", 0.5),
    ]
    shown = [one.line for one in show.settings(loaded) if one.path == ("sinks", "crm", "deadline_seconds")]
    assert shown == ['deadline_seconds = {"meeting.*" = 3600, "meeting.rtms_*" = 0.5}']


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("60", "must be a table"),
        ('{ "meeting.*" = -1 }', "must be at least 0"),
        ('{ "meeting.*" = "soon" }', "must be a number of seconds"),
        ('{ "meeting.*" = true }', "must be a number"),
        ('{ "!meeting.*" = 60 }', "must be a table of event names"),
        ('{ "meeting.*" = nan }', "must be a number that has an end"),
    ],
)
def test_bad_deadlines_are_named(load_text, value: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(HTTP + f"deadline_seconds = {value}\n")
    (problem,) = caught.value.problems
    assert (problem.where, problem.what[: len(what)]) == ("sinks.crm.deadline_seconds", what)


def test_other_sinks_have_none(load_text) -> None:
    with pytest.raises(ConfigError, match="is a setting of http sinks"):
        load_text('[sinks.out]\ntype = "stdout"\ndeadline_seconds = { "*" = 60 }\n')
