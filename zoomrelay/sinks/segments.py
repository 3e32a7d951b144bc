"""From a segment that is being written to one that has ended: the steps on the disk.

    events.ndjson.part ── fdatasync, rename, fsync of the directory ──▶ events-….ndjson

and with compression:

    events.ndjson.part ── fdatasync, rename, fsync of the directory ──▶ events-….ndjson.full
    events-….ndjson.full ── compressed into ….gz.….tmp, fdatasync, rename, fsync of the directory ──▶ ….gz
    then the .full is removed

A process may be killed between any two of these. `recover` goes on where it was: it ends every `.part`,
removes every `.tmp`, and names every `.full`. One that has its compressed twin beside it was compressed
whole, for only what is on the disk gets that name; so it is removed, and nothing is there twice.

Names are taken once: what has ended is never written to and never replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from zoomrelay.clock import Clock
from zoomrelay.config.path_template import PathTemplate, part_pattern
from zoomrelay.sinks import segment_names as names
from zoomrelay.sinks.disk import Disk
from zoomrelay.sinks.linefile import LineFile


class Segments:
    """The segments of a template. Calls block, never overlap, and raise `OSError`."""

    def __init__(
        self,
        template: PathTemplate,
        *,
        disk: Disk,
        clock: Clock,
        to_pack: Callable[[Path], None] | None,
    ) -> None:
        """`to_pack` is told of every `.full`; None: segments stay as they are."""
        self._template = template
        self._disk = disk
        self._clock = clock
        self._to_pack = to_pack
        self._last_ms = 0

    def finish(self, path: Path, file: LineFile) -> None:
        """End the segment of `path`, which `file` has written; `file` is closed. An empty one vanishes, and
        what somebody put in its place stays."""
        part = names.part(path)
        try:
            size, in_place = file.sync(), file.is_in_place()
        except FileNotFoundError:
            file.close()
            return  # the whole directory was taken away
        file.close()
        if not in_place:
            return  # somebody took it away, and with it what was in it; or a successor has ended it
        if size == 0:
            self._disk.unlink(part)
            return
        ended = self._free_name(path)
        self._disk.rename(part, ended)
        self._disk.sync_directory(path.parent)
        if self._to_pack is not None:
            self._to_pack(ended)

    def recover(self) -> None:
        """Bring to an end what an earlier process left."""
        last = self._template.below[-1]
        for directory in list(self._directories(self._template.root, self._template.below[:-1])):
            for name in sorted(self._disk.names(directory)):
                found = directory / name
                if names.is_part(name, last):
                    path = found.with_name(name.removesuffix(names.PART))
                    self.finish(path, LineFile(found, fsync=True, disk=self._disk))
                elif names.is_tmp(name, last):
                    self._disk.unlink(found)
                elif names.is_full(name, last):
                    self._recover_full(found)

    def _recover_full(self, full: Path) -> None:
        ended = full.with_name(full.name.removesuffix(names.FULL))
        if any(self._disk.exists(_plus(ended, ending)) for ending in (".gz", ".zst")):
            self._disk.sync_directory(full.parent)
            self._disk.unlink(full)
        elif self._to_pack is not None:
            self._to_pack(full)
        else:
            self._disk.rename(full, ended)
            self._disk.sync_directory(full.parent)

    def _directories(self, directory: Path, below: tuple[str, ...]) -> Iterator[Path]:
        """Those that the template may have led to."""
        if not below:
            yield directory
        elif "{" not in below[0]:
            yield from self._directories(directory / below[0], below[1:])
        else:
            pattern = names.compiled(part_pattern(below[0]))
            for name in sorted(self._disk.names(directory)):
                if pattern.fullmatch(name):
                    yield from self._directories(directory / name, below[1:])

    def _free_name(self, path: Path) -> Path:
        """Later ones sort behind earlier ones, also where the clock was set back meanwhile."""
        self._last_ms = max(int(self._clock.wall() * 1000), self._last_ms + 1)
        while any(self._disk.exists(taken) for taken in _twins(names.finished(path, self._last_ms))):
            self._last_ms += 1
        ended = names.finished(path, self._last_ms)
        return ended if self._to_pack is None else _plus(ended, names.FULL)


def _twins(ended: Path) -> Iterator[Path]:
    for ending in (*names.ENDINGS.values(), names.FULL):
        yield _plus(ended, ending)


def _plus(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
