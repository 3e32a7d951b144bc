"""Whatever is logged, by whomever and in whatever shape: no planted secret comes out."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomrelay.config.models import LogConfig
from zoomrelay.telemetry import logs, redaction
from zoomrelay.telemetry.redaction import ROTATING_KEPT, Redactor


@contextmanager
def logging_to_a_string(**config: Any) -> Iterator[io.StringIO]:
    """The process's logging sent to a string, and given back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("zoomrelay")
    before = (root.handlers[:], root.level, ours.level)
    hooks = (sys.excepthook, sys.unraisablehook, threading.excepthook)
    stream = io.StringIO()
    logs.configure_logging(LogConfig.model_validate(config), stream=stream)
    try:
        yield stream
    finally:
        logging.captureWarnings(False)
        root.handlers[:], level, our_level = before
        root.setLevel(level)
        ours.setLevel(our_level)
        sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
        structlog.reset_defaults()


@pytest.fixture
def redactor(monkeypatch: pytest.MonkeyPatch) -> Redactor:
    """A fresh one in place of the process's own."""
    fresh = Redactor()
    monkeypatch.setattr(logs, "redact", fresh.redact)
    return fresh


@contextmanager
def a_fresh_redactor() -> Iterator[Redactor]:
    """For hypothesis, which does not like fixtures that are made once per test."""
    fresh = Redactor()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "redact", fresh.redact)
        yield fresh


def logged(write: Callable[[Any], None], **config: Any) -> str:
    with logging_to_a_string(**config) as stream:
        write(structlog.get_logger("zoomrelay.test"))
        return stream.getvalue()


# --- shape ------------------------------------------------------------------------------------------


def test_json_has_one_flat_line_per_happening() -> None:
    text = logged(lambda log: log.info("session.accepted", source="main", attempt=2), format="json")
    (line,) = text.splitlines()
    document = json.loads(line)
    assert document.pop("timestamp").endswith("Z")
    assert document == {
        "event": "session.accepted",
        "source": "main",
        "attempt": 2,
        "level": "info",
        "logger": "zoomrelay.test",
    }


def test_auto_means_json_where_there_is_no_terminal() -> None:
    assert json.loads(logged(lambda log: log.info("x"), format="auto"))


def test_a_console_shows_control_characters_escaped() -> None:
    text = logged(lambda log: log.info("sink.rejected", reason="a\n\x1b[2Jb"), format="console")
    assert len(text.splitlines()) == 1 and "\x1b" not in text and r"a\n\x1b[2Jb" in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "colours"), [("", True), ("1", False)])
def test_auto_means_console_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, no_color: str, colours: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    with logging_to_a_string():
        terminal = Terminal()
        logs.configure_logging(LogConfig(format="auto"), stream=terminal)
        structlog.get_logger("zoomrelay.test").info("session.accepted")
    assert "session.accepted" in terminal.getvalue() and not terminal.getvalue().startswith("{")
    assert ("\x1b[" in terminal.getvalue()) == colours


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_library_speaks_through_the_same_formatter(format: str) -> None:
    def write(_: Any) -> None:
        logging.getLogger("websockets.client").warning("odd frame %d", 7)

    text = logged(write, format=format)
    assert "odd frame 7" in text and "websockets.client" in text and "warning" in text


def test_libraries_are_quiet_below_warning_until_debug() -> None:
    with logging_to_a_string(level="info") as stream:
        library = logging.getLogger("httpx")
        library.info("HTTP Request")
        assert stream.getvalue() == ""
        logs.set_level("debug")
        library.debug("HTTP Request")
        assert "HTTP Request" in stream.getvalue()


def test_the_level_changes_while_running() -> None:
    with logging_to_a_string(level="warning") as stream:
        log = structlog.get_logger("zoomrelay.test")
        log.info("first")
        logs.set_level("info")
        log.info("second")
        assert "first" not in stream.getvalue() and "second" in stream.getvalue()


def test_configuring_again_replaces_the_stream() -> None:
    with logging_to_a_string() as first:
        log = structlog.get_logger("zoomrelay.test")
        log.info("one")
        second = io.StringIO()
        logs.configure_logging(LogConfig(), stream=second)
        log.info("two")
        assert "one" in first.getvalue() and "two" not in first.getvalue()
        assert "two" in second.getvalue()


