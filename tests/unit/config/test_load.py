"""Where settings come from, which of them holds, and what stands in where nothing was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoomrelay.config import load
from zoomrelay.config.models import FileSinkConfig, HttpSinkConfig, StdoutSinkConfig
from zoomrelay.errors import ConfigError

SOURCE = """
[sources.main]
account_id = "account-1"
client_id = "client-1"
client_secret = "the-secret"
subscriptions = ["ZhPGtK84QbapRWXzEBW7MA"]
"""
USUAL = {
    "ZOOM_ACCOUNT_ID": "account-2",
    "ZOOM_CLIENT_ID": "client-2",
    "ZOOM_CLIENT_SECRET": "secret-2",
    "ZOOM_SUBSCRIPTION_ID": "ZhPGtK84QbapRWXzEBW7MA",
}
SECRET_VARIABLE = "ZOOMRELAY_SOURCES__MAIN__CLIENT_SECRET"
SECRET = "sources.main.client_secret"


# --- the file -----------------------------------------------------------------------------------------


def test_the_order_in_which_a_file_is_searched(tmp_path: Path) -> None:
    first, second, third, fourth = (tmp_path / name for name in ("a.toml", "b.toml", "c.toml", "d.toml"))
    for file in (first, second, third, fourth):
        file.write_text(SOURCE)
    named = {"ZOOMRELAY_CONFIG": str(second)}
    assert load(first, environ=named, search=(third, fourth)).file == first
    assert load(environ=named, search=(third, fourth)).file == second
    assert load(environ={"ZOOMRELAY_CONFIG": ""}, search=(third, fourth)).file == third
    third.unlink()
    assert load(environ={}, search=(third, fourth)).file == fourth


@pytest.mark.parametrize("by", ["--config", "ZOOMRELAY_CONFIG"])
def test_a_named_file_must_be_there(tmp_path: Path, by: str) -> None:
    missing, present = tmp_path / "missing.toml", tmp_path / "present.toml"
    present.write_text(SOURCE)
    with pytest.raises(ConfigError, match=f"missing.toml: there is no such file \\(named by {by}\\)"):
        if by == "--config":
            load(missing, environ={}, search=(present,))
        else:
            load(environ={by: str(missing)}, search=(present,))


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path, environ={}, search=())


def test_the_default_places() -> None:
    from zoomrelay.config.files import RUN_SECRETS, SEARCH

    assert (Path("zoomrelay.toml"), Path("/etc/zoomrelay/zoomrelay.toml")) == SEARCH
    assert Path("/run/secrets") == RUN_SECRETS


def test_a_byte_order_mark_is_nothing_to_complain_of(load_text) -> None:
    assert load_text("\ufeff" + SOURCE).config.sources["main"].client_id == "client-1"


def test_the_files_that_were_read(load_text, tmp_path: Path, secrets_directory: Path) -> None:
    token = secrets_directory / "sources.main.secret_token"
    token.write_text("token-1")
    secret = tmp_path / "secret"
    secret.write_text("from-a-file\n")
    text = SOURCE.replace('client_secret = "the-secret"', f'client_secret_file = "{secret}"')
    assert set(load_text(text).files_read) == {tmp_path / "zoomrelay.toml", token, secret}


# --- which one holds ----------------------------------------------------------------------------------


def test_flag_over_environment_over_credential_file_over_toml(load_text, secrets_directory: Path) -> None:
    def holds(environ: dict[str, str], flags: dict[str, object]) -> tuple[str, str]:
        loaded = load_text(SOURCE, environ, flags)
        return (
            loaded.config.sources["main"].client_secret.get_secret_value(),
            loaded.origins[SECRET].split()[0],
        )

    environ, flags = {SECRET_VARIABLE: "from-environment"}, {SECRET: "from-flag"}
    assert holds({}, {})[0] == "the-secret"
    (secrets_directory / SECRET).write_text("from-credential\n")
    assert holds({}, {}) == ("from-credential", "credential")
    assert holds(environ, {}) == ("from-environment", "environment")
    assert holds(environ, flags) == ("from-flag", "flag")
    assert holds(environ, {SECRET: None}) == ("from-environment", "environment")


def test_origins_name_every_setting(load_text, tmp_path: Path) -> None:
    loaded = load_text(SOURCE, {"ZOOMRELAY_DRAIN_SECONDS": "9"}, {"log.level": "debug"})
    file = str(tmp_path / "zoomrelay.toml")
    assert loaded.origins["drain_seconds"] == "environment ZOOMRELAY_DRAIN_SECONDS"
    assert loaded.origins["log.level"] == "flag"
    assert loaded.origins["sources.main.client_secret"] == file
    assert loaded.origins["sources.main.heartbeat_seconds"] == "default"
    assert loaded.origins["state_dir"] == "default"
    assert loaded.origins["sinks.stdout.type"] == "default"
    assert not any(name.endswith(".name") for name in loaded.origins)


def test_an_environment_alone_makes_a_source(load_text) -> None:
    environ = {
        "ZOOMRELAY_SOURCES__MAIN_TWO__CLIENT_ID": "client-1",
        "ZOOMRELAY_SOURCES__MAIN_TWO__CLIENT_SECRET": "the-secret",
        "ZOOMRELAY_SOURCES__MAIN_TWO__SUBSCRIPTIONS": "abc , def,",
        "ZOOMRELAY_SINKS__OUT_PUT__TYPE": "http",
        "ZOOMRELAY_SINKS__OUT_PUT__URL": "http://127.0.0.1/x",
        "ZOOMRELAY_SINKS__OUT_PUT__DEAD_LETTER_ON": "410,422",
        "ZOOMRELAY_SPOOL__TYPE": "memory",
        "ZOOMRELAY_ADMIN__LISTEN": "",
        "PATH": "/bin",
    }
    config = load_text(None, environ).config
    assert config.sources["main_two"].subscriptions == ("abc", "def")
    sink = config.sinks["out_put"]
    assert isinstance(sink, HttpSinkConfig) and sink.dead_letter_on == (410, 422)
    assert config.spool.type == "memory" and config.admin.listen == ""


def test_a_name_may_end_in_an_underscore(load_text) -> None:
    environ = {"ZOOMRELAY_SOURCES__MAIN___HEARTBEAT_SECONDS": "30"}
    config = load_text(SOURCE.replace("sources.main", "sources.main_"), environ).config
    assert config.sources["main_"].heartbeat_seconds == 30


def test_an_empty_list_in_the_environment(load_text) -> None:
    environ = {"ZOOMRELAY_SOURCES__MAIN__SUBSCRIPTIONS": ""}
    assert load_text(SOURCE, environ).config.sources["main"].subscriptions == ()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ZOOMRELAY_TEST_CRASH_POINT", "commit"),
        ("ZOOMRELAY_SERVICE_HOST", "10.0.0.1"),
        ("ZOOMRELAY_SERVICE_PORT_METRICS", "9464"),
        ("ZOOMRELAY_PORT", "tcp://10.0.0.1:9464"),
        ("ZOOMRELAY_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("ZOOMRELAY_METRICS_PORT", "tcp://10.0.0.1:9464"),
    ],
)
def test_variables_that_are_not_meant_for_us(load_text, variable: str, value: str) -> None:
    assert load_text(SOURCE, {variable: value})


# --- secrets ------------------------------------------------------------------------------------------


def test_a_secret_out_of_its_file(load_text, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" a secret \r\n\n")
    loaded = load_text(SOURCE.replace('client_secret = "the-secret"', f'client_secret_file = "{file}"'))
    assert loaded.config.sources["main"].client_secret.get_secret_value() == " a secret "
    assert loaded.origins[SECRET] == f"file {file}, named by {tmp_path / 'zoomrelay.toml'}"


def test_a_higher_place_replaces_the_twin_of_a_lower_one(load_text, tmp_path: Path) -> None:
    text = SOURCE.replace('client_secret = "the-secret"', 'client_secret_file = "/not/there"')
    config = load_text(text, {SECRET_VARIABLE: "from-environment"}).config
    assert config.sources["main"].client_secret.get_secret_value() == "from-environment"

    file = tmp_path / "secret"
    file.write_text("from-file")
    config = load_text(SOURCE, {SECRET_VARIABLE + "_FILE": str(file)}).config
    assert config.sources["main"].client_secret.get_secret_value() == "from-file"


def test_systemd_credentials_come_before_container_secrets(
    load_text, tmp_path: Path, secrets_directory: Path
) -> None:
    systemd = tmp_path / "credentials"
    systemd.mkdir()
    (secrets_directory / SECRET).write_text("container")
    environ = {"CREDENTIALS_DIRECTORY": str(systemd)}
    assert load_text(SOURCE, environ).config.sources["main"].client_secret.get_secret_value() == "container"
    (systemd / SECRET).write_text("systemd")
    loaded = load_text(SOURCE, environ)
    assert loaded.config.sources["main"].client_secret.get_secret_value() == "systemd"
    assert loaded.origins[SECRET] == f"credential file {systemd / SECRET}"


def test_credentials_of_sources_that_do_not_exist_are_left_alone(load_text, secrets_directory: Path) -> None:
    (secrets_directory / "sources.other.client_secret").write_text("x")
    (secrets_directory / "database_password").write_text("y")
    assert set(load_text(SOURCE).config.sources) == {"main"}


def test_an_optional_secret_may_be_empty(load_text) -> None:
    environ = {"ZOOMRELAY_SOURCES__MAIN__SECRET_TOKEN": ""}
    assert load_text(SOURCE, environ).config.sources["main"].secret_token is None


# --- what stands in -----------------------------------------------------------------------------------


def test_the_usual_variables_make_one_source(load_text) -> None:
    loaded = load_text(None, USUAL | {"ZOOM_SUBSCRIPTION_ID": "abc,def"})
    (source,) = loaded.config.sources.values()
    assert (source.name, source.account_id, source.client_id) == ("zoom", "account-2", "client-2")
    assert source.client_secret.get_secret_value() == "secret-2"
    assert source.subscriptions == ("abc", "def")
    assert loaded.origins["sources.zoom.client_secret"] == "environment ZOOM_CLIENT_SECRET"
    assert loaded.file is None


def test_the_usual_variables_can_be_refined(load_text, secrets_directory: Path) -> None:
    (secrets_directory / "sources.zoom.client_secret").write_text("from-credential")
    environ = {**USUAL, "ZOOM_CLIENT_SECRET": "", "ZOOMRELAY_SOURCES__ZOOM__HEARTBEAT_SECONDS": "30"}
    source = load_text(None, environ).config.sources["zoom"]
    assert source.client_secret.get_secret_value() == "from-credential"
    assert source.heartbeat_seconds == 30


def test_the_usual_variables_do_not_count_beside_other_sources(load_text) -> None:
    assert set(load_text(SOURCE, USUAL).config.sources) == {"main"}


def test_without_sinks_events_go_to_standard_output(load_text) -> None:
    for text in (SOURCE, SOURCE + "[sinks]\n"):
        assert load_text(text).config.sinks == {"stdout": StdoutSinkConfig(name="stdout")}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "zoomrelay-state"),
        ({"STATE_DIRECTORY": "/var/lib/zoomrelay"}, "/var/lib/zoomrelay"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"STATE_DIRECTORY": "/var/lib/a", "ZOOMRELAY_STATE_DIR": "/srv"}, "/srv"),
    ],
)
def test_the_state_directory(load_text, environ: dict[str, str], expected: str) -> None:
    assert load_text(SOURCE, environ).config.state_dir == Path(expected)


def test_a_file_s_state_directory_comes_before_systemd_s(load_text) -> None:
    config = load_text('state_dir = "here"\n' + SOURCE, {"STATE_DIRECTORY": "/var/lib/a"}).config
    assert config.state_dir == Path("here")


def test_tables_keep_the_order_of_the_file(load_text) -> None:
    text = SOURCE + '[sinks.z]\ntype = "file"\npath = "z"\n[sinks.a]\ntype = "stdout"\n'
    config = load_text(text, {"ZOOMRELAY_SINKS__A__START": "oldest"}).config
    assert list(config.sinks) == ["z", "a"]
    assert isinstance(config.sinks["z"], FileSinkConfig)


def test_the_whole_contract(load_text, tmp_path: Path) -> None:
    """The configuration as the design prints it."""
    for name in ("secret", "token"):
        (tmp_path / name).write_text(name + "-value\n")
    config = load_text(f"""
        state_dir = "/var/lib/zoomrelay"
        drain_seconds = 5
        [sources.main]
        account_id = "account"
        client_id = "client"
        client_secret_file = "{tmp_path}/secret"
        subscriptions = ["ZhPGtK84QbapRWXzEBW7MA"]
        grant = "auto"
        secret_token_file = "{tmp_path}/token"
        verify_signature = "enforce"
        token_url = "https://zoom.us/oauth/token"
        ws_url = "wss://ws.zoom.us/ws"
        api_url = "https://api.zoom.us/v2"
        heartbeat_seconds = 25
        dead_after_seconds = 75
        max_message_bytes = "16MiB"
        proxy = ""
        ca_file = ""
        [spool]
        type = "sqlite"
        max_bytes = "1GiB"
        [sinks.console]
        type = "stdout"
        [sinks.archive]
        type = "file"
        path = "/var/log/zoomrelay/events.ndjson"
        fsync = true
        [sinks.crm]
        type = "http"
        url = "https://crm.internal/zoom"
        events = ["meeting.*", "!meeting.participant_*"]
        sources = ["main"]
        format = "raw"
        ordering = "key"
        concurrency = 16
        timeout_seconds = 15
        give_up_after_seconds = 259200
        start = "now"
        [admin]
        listen = "127.0.0.1:9464"
        [log]
        level = "info"
        format = "auto"
    """).config
    source = config.sources["main"]
    assert source.secret_token and source.secret_token.get_secret_value() == "token-value"
    assert source.max_message_bytes == 16 * 1024**2 and source.ca_file is None
    assert [type(sink).__name__ for sink in config.sinks.values()] == [
        "StdoutSinkConfig",
        "FileSinkConfig",
        "HttpSinkConfig",
    ]
    assert config.sinks["crm"].events == ("meeting.*", "!meeting.participant_*")


@pytest.mark.parametrize(("heartbeat", "expected"), [("25", 75), ("10", 30), ("55", 165)])
def test_a_link_is_dead_after_three_heartbeats(load_text, heartbeat: str, expected: float) -> None:
    text = SOURCE + f"heartbeat_seconds = {heartbeat}\n"
    assert load_text(text).config.sources["main"].dead_after_seconds == expected
