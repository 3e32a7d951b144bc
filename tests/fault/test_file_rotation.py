"""A file sink that rotates: kill -9 at named steps of a rotation, and a disk that gets full."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import crash, oracle
from tests.support.lab import Lab
from tests.support.small_disk import small_disk
from tests.unit.sinks.segmented import unpacked

RATE = 400
SEGMENTS = """
[sinks.segments]
type = "file"
path = "{path}"
rotate_bytes = "16KiB"
rotate_seconds = 0.3
compression = "{compression}"
min_free_bytes = "{min_free}"
"""
QUICK = [("rotation.rename.after", 2), ("rotation.packed.after", 2)]
EVERY = [(point, 2) for point in crash.ROTATION]
RECOVERING = [("rotation.named.after", 2), ("rotation.pack.half", 1), ("rotation.packed.after", 1)]


def collected(directory: Path) -> list[bytes]:
    """What a collector finds: whole files, read in the order of their names."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    assert not [path.name for path in files if path.suffix in (".part", ".tmp")]
    texts = [unpacked(path.name.removesuffix(".full"), path.read_bytes()) for path in files]
    assert all(text.endswith(b"\n") for text in texts)
    return b"".join(texts).split(b"\n")[:-1]


@pytest.mark.parametrize(
    ("deaths", "compression"),
    [
        pytest.param(QUICK, "gzip", id="quick"),
        pytest.param(EVERY[:4], "gzip", id="ending", marks=pytest.mark.full),
        pytest.param(EVERY[4:], "zstd", id="compressing", marks=pytest.mark.full),
        pytest.param(RECOVERING, "gzip", id="recovering", marks=pytest.mark.full),
        pytest.param(EVERY[:3], "none", id="without compression", marks=pytest.mark.full),
    ],
)
async def test_dies_at(tmp_path: Path, deaths: list[tuple[str, int]], compression: str) -> None:
    """Each of these (point, passage) in turn, one start after the other."""
    directory = tmp_path / "segments"
    directory.mkdir()
    path = directory / "{event_family}" / "{date}.ndjson"
    more = SEGMENTS.format(path=path, compression=compression, min_free="1")
    async with Lab(tmp_path, seed=7, more=more) as lab:
        await lab.start()
        lab.zoom.set_rate(RATE)
        await lab.pause(0.3)
        lab.kill()
        for point, passage in deaths:
            lab.relay.start(module=crash.MODULE, environ={crash.VARIABLE: f"{point}:{passage}"})
            assert await lab.relay.ended(60) == -signal.SIGKILL, f"{point}\n{lab.relay.tail()}"
            lab.kills.append(lab.relay.ended_at)
        await lab.start()
        await lab.pause(0.5)
        lab.zoom.set_rate(0)
        await lab.end()
        found = collected(directory)
        # Families have folders of their own, so the order is that within each.
        assert not (problems := oracle.problems(lab.truth(), "segments", found, ordered=False)), problems
        assert len({path.name for path in directory.rglob("*.*")}) > len(deaths)


@pytest.mark.full
async def test_the_sink_stops_while_the_spool_has_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * 1024**2) as disk:
        path = disk.path / "events.ndjson"
        more = SEGMENTS.format(path=path, compression="none", min_free="32MiB")
        async with Lab(disk.path, seed=8, more=more) as lab:
            lab.archive_file = tmp_path / "archive.ndjson"
            lab.configure()
            await lab.start()
            ballast = disk.path / "somebody-else-s"
            ballast.write_bytes(bytes(33 * 1024**2))
            lab.zoom.set_rate(RATE)
            await lab.relay.until(lambda: lab.relay.log("sink.failing"), "the sink to stop")
            assert "min_free_bytes" in lab.relay.log("sink.failing")[0]["error"]
            await lab.pause(1)
            assert not lab.relay.log("spool.write_failed")
            assert not lab.relay.log("intake.spool_unavailable")
            ballast.unlink()
            await lab.relay.until(lambda: lab.relay.log("sink.recovered"), "the sink to go on")
            lab.zoom.set_rate(0)
            await lab.end()
            found = b"".join(one.read_bytes() for one in sorted(disk.path.glob("events-*.ndjson")))
            lines = found.split(b"\n")[:-1]
            assert not (problems := oracle.problems(lab.truth(), "segments", lines, ordered=True)), problems