# --- redaction --------------------------------------------------------------------------------------


def test_short_texts_are_not_protected() -> None:
    redactor = Redactor()
    redactor.protect("", "abc", "abcde")
    assert redactor.redact("abcde abc") == "abcde abc"


def test_basic_credentials_are_protected_in_their_encoded_form() -> None:
    redactor = Redactor()
    redactor.protect_pair("client", "s3cret-value")
    encoded = base64.b64encode(b"client:s3cret-value").decode()
    assert redactor.redact(f"<{encoded}> <s3cret-value> <client>") == "<***> <***> <client>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "wss://h/ws?subscriptionId=a&access_token=eyJ.x-y_z",
            "wss://h/ws?subscriptionId=a&access_token=***",
        ),
        ("GET /ws?access_token=abc HTTP/1.1", "GET /ws?access_token=*** HTTP/1.1"),
        ("url%3Faccess_token%3Dabc", "url%3Faccess_token%3D***"),
        ('{"access_token":"abc","scope":"x"}', '{"access_token":"***","scope":"x"}'),
        (r'"{\"access_token\": \"abc\"}"', r'"{\"access_token\": \"***\"}"'),
        ("{'refresh_token': 'abc'}", "{'refresh_token': '***'}"),
        ("Authorization: Bearer eyJhbGciOi.J9_-", "Authorization: Bearer ***"),
        ("(b'Authorization', b'Basic YWJjOmRlZg==')", "(b'Authorization', b'Basic ***')"),
        ("via http://user:pass@proxy:3128/x", "via http://***@proxy:3128/x"),
        ("https://host/a@b", "https://host/a@b"),
        ("client_secret: is missing", "client_secret: is missing"),
        ("token expires in 3600", "token expires in 3600"),
    ],
)
def test_what_looks_like_a_token_is_masked_unseen(text: str, expected: str) -> None:
    assert Redactor().redact(text) == expected


def test_only_the_last_rotating_secrets_are_remembered() -> None:
    redactor = Redactor()
    redactor.protect("fixed-secret")
    for number in range(ROTATING_KEPT + 1):
        redactor.protect_rotating(f"token-{number:04d}")
    assert redactor.redact("token-0000") == "token-0000"
    assert redactor.redact("token-0001 token-0064 fixed-secret") == "*** *** ***"
    assert len(redactor._forms) == ROTATING_KEPT + 1


def test_the_same_rotating_secret_counts_once() -> None:
    redactor = Redactor()
    redactor.protect_rotating("token-first")
    for _ in range(ROTATING_KEPT):
        redactor.protect_rotating("token-second")
    assert redactor.redact("token-first") == "***"


def test_a_secret_inside_a_longer_one_leaves_no_rest() -> None:
    redactor = Redactor()
    redactor.protect("secret", "secret-and-more")
    assert redactor.redact("secret-and-more") == "***"


def test_each_line_of_a_secret_is_protected() -> None:
    redactor = Redactor()
    redactor.protect("first line\nsecond line")
    assert redactor.redact("  | first line\n  | second line") == "  | ***\n  | ***"


def test_the_configuration_s_secrets_are_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoomrelay.config import load

    fresh = Redactor()
    for name in ("protect", "protect_pair"):
        monkeypatch.setattr(logs, name, getattr(fresh, name))
    environ = {
        "ZOOM_ACCOUNT_ID": "account-12345",
        "ZOOM_CLIENT_ID": "client-12345",
        "ZOOM_CLIENT_SECRET": "secret-12345",
        "ZOOM_SUBSCRIPTION_ID": "subscription-12345",
        "ZOOMRELAY_SOURCES__ZOOM__SECRET_TOKEN": "verify-12345",
    }
    logs.protect_config(load(environ=environ, search=()).config)
    pair = base64.b64encode(b"client-12345:secret-12345").decode()
    assert fresh.redact(f"account-12345 secret-12345 verify-12345 {pair}") == "*** *** *** ***"
    assert fresh.redact("client-12345 subscription-12345") == "client-12345 subscription-12345"


