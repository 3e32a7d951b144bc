"""One relay at a time, on a local disk, and in words that help."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoomrelay.errors import StateDirectoryError
from zoomrelay.spool.statedir import StateDirectory, refuse_network_file_system


def test_a_second_holder_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    first, second = StateDirectory(tmp_path), StateDirectory(tmp_path)
    first.acquire(create=True)
    with pytest.raises(StateDirectoryError, match=f"in use by the process with id {os.getpid()}"):
        second.acquire(create=True)
    (tmp_path / "lock").write_text("gibberish")
    with pytest.raises(StateDirectoryError, match="in use by another process"):
        second.acquire(create=False)
    first.release()
    first.release()
    second.acquire(create=False)
    second.release()


def test_other_commands_make_no_directory(tmp_path: Path) -> None:
    with pytest.raises(StateDirectoryError, match="no state directory"):
        StateDirectory(tmp_path / "none").acquire(create=False)
    assert not (tmp_path / "none").exists()


def test_a_file_in_the_place_of_the_directory_is_explained(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateDirectoryError, match="must be a directory"):
        StateDirectory(tmp_path / "state").acquire(create=True)


MOUNTS = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
40 22 0:40 / /srv rw - nfs4 server:/srv rw
41 40 0:41 / /srv/local\\040disk rw - xfs /dev/vdb1 rw
42 22 0:42 / /mnt/share rw - fuse.sshfs host: rw

nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/zoomrelay", None),
        ("/srv/zoomrelay", "nfs4"),
        ("/srv", "nfs4"),
        ("/srvother", None),
        ("/srv/local disk/zoomrelay", None),
        ("/mnt/share/x", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_refused(tmp_path: Path, path: str, kind: str | None) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)
    if kind is None:
        refuse_network_file_system(Path(path), str(mountinfo))
    else:
        with pytest.raises(StateDirectoryError, match=f"network file system .{kind}."):
            refuse_network_file_system(Path(path), str(mountinfo))


def test_without_a_list_of_mounts_nothing_is_refused(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path, str(tmp_path / "none"))
