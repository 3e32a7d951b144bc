"""Certificates for a webhook's door."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.require import require


def certificate(directory: Path, name: str) -> Path:
    """Key and certificate in one file."""
    file = directory / f"{name}.pem"
    command = [require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    file.write_text((directory / "cert.pem").read_text() + (directory / "key.pem").read_text())
    return file