def test_the_secrets_of_http_sinks_are_protected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from zoomrelay.config import load

    fresh = Redactor()
    monkeypatch.setattr(logs, "protect", fresh.protect)
    monkeypatch.setattr(logs, "protect_pair", fresh.protect_pair)
    file = tmp_path / "zoomrelay.toml"
    file.write_text(
        '[sources.main]\nclient_id = "c"\nclient_secret = "s"\n'
        '[sinks.a]\ntype = "http"\nurl = "http://x/"\nusername = "me"\npassword = "password-1"\n'
        'format = "standard-webhooks"\nsecret_token = "whsec_b25lb25l whsec_dHdvdHdv"\n'
        '[sinks.b]\ntype = "http"\nurl = "http://x/"\nbearer_token = "bearer-12"\n'
        'headers = { x-team = "production", x-key = "a-long-api-key" }\n'
        '[admin]\nbearer_token = "an-admin-token-01"\n'
        'ping_url = "https://alive.monitoring.example/ping/0123456789abcdef-01?key=planted"\n'
    )
    logs.protect_config(load(file, environ={}).config)
    pair = base64.b64encode(b"me:password-1").decode()
    for secret in (
        "password-1",
        pair,
        "whsec_b25lb25l",
        "whsec_dHdvdHdv",
        "bearer-12",
        "a-long-api-key",
        "an-admin-token-01",
    ):
        assert fresh.redact(f"say {secret} twice") == "say *** twice"
    assert fresh.redact("in production") == "in production"
    for shown in (
        "https://alive.monitoring.example/ping/0123456789abcdef-01?key=planted",
        "/ping/0123456789abcdef-01?key=",
    ):
        assert "0123456789abcdef-01" not in fresh.redact(shown)
    assert (
        fresh.redact("no answer from alive.monitoring.example") == "no answer from alive.monitoring.example"
    )


# --- the property -----------------------------------------------------------------------------------

SECRETS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{6,40}", fullmatch=True),
    st.text(
        st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc"]),
        min_size=6,
        max_size=20,
    ),
    st.lists(st.sampled_from("\"'\\/ +&%{}é\t日=x"), min_size=6, max_size=12).map("".join),
)


class Opaque:
    """An object of somebody else's, whose repr tells too much."""

    def __init__(self, inside: object) -> None:
        self.inside = inside

    def __repr__(self) -> str:
        return f"<Opaque {self.inside!r}>"


def as_field(log: Any, secret: str) -> None:
    log.debug("event", value=secret)


def as_message(log: Any, secret: str) -> None:
    log.warning(f"it was {secret} that failed")


def as_nested(log: Any, secret: str) -> None:
    log.info("event", value={"a": [{"b": secret}, (secret,)], secret: 1})


def as_object(log: Any, secret: str) -> None:
    log.info("event", value=Opaque(secret), many=[Opaque({"x": secret})])


def as_bytes(log: Any, secret: str) -> None:
    log.info("event", value=secret.encode())


def as_url(log: Any, secret: str) -> None:
    log.info("event", url=f"wss://host/ws?x={quote_plus(secret)}")


def as_json_in_json(log: Any, secret: str) -> None:
    log.info("event", body=json.dumps({"x": secret}))


def as_chained_exception(log: Any, secret: str) -> None:
    try:
        try:
            raise KeyError(secret)
        except KeyError as error:
            raise ValueError(f"bad {secret}") from error
    except ValueError:
        log.exception("event")


def as_exception_group(log: Any, secret: str) -> None:
    log.error("event", exc_info=ExceptionGroup("several", [ValueError(secret), OSError(5, secret)]))


def as_library_record(log: Any, secret: str) -> None:
    logging.getLogger("websockets.client").debug("> GET /ws?k=%s %r", secret, {"h": secret})


def as_library_exception(log: Any, secret: str) -> None:
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        logging.getLogger("httpcore").debug("failed", exc_info=True)


def as_broken_record(log: Any, secret: str) -> None:
    logging.getLogger("aiohttp").error("%d frames", secret)


def as_uncaught(log: Any, secret: str) -> None:
    try:
        raise RuntimeError(secret)
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)


def as_bound(log: Any, secret: str) -> None:
    log.bind(token=secret).info("event")


