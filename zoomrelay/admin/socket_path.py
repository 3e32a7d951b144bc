"""Where the control socket of a relay is."""

from __future__ import annotations

import os
from pathlib import Path

from zoomrelay.errors import StateDirectoryError

_LONGEST_BYTES = 107
"""`sun_path` of a unix socket's address, without the zero at its end (Linux; 103 elsewhere)."""


def control_socket_path(state_dir: Path) -> Path:
    """The relay of this state directory listens here. Raises `StateDirectoryError` if the path is longer
    than the address of a unix socket can be."""
    path = state_dir / "control.sock"
    length = len(os.fsencode(path))
    if length > _LONGEST_BYTES:
        raise StateDirectoryError(
            f"the control socket {path} would have a path of {length} bytes, and the system allows"
            f" {_LONGEST_BYTES}; set state_dir to a shorter path"
        )
    return path
