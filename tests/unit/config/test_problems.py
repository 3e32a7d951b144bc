"""What is refused, in which words; and that the words hold no secret."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.unprivileged import reachable_directory, unprivileged
from zoomrelay.config import load
from zoomrelay.config.models import FileSinkConfig, General, HttpSinkConfig, SourceConfig, StdoutSinkConfig
from zoomrelay.config.schema import GROUPS, fields, is_secret
from zoomrelay.errors import ConfigError

SOURCE = """
[sources.main]
account_id = "account-1"
client_id = "client-1"
client_secret = "the-secret"
subscriptions = ["ZhPGtK84QbapRWXzEBW7MA"]
"""
HTTP = '[sinks.crm]\ntype = "http"\nurl = "https://crm.example/"\n'
FILE = '[sinks.archive]\ntype = "file"\npath = "events.ndjson"\n'
STDOUT = '[sinks.out]\ntype = "stdout"\n'


# --- one thing wrong at a time ------------------------------------------------------------------------

SOURCE_PROBLEMS = [
    ("heartbeat_seconds = 4", "heartbeat_seconds: must be at least 5"),
    ("heartbeat_seconds = 56", "heartbeat_seconds: must be at most 55"),
    ('heartbeat_seconds = "often"', "heartbeat_seconds: must be a number of seconds"),
    ("heartbeat_seconds = true", "heartbeat_seconds: must be a number"),
    ("heartbeat_seconds = nan", "heartbeat_seconds: must be a number that has an end"),
    ("dead_after_seconds = inf", "dead_after_seconds: must be a number that has an end"),
    ("dead_after_seconds = 25", "dead_after_seconds: must be larger than heartbeat_seconds"),
    ('max_message_bytes = "64 Mbit"', 'max_message_bytes: must be a size like "64MiB", or a number of bytes'),
    ("max_message_bytes = 0", "max_message_bytes: must be larger than 0"),
    ("max_message_bytes = 1.5", 'max_message_bytes: must be a size like "64MiB", or a number of bytes'),
    ('max_message_bytes = "2GiB"', "max_message_bytes: must not be larger than spool.max_bytes"),
    (
        'grant = "code"',
        "grant: must be 'auto', 'account_credentials', 'client_credentials' or 'authorization_code'",
    ),
    ('verify_signature = "enforce"', "verify_signature: enforce needs secret_token"),
    ('token_url = "zoom.us/oauth/token"', "token_url: must be a URL that begins with https:// or http://"),
    ('token_url = "https://"', "token_url: must be a URL that begins with https:// or http://"),
    ('token_url = "https://u:p@zoom.us/"', "token_url: must not hold a user name or password"),
    ('token_url = "https://zoom.us:99999/"', "token_url: is not a URL that can be read"),
    ('ws_url = "https://ws.zoom.us/ws"', "ws_url: must be a URL that begins with wss:// or ws://"),
    ('proxy = "socks5://proxy:1080"', "proxy: must be a URL that begins with https:// or http://"),
    (
        'proxy = "http://u:p@proxy:3128"',
        "proxy: must not hold a user name or password; a proxy that asks for one belongs in HTTPS_PROXY",
    ),
    ('ca_file = "/not/there.pem"', "ca_file: /not/there.pem is not a file that can be read"),
    ("heartbeat_second = 25", "heartbeat_second: is not a setting (did you mean heartbeat_seconds?)"),
    ('name = "other"', "name: is not a setting (the name is in the table's header)"),
    ("secret_token = 17", "secret_token: must be text in quotes"),
]


@pytest.mark.parametrize(("line", "expected"), SOURCE_PROBLEMS)
def test_a_source_s_setting_is_refused(problems, line: str, expected: str) -> None:
    assert problems(SOURCE + line) == [f"sources.main.{expected}"]


REPLACED = [
    ('account_id = "account-1"', "account_id = 17", "account_id: must be text in quotes"),
    (
        'account_id = "account-1"',
        'account_id = "…"',
        "account_id: must be one word of plain characters, without spaces",
    ),
    ('client_id = "client-1"', 'client_id = ""', "client_id: is empty"),
    ('client_id = "client-1"', "", "client_id: is missing (set it, or ZOOMRELAY_SOURCES__MAIN__CLIENT_ID)"),
    ('client_secret = "the-secret"', 'client_secret = ""', "client_secret: is empty"),
    (
        'client_secret = "the-secret"',
        "",
        "client_secret: is missing (set it, client_secret_file, ZOOMRELAY_SOURCES__MAIN__CLIENT_SECRET, "
        "or give a credential file named sources.main.client_secret)",
    ),
    (
        'client_secret = "the-secret"',
        'client_secrte = "the-secret"',
        "client_secrte: is not a setting (did you mean client_secret?)",
    ),
    (
        'client_secret = "the-secret"',
        "client_secret_file = 1",
        "client_secret_file: must be a path in quotes",
    ),
    (
        'client_secret = "the-secret"',
        'client_secret_file = "/not/there"',
        "client_secret_file: the file /not/there cannot be read: No such file or directory",
    ),
    (
        'client_secret = "the-secret"',
        'client_secret_file = "aPastedSecret"',
        "client_secret_file: the file it names in the working directory cannot be read: "
        "No such file or directory",
    ),
    (
        'subscriptions = ["ZhPGtK84QbapRWXzEBW7MA"]',
        'subscriptions = "ZhPGtK84QbapRWXzEBW7MA"',
        'subscriptions: must be a list, like ["a", "b"]',
    ),
    (
        'subscriptions = ["ZhPGtK84QbapRWXzEBW7MA"]',
        'subscriptions = ["a", "wss://ws.zoom.us/ws"]',
        "subscriptions entry 2: there is no subscription id in it: copy the endpoint URL, or only its "
        "subscriptionId, from the app's event subscription page",
    ),
    (
        'subscriptions = ["ZhPGtK84QbapRWXzEBW7MA"]',
        'subscriptions = ["same", "wss://ws.zoom.us/ws?subscriptionId=same"]',
        "subscriptions entry 2: is the same subscription as sources.main.subscriptions entry 1 (Zoom serves"
        " one connection per subscription: remove one, or make another subscription)",
    ),
    (
        'account_id = "account-1"',
        'grant = "account_credentials"',
        "grant: account_credentials needs account_id",
    ),
]


@pytest.mark.parametrize(("given", "instead", "expected"), REPLACED)
def test_a_source_s_own_lines_are_refused(problems, given: str, instead: str, expected: str) -> None:
    assert given in SOURCE
    assert problems(SOURCE.replace(given, instead)) == [f"sources.main.{expected}"]


LISTEN = 'admin.listen: must be host:port, ":port" for every address, or "" to turn it off'
TOKEN = (
    "admin.bearer_token: must be at least 16 plain characters without spaces, for instance of"
    " `openssl rand -hex 32`"
)
SHAPE = "(names look like ZOOMRELAY_SOURCES__MAIN__CLIENT_ID)"
ELSEWHERE = [
    ('state_dir = ""\n' + SOURCE, "state_dir: is empty; it must be a path"),
    ("state_dir = 1\n" + SOURCE, "state_dir: must be a path in quotes"),
    ("drain_seconds = -1\n" + SOURCE, "drain_seconds: must be at least 0"),
    ("drain_second = 1\n" + SOURCE, "drain_second: is not a setting (did you mean drain_seconds?)"),
    (SOURCE + "[sink.a]\n", "sink: is not a setting (did you mean sinks?)"),
    ("spool = 1\n" + SOURCE, "spool: must be a table (write [spool] and its settings below it)"),
    ("sinks = []\n" + SOURCE, "sinks: must hold named tables (write [sinks.NAME], for instance)"),
    (SOURCE + '[sinks]\ntype = "stdout"\n', "sinks.type: must be a table (write [sinks.NAME] first)"),
    (
        SOURCE + '[spool]\ntype = "jetstream"\n',
        "spool.type: jetstream is not available in this version, which has 'sqlite', 'memory'",
    ),
    (SOURCE + '[spool]\nmax_bytes = "1KiB"\n', "spool.max_bytes: must be at least 1MiB"),
    (SOURCE + '[spool]\ntyp = "memory"\n', "spool.typ: is not a setting (did you mean type?)"),
    (
        SOURCE + "[spool]\nfrobnicate = 1\n",
        "spool.frobnicate: is not a setting (known here: type, max_bytes, retain_seconds)",
    ),
    (SOURCE + '[log]\nlevel = "INFO"\n', "log.level: must be 'debug', 'info', 'warning' or 'error'"),
    (SOURCE + '[admin]\nlisten = "9464"\n', LISTEN),
    (SOURCE + '[admin]\nlisten = "host:"\n', LISTEN),
    (SOURCE + '[admin]\nbearer_token = "tooshort"\n', TOKEN),
    (SOURCE + '[admin]\nbearer_token = "with spaces, and so long"\n', TOKEN),
    (
        SOURCE + '[admin]\nping_url = "alive.example/planted-secret"\n',
        "admin.ping_url: must be a URL that begins with https:// or http://",
    ),
    (
        SOURCE + '[admin]\nping_url = "https://u:planted@alive.example/"\n',
        "admin.ping_url: must not hold a user name or password",
    ),
    (
        SOURCE + '[admin]\nping_url_file = "/not/there"\n',
        "admin.ping_url_file: the file /not/there cannot be read: No such file or directory",
    ),
    (
        SOURCE + '[admin]\nbearer_token_file = "/not/there"\n',
        "admin.bearer_token_file: the file /not/there cannot be read: No such file or directory",
    ),
    (
        SOURCE + '[admin]\nlisten = "::1:9464"\n',
        "admin.listen: an IPv6 address needs brackets, like [::1]:9464",
    ),
    (SOURCE + "[sinks.out]\n", "sinks.out.type: is missing (there are stdout, file, http)"),
    (
        SOURCE + '[sinks.out]\ntype = "kafka"\n',
        "sinks.out.type: is not a type of sink in this version (there are stdout, file, http)",
    ),
    (
        SOURCE + STDOUT + 'format = "cloudevents"\n',
        "sinks.out.format: cloudevents is a format of http sinks; it must be 'raw' or 'envelope'",
    ),
    (SOURCE + STDOUT + 'format = "xml"\n', "sinks.out.format: must be 'raw' or 'envelope'"),
    (
        SOURCE + STDOUT + "fsync = true\n",
        "sinks.out.fsync: is a setting of file sinks (this one is another type)",
    ),
    (
        SOURCE + FILE + 'ordering = "none"\n',
        "sinks.archive.ordering: is a setting of http sinks (this one is another type)",
    ),
    (SOURCE + STDOUT + 'star = "now"\n', "sinks.out.star: is not a setting (did you mean start?)"),
    (SOURCE + STDOUT + 'start = "then"\n', "sinks.out.start: must be 'now' or 'oldest'"),
    (
        SOURCE + STDOUT + 'events = ["meeting started"]\n',
        'sinks.out.events entry 1: must be event names like "meeting.started", '
        '"meeting.*" or "!meeting.ended"',
    ),
    (
        SOURCE + STDOUT + 'sources = ["mian"]\n',
        "sinks.out.sources: there is no source mian (did you mean main?)",
    ),
    (
        SOURCE + STDOUT + STDOUT.replace("out]", "second]"),
        "sinks.second: writes to stdout, as sinks.out does (keep one)",
    ),
    (
        SOURCE + FILE.replace('path = "events.ndjson"', ""),
        "sinks.archive.path: is missing (set it, or ZOOMRELAY_SINKS__ARCHIVE__PATH)",
    ),
    (
        SOURCE + FILE.replace("events.n", "{hour}.n"),
        "sinks.archive.path: must have no placeholders but {date}, {event_family} and {source}",
    ),
    (
        SOURCE + FILE.replace("events.n", "{source}/../../x.n"),
        'sinks.archive.path: must not hold ".." beside placeholders',
    ),
    (
        SOURCE + FILE + 'compression = "gzip"\n',
        "sinks.archive.compression: gzip needs rotate_bytes or rotate_seconds: "
        "only what has ended is compressed",
    ),
    (SOURCE + FILE + "rotate_seconds = -1\n", "sinks.archive.rotate_seconds: must be at least 0"),
    (
        SOURCE + FILE + 'rotate_bytes = "some"\n',
        'sinks.archive.rotate_bytes: must be a size like "64MiB", or a number of bytes',
    ),
    (
        SOURCE + FILE + FILE.replace("archive", "second").replace("events.n", "{source}.n"),
        "sinks.second.path: may lead to the same file as sinks.archive.path (give it a directory of its own)",
    ),
    (SOURCE + FILE + 'fsync = "perhaps"\n', "sinks.archive.fsync: must be true or false"),
    (
        SOURCE + HTTP.replace("https:", "ftp:"),
        "sinks.crm.url: must be a URL that begins with https:// or http://",
    ),
    (SOURCE + HTTP + "concurrency = 0\n", "sinks.crm.concurrency: must be at least 1"),
    (SOURCE + HTTP + "concurrency = true\n", "sinks.crm.concurrency: must be a number"),
    (SOURCE + HTTP + "concurrency = 1.5\n", "sinks.crm.concurrency: must be a whole number"),
    (SOURCE + HTTP + "timeout_seconds = 0\n", "sinks.crm.timeout_seconds: must be larger than 0"),
    (SOURCE + HTTP + "dead_letter_on = [200]\n", "sinks.crm.dead_letter_on entry 1: must be at least 300"),
    (
        SOURCE + HTTP + 'ca_file = "/not/there"\n',
        "sinks.crm.ca_file: /not/there is not a file that can be read",
    ),
    (
        SOURCE.replace("main", "Main"),
        "sources.Main: is not a name (lower-case letters, digits and single underscores)",
    ),
    (
        SOURCE.replace("main", "a__b"),
        "sources.a__b: is not a name (lower-case letters, digits and single underscores)",
    ),
    (
        SOURCE.replace("main", "zoomrelay"),
        "sources.zoomrelay: is the source of the relay's own events (choose another name)",
    ),
]


@pytest.mark.parametrize(("text", "expected"), ELSEWHERE)
def test_a_setting_elsewhere_is_refused(problems, text: str, expected: str) -> None:
    assert problems(text) == [expected]


PSEUDONYMS = f'{HTTP}privacy = "pseudonym"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PSEUDONYMS, "privacy.key: is missing (sinks.crm.privacy needs it: set privacy.key_file"),
        (f'{PSEUDONYMS}[privacy]\nkey = "short"', "privacy.key: must have at least 16 characters"),
        (
            '[privacy]\nfields = ["topic"]',
            'must be like "badge_number=name" or "topic=keep"; kinds: name, ',
        ),
        ('[privacy]\nfields = ["topic=hidden"]', 'must be like "badge_number=name"'),
        (f'{HTTP}privacy = "on"', "sinks.crm.privacy: must be 'off', 'drop', 'mask' or 'pseudonym'"),
    ],
)
def test_privacy_is_refused(problems, text: str, expected: str) -> None:
    (problem,) = problems(SOURCE + text)
    assert expected in problem


def test_two_file_sinks_may_not_share_a_file(problems, tmp_path: Path) -> None:
    text = SOURCE + FILE + FILE.replace("archive", "second").replace("events", "./x/../events")
    (problem,) = problems(text)
    assert problem.startswith("sinks.second: writes to the file /") and "as sinks.archive does" in problem


@pytest.mark.parametrize(
    "text", ["ZhPGtK84QbapRWXzEBW7MA", "wss://h/ws?subscriptionId=ZhPGtK84QbapRWXzEBW7MA"]
)
def test_the_same_subscription_in_two_sources(problems, text: str) -> None:
    second = SOURCE.replace("main", "second").replace("ZhPGtK84QbapRWXzEBW7MA", text)
    assert problems(SOURCE + second) == [
        "sources.second.subscriptions entry 1: is the same subscription as"
        " sources.main.subscriptions entry 1"
        " (Zoom serves one connection per subscription: remove one, or make another subscription)"
    ]


ENVIRONMENT = [
    (
        {"ZOOMRELAY_DRAIN_SECOND": "1"},
        "environment ZOOMRELAY_DRAIN_SECOND: is not a setting (did you mean ZOOMRELAY_DRAIN_SECONDS?)",
    ),
    (
        {"ZOOMRELAY_SOURCES__MAIN__SUBSCRIPTION": "a"},
        "environment ZOOMRELAY_SOURCES__MAIN__SUBSCRIPTION: is not a setting "
        "(did you mean ZOOMRELAY_SOURCES__MAIN__SUBSCRIPTIONS?)",
    ),
    (
        {"ZOOMRELAY_SOURCE__MAIN__CLIENT_ID": "a"},
        "environment ZOOMRELAY_SOURCE__MAIN__CLIENT_ID: is not a setting "
        "(did you mean ZOOMRELAY_SOURCES__MAIN__CLIENT_ID?)",
    ),
    (
        {"ZOOMRELAY_SPOOL": "memory"},
        "environment ZOOMRELAY_SPOOL: is not a setting (did you mean ZOOMRELAY_SPOOL__TYPE?)",
    ),
    ({"ZOOMRELAY_PORT": "9464"}, "environment ZOOMRELAY_PORT: is not a setting " + SHAPE),
    (
        {"ZOOMRELAY_SOURCES__MAIN__NAME": "x"},
        "environment ZOOMRELAY_SOURCES__MAIN__NAME: is not a setting " + SHAPE,
    ),
    ({"ZOOMRELAY_DRAIN_SECONDS": "soon"}, "drain_seconds: must be a number of seconds"),
    (
        {"ZOOMRELAY_SINKS__CRM__URL": "https://x/"},
        "sinks.crm.type: is missing (there are stdout, file, http)",
    ),
]


@pytest.mark.parametrize(("environ", "expected"), ENVIRONMENT)
def test_the_environment_is_refused(problems, environ: dict[str, str], expected: str) -> None:
    assert problems(SOURCE, environ) == [expected]


# --- secrets in files ---------------------------------------------------------------------------------


def test_a_secret_and_its_file_at_once(problems, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("x")
    expected = "sources.main.client_secret: is given as well as sources.main.client_secret_file (keep one)"
    assert problems(SOURCE + f'client_secret_file = "{file}"\n') == [expected]
    variables = {
        "ZOOMRELAY_SOURCES__MAIN__CLIENT_SECRET": "x",
        "ZOOMRELAY_SOURCES__MAIN__CLIENT_SECRET_FILE": str(file),
    }
    assert problems(SOURCE, variables) == [expected]


@pytest.mark.parametrize("content", [b"", b"\n\r\n"])
def test_an_empty_secret_file(problems, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    text = SOURCE + f'secret_token_file = "{file}"\n'
    assert problems(text) == [f"sources.main.secret_token_file: the file {file} is empty"]


def test_a_secret_file_that_is_not_text(problems, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xff\xfe\x00")
    text = SOURCE + f'secret_token_file = "{file}"\n'
    assert problems(text) == [
        f"sources.main.secret_token_file: the file {file} cannot be read: it is not UTF-8 text"
    ]


def test_an_empty_credential_file(problems, secrets_directory: Path) -> None:
    file = secrets_directory / "sources.main.client_secret"
    file.write_text("\n")
    text = SOURCE.replace('client_secret = "the-secret"', "")
    assert problems(text) == [f"sources.main.client_secret: the file {file} is empty"]


# --- the file itself ----------------------------------------------------------------------------------


def test_a_file_that_is_not_toml_is_told_with_its_line(problems, tmp_path: Path) -> None:
    (problem,) = problems(SOURCE + 'client_secret = planted-secret"\n')
    assert problem.startswith(f"{tmp_path / 'zoomrelay.toml'}: is not valid TOML: ")
    assert "line 7" in problem and "planted" not in problem


def test_other_places_are_checked_beside_a_broken_file(problems) -> None:
    found = problems("[[[", {"ZOOMRELAY_LOG__LEVL": "info"})
    assert len(found) == 2 and "ZOOMRELAY_LOG__LEVEL" in found[1]


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "zoomrelay.toml"
    file.write_bytes(b"\xff\xff")
    with pytest.raises(ConfigError, match="cannot be read: it is not UTF-8 text"):
        load(file, environ={})


def test_a_file_that_may_not_be_read() -> None:
    with reachable_directory() as directory:
        file = directory / "zoomrelay.toml"
        file.write_text(SOURCE)
        file.chmod(0)
        with unprivileged(), pytest.raises(ConfigError, match="cannot be read: Permission denied"):
            load(file, environ={})


# --- getting going ------------------------------------------------------------------------------------


def test_nothing_at_all_says_how_to_get_going(problems, tmp_path: Path) -> None:
    (problem,) = problems(None)
    assert problem.startswith("sources: no Zoom app is configured (set ZOOM_ACCOUNT_ID, ZOOM_CLIENT_ID,")
    assert str(tmp_path / "zoomrelay.toml") in problem and "zoomrelay demo" in problem


def test_a_file_without_sources(problems) -> None:
    (problem,) = problems("drain_seconds = 1\n", {"ZOOM_CLIENT_ID": "x"})
    assert "the ZOOM_… variables count only where there is no file" in problem
    (problem,) = problems("drain_seconds = 1\n")
    assert "write [sources.main] into" in problem and "ZOOM_" not in problem


def test_some_of_the_usual_variables(problems) -> None:
    found = problems(None, {"ZOOM_CLIENT_ID": "x"})
    assert found == [
        "sources.zoom.client_secret: is missing (set ZOOM_CLIENT_SECRET)",
        "sources.zoom.subscriptions: is missing (set ZOOM_SUBSCRIPTION_ID)",
    ]


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"log\.levl: is not a setting"):
        load(environ={}, flags={"log.levl": "debug"}, search=())


# --- all at once, and nothing secret ------------------------------------------------------------------


def test_all_problems_are_told_at_once(problems) -> None:
    text = (
        "drain_seconds = -1\n"
        + SOURCE.replace('client_id = "client-1"', "")
        + 'proxy = "x"\n'
        + FILE
        + 'path_ = "x"\n'
        + '[spool]\ntype = "x"\n'
        + '[sinks.a]\ntype = "stdout"\nsources = ["nobody"]\n'
    )
    found = problems(text, {"ZOOMRELAY_NONSENSE": "x"})
    assert [line.split(":")[0] for line in found] == [
        "environment ZOOMRELAY_NONSENSE",
        "drain_seconds",
        "spool.type",
        "sources.main.client_id",
        "sources.main.proxy",
        "sinks.archive.path_",
        "sinks.a.sources",
    ]


PLANTED = "pl4nted-s3cret"
MISPLACED = [
    f'client_secrte = "{PLANTED}"',
    f'client_secret_ = ["{PLANTED}"]',
    f'client_secret = ["{PLANTED}"]',
    f'client_secret = {{ value = "{PLANTED}" }}',
    f'secret_token = {{ "{PLANTED}" = 1 }}',
    f'grant = "{PLANTED}"',
    f'verify_signature = "{PLANTED}"',
    f'heartbeat_seconds = "{PLANTED}"',
    f'max_message_bytes = "{PLANTED}"',
    f'proxy = "http://user:{PLANTED}@proxy:1/"',
    f'token_url = "https://user:{PLANTED}@zoom.us/"',
    f'ws_url = "https://ws.zoom.us/ws?access_token={PLANTED}"',
    f'subscriptions = ["https://ws.zoom.us/ws?access_token={PLANTED}"]',
    f'subscriptions = "{PLANTED}"',
    f'account_id = "{PLANTED} x"',
    f'client_secret_file = "{PLANTED}"',
]


@pytest.mark.parametrize("line", MISPLACED)
def test_no_message_holds_what_was_given(load_text, line: str) -> None:
    text = '[sources.main]\nclient_id = ""\n' + line + "\n"
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    assert PLANTED not in "".join(traceback.format_exception(caught.value))


SETTINGS = (
    [("sources", SourceConfig, key) for key in fields(SourceConfig)]
    + [(group, model, key) for group, model in {"": General, **GROUPS}.items() for key in fields(model)]
    + [
        ("sinks", model, key)
        for model in (StdoutSinkConfig, FileSinkConfig, HttpSinkConfig)
        for key in fields(model)
        if key != "type"
    ]
)
ODD = st.sampled_from(
    [
        "planted-secret-1",
        "",
        7,
        -7,
        1.5,
        float("nan"),
        True,
        ["planted-secret-1"],
        [[]],
        [3],
        {"planted-secret-1": "planted-secret-1"},
        "wss://planted-secret-1@host",
        10**30,
    ]
)


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(SETTINGS), value=ODD)
def test_every_setting_has_words_for_every_odd_value(place: tuple[str, type, str], value: object) -> None:
    """Nothing but ConfigError, no fallback wording, no value of a secret."""
    from pydantic import ValidationError

    from zoomrelay.config.explain import explain

    group, model, key = place
    sound = {
        "name": "x",
        "client_id": "c",
        "client_secret": "s",
        "path": "p",
        "url": "http://x",
        "state_dir": "s",
    }
    given = {name: sound[name] for name in model.model_fields if name in sound} | {key: value}
    try:
        model.model_validate(given)
    except ValidationError as error:
        found = explain(error, model, (group, "x"))
        assert found
        for problem in found:
            assert problem.what != "is not usable", error.errors()
            assert "planted-secret-1" not in str(problem)


def test_secrets_are_found_by_their_type() -> None:
    assert [key for key, field in fields(SourceConfig).items() if is_secret(field)] == [
        "client_secret",
        "client_secret_next",
        "secret_token",
    ]