WAYS = [
    as_field,
    as_message,
    as_nested,
    as_object,
    as_bytes,
    as_url,
    as_json_in_json,
    as_chained_exception,
    as_exception_group,
    as_library_record,
    as_library_exception,
    as_broken_record,
    as_uncaught,
    as_bound,
]


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(secret=SECRETS)
def test_no_planted_secret_comes_out(format: str, way: Callable[[Any, str], None], secret: str) -> None:
    with a_fresh_redactor() as redactor:
        redactor.protect(secret)
        text = logged(lambda log: way(log, f"<<{secret}>>"), format=format, level="debug")
    assert text, "nothing was logged, so nothing was shown"
    if way is not as_broken_record:
        assert "***" in text
    for form in redaction._forms(secret):
        assert form not in text


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_ways_do_show_what_is_not_protected(
    format: str, way: Callable[[Any, str], None], redactor: Redactor
) -> None:
    """So that the property above cannot pass by logging nothing of the secret at all."""
    text = logged(lambda log: way(log, "plain-value-1"), format=format, level="debug")
    assert ("plain-value-1" in text) == (way is not as_broken_record)


# --- other ways out of a process ----------------------------------------------------------------------


def test_a_broken_record_is_told_without_its_arguments(
    redactor: Redactor, capsys: pytest.CaptureFixture[str]
) -> None:
    text = logged(lambda log: as_broken_record(log, "never-protected"))
    assert "log line lost: aiohttp" in text
    assert "never-protected" not in text + capsys.readouterr().err


async def test_an_exception_nobody_retrieved_is_redacted(redactor: Redactor) -> None:
    redactor.protect("planted-secret")

    async def fail() -> None:
        raise RuntimeError("it is planted-secret")

    with logging_to_a_string(format="json") as stream:
        task = asyncio.create_task(fail())
        with suppress(RuntimeError):
            await asyncio.wait([task])
        del task
        gc.collect()
        text = stream.getvalue()
    assert "never retrieved" in text and "it is ***" in text and "planted-secret" not in text


def test_warnings_are_redacted(redactor: Redactor) -> None:
    redactor.protect("planted-secret")
    with logging_to_a_string(format="json") as stream, warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("about planted-secret", stacklevel=1)
        text = stream.getvalue()
    assert "about ***" in text and "planted-secret" not in text


def test_what_a_thread_raises_is_redacted(redactor: Redactor) -> None:
    redactor.protect("planted-secret")

    def fail() -> None:
        raise RuntimeError("it is planted-secret")

    with logging_to_a_string(format="console") as stream:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        text = stream.getvalue()
    assert "thread.died" in text and "it is ***" in text and "planted-secret" not in text


def test_what_a_finaliser_raises_is_redacted(redactor: Redactor) -> None:
    redactor.protect("planted-secret")

    class Failing:
        def __del__(self) -> None:
            raise RuntimeError("it is planted-secret")

    with logging_to_a_string(format="json") as stream:
        Failing()
        gc.collect()
        text = stream.getvalue()
    assert "exception.ignored" in text and "it is ***" in text and "planted-secret" not in text


def test_tracebacks_show_no_local_variables(redactor: Redactor) -> None:
    def write(log: Any) -> None:
        local_variable = "known to nobody"
        try:
            raise RuntimeError("failed")
        except RuntimeError:
            log.exception("event", length=len(local_variable))

    for format in ("json", "console"):
        text = logged(write, format=format)
        assert "RuntimeError: failed" in text
        assert "known to nobody" not in text


def test_an_interrupt_is_no_crash() -> None:
    with logging_to_a_string() as stream:
        sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert stream.getvalue() == ""


def test_a_lost_standard_error_does_not_raise() -> None:
    with logging_to_a_string() as stream:
        stream.close()
        structlog.get_logger("zoomrelay.test").info("event")


def test_redact_is_for_other_rooms_too() -> None:
    trouble = traceback.format_exception_only(ValueError("Bearer abcdefghij"))
    assert logs.redact(trouble[0]) == "ValueError: Bearer ***\n"


@pytest.mark.parametrize("format_", ["json", "console"])
def test_fields_that_say_nothing_are_left_out(format_: str) -> None:
    with logging_to_a_string(format=format_) as stream:
        log = structlog.get_logger("zoomrelay.test")
        log.info("happened", cure=None, detail="", zero=0, no=False, empty=[])
    line = stream.getvalue()
    assert "cure" not in line and "detail" not in line
    assert all(word in line for word in ("happened", "zero", "no", "empty"))
