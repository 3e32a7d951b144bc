"""Asks a running relay through its control socket. Synchronous, for commands; see `control` for paths."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from zoomrelay.admin.socket_path import control_socket_path
from zoomrelay.errors import ControlRefused, RelayNotRunning, StateDirectoryError

_Answer = TypeVar("_Answer")
_READ_BYTES = 256 * 1024


class ControlClient:
    """One call per connection; keeps nothing open.

    Each call raises `RelayNotRunning` when no relay answers, `ControlRefused` when it says no, and
    `StateDirectoryError` when the state directory is missing or not ours to use. Nothing is created.
    """

    def __init__(self, state_dir: Path, *, timeout_seconds: float = 10.0) -> None:
        self._state_dir = state_dir
        self._timeout_seconds = timeout_seconds

    def get(self, path: str, type_: type[_Answer], **query: str | int | None) -> _Answer:
        """Decode the answer to `GET path` as `type_`; a part of the query that is None is left out."""
        given = [(name, value) for name, value in query.items() if value is not None]
        return msgspec.json.decode(self._call("GET", _target(path, given), None), type=type_)

    def text(self, path: str) -> str:
        """The answer to `GET path` as it is."""
        return self._call("GET", path, None).decode(errors="replace")

    def post(self, path: str, type_: type[_Answer], body: object = None) -> _Answer:
        """Send `body` as JSON, and decode the answer as `type_`."""
        return msgspec.json.decode(self._call("POST", path, msgspec.json.encode(body)), type=type_)

    def stream(
        self, path: str, *, query: Sequence[tuple[str, str]] = (), body: object = None
    ) -> Generator[bytes, None, None]:
        """The lines of the answer as they come, without newlines and empty lines, until the relay ends it:
        to `GET path`, or where there is a `body`, to a POST of that as JSON. Raises also while it is under
        way: `RelayNotRunning` where the answer breaks off. Closing the iterator ends the call."""
        content = None if body is None else msgspec.json.encode(body)
        with self._connected() as connection:
            answer = _ask(connection, "GET" if content is None else "POST", _target(path, query), content)
            if answer.status >= 300:
                raise ControlRefused(_words(answer.read(), answer.status), status=answer.status)
            yield from _lines(answer)

    def _call(self, method: str, target: str, body: bytes | None) -> bytes:
        with self._connected() as connection:
            answer = _ask(connection, method, target, body)
            content = answer.read()
        if answer.status >= 300:
            raise ControlRefused(_words(content, answer.status), status=answer.status)
        return content

    @contextmanager
    def _connected(self) -> Iterator[_Connection]:
        """For one call; what goes wrong in it is explained."""
        connection = _Connection(self._socket_path(), self._timeout_seconds)
        try:
            yield connection
        except OSError as error:
            raise self._explained(error) from error
        except http.client.HTTPException as error:
            raise RelayNotRunning(f"the relay of {self._state_dir} ended while it was asked") from error
        finally:
            connection.close()

    def _socket_path(self) -> Path:
        try:
            found = self._state_dir.is_dir()
        except OSError as error:
            raise self._explained(error) from error
        if not found:
            raise StateDirectoryError(
                f"there is no state directory {self._state_dir}; has the relay run here?"
            )
        return control_socket_path(self._state_dir)

    def _explained(self, error: OSError) -> RelayNotRunning | StateDirectoryError:
        # By class: those of http.client have no number.
        if isinstance(error, FileNotFoundError | ConnectionError):
            return RelayNotRunning(f"no relay is running on {self._state_dir}")
        if isinstance(error, TimeoutError):
            return RelayNotRunning(
                f"the relay of {self._state_dir} did not answer within {self._timeout_seconds:g} s"
            )
        return StateDirectoryError(
            f"the relay of {self._state_dir} cannot be asked: {error.strerror}; only the user it runs as may"
        )


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


def _target(path: str, query: Sequence[tuple[str, str | int]]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _ask(connection: _Connection, method: str, target: str, body: bytes | None) -> http.client.HTTPResponse:
    connection.request(method, target, body, {"Content-Type": "application/json"})
    return connection.getresponse()


def _words(content: bytes, status: int) -> str:
    try:
        answer: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
        return str(answer["error"])
    except (msgspec.MsgspecError, KeyError):
        return f"the relay answered {status}"


def _lines(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Not `readline`: that takes an answer which broke off for one that ended."""
    rest = b""
    while portion := answer.read1(_READ_BYTES):
        *lines, rest = (rest + portion).split(b"\n")
        yield from filter(None, lines)
