"""The audit of the locked packages, against a pretend OSV: clean, vulnerable, no answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ROOT
from tools import audit

LOCK = """#
aiohttp==3.9.1 \\
    --hash=sha256:00
    # via zoomrelay (pyproject.toml)
backports.zstd==1.0.0 ; python_version < "3.14" \\
    --hash=sha256:11
sound==1.0
"""


class Osv:
    """Knows some advisories; may answer otherwise."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], list[str]] = {}
        self.advisories: dict[str, dict[str, Any]] = {}
        self.instead: tuple[int, bytes] | None = None
        self.asked: list[dict[str, Any]] = []

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self.instead is not None:
            return self.instead
        if path == "/v1/querybatch":
            self.asked = json.loads(body)["queries"]
            asked = [(query["package"]["name"], query["version"]) for query in self.asked]
            results = [{"vulns": [{"id": i, "modified": "x"} for i in self.known.get(p, [])]} for p in asked]
            return 200, json.dumps({"results": [r if r["vulns"] else {} for r in results]}).encode()
        advisory = self.advisories.get(path.rpartition("/")[2])
        return (200, json.dumps(advisory).encode()) if advisory else (404, b"{}")


@pytest.fixture
def osv() -> Osv:
    return Osv()


@pytest.fixture
def url(osv: Osv) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = osv.answer(self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def lock(tmp_path: Path) -> str:
    file = tmp_path / "requirements.lock"
    file.write_text(LOCK)
    return str(file)


def test_nothing_is_known(osv: Osv, url: str, lock: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--url", url, lock, lock]) == 0
    assert capsys.readouterr().out == "3 packages looked up: nothing to mend\n"
    assert osv.asked == [
        {"package": {"name": name, "ecosystem": "PyPI"}, "version": version}
        for name, version in (("aiohttp", "3.9.1"), ("backports.zstd", "1.0.0"), ("sound", "1.0"))
    ]


def test_what_is_known_is_told_and_fails(
    osv: Osv, url: str, lock: str, capsys: pytest.CaptureFixture[str]
) -> None:
    osv.known["aiohttp", "3.9.1"] = ["GHSA-1", "GHSA-2"]
    osv.advisories["GHSA-1"] = {
        "id": "GHSA-1",
        "summary": "Request smuggling",
        "aliases": ["CVE-2024-1", "PYSEC-1"],
        "affected": [
            {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.9.2"}]}]}
        ],
    }
    assert audit.main(["--url", url, lock]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "aiohttp 3.9.1: GHSA-1, CVE-2024-1: Request smuggling (fixed in: 3.9.2)",
        "aiohttp 3.9.1: GHSA-2: no summary (fixed in: nothing yet)",
        "3 packages looked up: VULNERABLE, see above",
    ]


def test_what_was_withdrawn_or_accepted_does_not_fail(
    osv: Osv, url: str, lock: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    osv.known["sound", "1.0"] = ["GHSA-3", "GHSA-4"]
    osv.advisories["GHSA-3"] = {"id": "GHSA-3", "withdrawn": "2026-01-01T00:00:00Z"}
    monkeypatch.setitem(audit.ACCEPTED, "GHSA-4", "we do not call it")
    assert audit.main(["--url", url, lock]) == 0
    told = capsys.readouterr().out
    assert "GHSA-3" not in told and "GHSA-4" in told and "accepted: we do not call it" in told


@pytest.mark.parametrize(
    "instead",
    [
        (503, b""),
        (403, b"<html>blocked"),
        (200, b"<html>please log in"),
        (200, b'{"results": []}'),
        (200, b"[]"),
        (302, b""),
    ],
)
def test_who_gives_no_answer_is_told_of_and_does_not_fail(
    osv: Osv, url: str, lock: str, instead: tuple[int, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    osv.instead = instead
    assert audit.main(["--url", url, lock]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"NOT AUDITED: {url} answered ") and "3 packages were not looked up" in told


def test_nobody_there(lock: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://osv.invalid"):
        assert audit.main(["--url", url, lock]) == 0
        assert capsys.readouterr().out.startswith(f"NOT AUDITED: {url} cannot be reached (ConnectError); 3 ")


def test_a_lock_that_pins_nothing_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.lock"
    empty.write_text("# nothing\naiohttp>=3\n")
    with pytest.raises(SystemExit) as ended:
        audit.main([str(empty)])
    assert ended.value.code == 2


def test_every_lock_is_read_whole() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-build.lock"):
        text = (ROOT / name).read_text()
        hashed = text.count("\n    # via") or len(audit.pins(text))
        assert len(audit.pins(text)) == hashed > 0
        assert f"{name}" in (ROOT / "Makefile").read_text().partition("\naudit:")[2].partition("\n\n")[0]
