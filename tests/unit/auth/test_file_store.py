"""The token cache on disk: where it is, who may read it, and what may stand in its place."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.contract.test_token_stores import FULL, plain, source
from zoomrelay.auth.record import Record
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.errors import TokenStoreError


async def save(store: FileStore, record: Record = FULL) -> None:
    async with store.lock(1):
        await store.write(record)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = FileStore(tmp_path, source(client_id="MyClientId"))
    before = os.umask(0)
    try:
        await save(store)
    finally:
        os.umask(before)
    assert mode(store.directory) == 0o700
    assert [mode(path) for path in store.directory.iterdir()] == [0o600, 0o600]
    assert {path.suffix for path in store.directory.iterdir()} == {".json", ".lock"}
    assert "MyClientId" not in str(store.path)


async def test_each_app_has_its_own(tmp_path: Path) -> None:
    kinds = [
        source(),
        source(client_id="d"),
        source(account_id="a"),
        source(token_url="https://zoom.example/oauth/token"),
        source(grant="authorization_code"),
    ]
    stores = [FileStore(tmp_path, kind) for kind in kinds]
    assert len({store.path for store in stores}) == len(kinds)
    assert FileStore(tmp_path, source(name="other")).path == stores[0].path, (
        "the name says nothing of the app"
    )


async def test_it_makes_no_state_directory(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "none", source())
    assert await store.read() == Record()
    with pytest.raises(TokenStoreError, match="there is no state directory"):
        async with store.lock(1):
            raise AssertionError
    assert not store.directory.parent.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"x"', b"\xff\x00", b"{}", b'{"version": 1, "app": "another"}', b'{"version": 0}'],
)
async def test_what_is_no_record_is_set_aside_and_replaced(tmp_path: Path, content: bytes) -> None:
    store = FileStore(tmp_path, source())
    await save(store)
    store.path.write_bytes(content)
    with capture_logs() as logs:
        assert await store.read() == Record()
        assert await store.read() == Record()
        await save(store)
    assert plain(await store.read()) == plain(FULL)
    assert store.path.with_name(store.path.name + ".damaged-1").read_bytes() == content
    assert [line["event"] for line in logs] == ["auth.cache_refused", "auth.cache_set_aside"]
    assert logs[0]["path"] == str(store.path) and logs[0]["problem"] and logs[0]["action"]


async def test_nothing_that_was_set_aside_is_ever_written_over(tmp_path: Path) -> None:
    store = FileStore(tmp_path, source())
    for number in range(1, 21):
        await save(store)
        store.path.write_bytes(b"damage %d" % number)
    await save(store)
    store.path.write_bytes(b"one too many")
    with pytest.raises(TokenStoreError, match="look at them"):
        await save(store)
    found = sorted(path.read_bytes() for path in store.directory.glob("*.damaged-*"))
    assert found == sorted(b"damage %d" % number for number in range(1, 21))
    assert store.path.read_bytes() == b"one too many"


async def test_a_record_of_a_newer_version_is_left_untouched(tmp_path: Path) -> None:
    store = FileStore(tmp_path, source())
    await save(store)
    newer = msgspec.json.decode(store.path.read_bytes())
    newer["version"] = 2
    store.path.write_bytes(content := msgspec.json.encode(newer))
    with pytest.raises(TokenStoreError, match="newer zoomrelay"):
        await store.read()
    with pytest.raises(TokenStoreError, match="newer zoomrelay"):
        await save(store)
    assert store.path.read_bytes() == content


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    store = FileStore(tmp_path, source())
    await save(store)
    elsewhere = tmp_path / "elsewhere"
    store.path.rename(elsewhere)
    store.path.symlink_to(elsewhere)
    kept = elsewhere.read_bytes()
    assert await store.read() == Record()
    await save(store, Record(refresh=FULL.refresh))
    assert elsewhere.read_bytes() == kept
    assert not store.path.is_symlink()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
async def test_nor_is_anything_else_taken_for_a_file(tmp_path: Path, make: object) -> None:
    store = FileStore(tmp_path, source())
    await save(store)
    store.path.unlink()
    make(store.path)  # type: ignore[operator]
    with capture_logs() as logs:
        assert await store.read() == Record()
    assert logs[0]["problem"] == "no regular file"
    await save(store)
    assert plain(await store.read()) == plain(FULL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_another_user_s_file_is_refused(tmp_path: Path) -> None:
    store = FileStore(tmp_path, source())
    await save(store)
    os.chown(store.path, 12345, 12345)
    with capture_logs() as logs:
        assert await store.read() == Record()
        await save(store)
    assert logs[0]["problem"] == "another user's"
    assert store.path.stat().st_uid == 0
    assert store.path.with_name(store.path.name + ".damaged-1").stat().st_uid == 12345


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_what_root_writes_belongs_to_the_relay(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    store = FileStore(tmp_path, source())
    await save(store)
    assert {path.stat().st_uid for path in (store.directory, *store.directory.iterdir())} == {12345}
    assert plain(await store.read()) == plain(FULL)


@pytest.mark.parametrize("opened", [0o640, 0o604, 0o660])
async def test_an_open_file_keeps_its_refresh_token_only(tmp_path: Path, opened: int) -> None:
    store = FileStore(tmp_path, source())
    await save(store)
    store.path.chmod(opened)
    with capture_logs() as logs:
        found = await store.read()
    assert plain(found) == plain(FULL.without_access())
    assert found.refresh is not None
    assert mode(store.path) == 0o600
    (line,) = logs
    assert "refresh token is kept" in line["action"]


async def test_an_open_directory_is_closed(tmp_path: Path) -> None:
    store = FileStore(tmp_path, source())
    await save(store)
    store.directory.chmod(0o755)
    await save(store)
    assert mode(store.directory) == 0o700


async def test_a_directory_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    store = FileStore(tmp_path, source())
    store.directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TokenStoreError, match="must be a directory"):
        await save(store)
    assert not list((tmp_path / "elsewhere").iterdir())


async def test_the_lock_is_the_kernel_s(tmp_path: Path) -> None:
    """A foreign program can hold it with flock(1), and its file stays."""
    store = FileStore(tmp_path, source())
    await save(store)
    (lock,) = store.directory.glob("*.lock")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TokenStoreError, match="held"):
            async with store.lock(0.05):
                raise AssertionError
    async with store.lock(1):
        pass
    assert lock.exists()


async def test_a_failed_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path, source())
    await save(store)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(TokenStoreError, match="No space left"):
            await save(store, Record())
    assert plain(await store.read()) == plain(FULL)
    await save(store, Record(refresh=FULL.refresh))
    assert plain(await store.read()) == plain(Record(refresh=FULL.refresh))
