"""Nothing grows with the number of events: memory, descriptors, the spool's write-ahead log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.lab import Lab
from tests.support.receiver import Receiver

MIB = 1024**2
ROUND = 10_000
GROWTH_BYTES = 24 * MIB
"""Between two rounds of a flood: a read-ahead more or less, never a share of what went through."""
WAL_BYTES = 96 * MIB
FRAME_BYTES = 900


@dataclass(frozen=True)
class Size:
    """Of a process, and of what it keeps on the disk."""

    resident: int
    descriptors: int
    wal: int
    spool: int

    def __str__(self) -> str:
        return (
            f"resident {self.resident / MIB:.0f} MiB, {self.descriptors} descriptors,"
            f" wal {self.wal / MIB:.1f} MiB, spool {self.spool / MIB:.1f} MiB"
        )


def size(lab: Lab) -> Size:
    process = Path("/proc") / str(lab.relay.pid)
    pages = int((process / "statm").read_text().split()[1])
    files = [lab.state_dir / name for name in ("spool.sqlite-wal", "spool.sqlite")]
    wal, spool = (file.stat().st_size if file.exists() else 0 for file in files)
    return Size(pages * 4096, len(list((process / "fd").iterdir())), wal, spool)


@pytest.mark.parametrize(
    ("rounds", "with_http"),
    [pytest.param(20, False, marks=pytest.mark.full),
     pytest.param(4, True, marks=pytest.mark.full)],
)  # fmt: skip
async def test_nothing_grows(tmp_path: Path, rounds: int, with_http: bool) -> None:
    receiver = Receiver() if with_http else None
    async with Lab(tmp_path, seed=1, receiver=receiver) as lab:
        await lab.start()
        print(f"\nidle: {size(lab)}")
        sizes = []
        for number in range(rounds):
            await lab.zoom.flood(lab.zoom.prepare(ROUND))
            await lab.finish()
            sizes.append(size(lab))
            print(f"after {ROUND * (number + 1)}: {sizes[-1]}")
            lab.zoom.journal.forget()
            if receiver is not None:
                receiver.forget()
        await lab.relay.stop()
    first, last = sizes[0], sizes[-1]
    assert last.resident - first.resident < GROWTH_BYTES
    assert last.descriptors <= first.descriptors + 2
    assert max(each.wal for each in sizes) < WAL_BYTES
    assert max(each.spool for each in sizes) < 4 * ROUND * FRAME_BYTES + WAL_BYTES
