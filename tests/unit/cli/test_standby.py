"""A relay that stands by."""

from __future__ import annotations

from pathlib import Path

from zoomrelay.cli.standby import is_free
from zoomrelay.spool.statedir import StateDirectory
from zoomrelay.takeover.journal import Journal


def test_it_is_needed_where_nobody_holds_the_lock_nor_is_about_to(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.acquire(create=True)
    assert not is_free(tmp_path)
    journal = Journal.create(tmp_path)
    state.release()
    assert not is_free(tmp_path), "a takeover is under way"
    journal.close()
    assert is_free(tmp_path), "it was left behind"
    state.acquire(create=True)
    state.release()
