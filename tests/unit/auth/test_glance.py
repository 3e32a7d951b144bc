"""The quick look at the cache: the same file as the store's, and nothing that is not plainly in order."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from zoomrelay.auth.record import AccessToken, Moment, Record
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.auth.stores.glance import glance
from zoomrelay.clock import SystemClock, boot_id
from zoomrelay.config.models import SourceConfig

SOURCE = SourceConfig.model_validate({"name": "main", "client_id": "client", "client_secret": "secret"})
OTHER = SOURCE.model_copy(update={"client_id": "other"})
CLOCK = SystemClock()


def _record(age_seconds: float = 100.0) -> Record:
    issued = Moment(CLOCK.wall() - age_seconds, CLOCK.elapsed() - age_seconds, boot_id())
    return Record(access=AccessToken("the token", "client_credentials", issued, 3600, ("a:b",), "https://x"))


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path, SOURCE)
    store.replace(_record())
    return store


def _seen(store: FileStore, min_life_seconds: float = 300, source: SourceConfig = SOURCE) -> str | None:
    token = glance(store.directory.parent, source, CLOCK, min_life_seconds, 0.9)
    return None if token is None else token.value


def test_what_the_store_wrote_is_found(store: FileStore) -> None:
    token = glance(store.directory.parent, SOURCE, CLOCK, 300, 0.9)
    assert token is not None
    assert (token.value, token.scopes, token.api_url) == ("the token", ("a:b",), "https://x")
    assert 3490 < token.life_seconds - (CLOCK.elapsed() - token.issued.elapsed) <= 3500


def test_life_left(store: FileStore) -> None:
    assert _seen(store, 999999) == "the token", "nine tenths of its life are as good as any"
    store.replace(_record(age_seconds=3000))
    assert (_seen(store, 500), _seen(store, 700)) == ("the token", None)
    store.replace(_record(age_seconds=-100))
    assert _seen(store) is None, "from the future"


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.chmod(0o640),
        lambda path: path.write_bytes(b"{"),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(msgspec.json.encode(_record())),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":99')),
        _link,
        _directory,
    ],
)
def test_whatever_else_is_left_to_the_store(store: FileStore, spoil: Callable[[Path], object]) -> None:
    spoil(store.path)
    assert _seen(store) is None


def test_another_apps_record_is_not_ours(store: FileStore) -> None:
    assert _seen(store, source=OTHER) is None
    store.path.rename(FileStore(store.directory.parent, OTHER).path)
    assert _seen(store, source=OTHER) is None, "the record says whose it is"
