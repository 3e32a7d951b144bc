"""Secrets that live in files, where they may be changed while the relay runs."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr


def read_text(path: Path) -> str:
    """The text of a file, a byte order mark removed. Raises ValueError with what is wrong, in words."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError("cannot be read: it is not UTF-8 text") from None


def read_secret(path: Path) -> str:
    """A secret out of its file, without the newlines at its end. Raises ValueError, in words."""
    secret = read_text(path).rstrip("\r\n")
    if not secret:
        raise ValueError("is empty")
    return secret


class UnreadableSecret(SecretStr):
    """Stands for a secret whose file was at fault, so that the same setting is not reported twice."""


class FileSecret(SecretStr):
    """A secret with the file that it came from. Two are equal if their files are: what is in it now is
    asked at each use, so a new content is no new setting."""

    def __init__(self, secret_value: str, path: Path) -> None:
        super().__init__(secret_value)
        self.path = path

    def read(self) -> str:
        """What the file holds now. Raises ValueError, in words."""
        return read_secret(self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileSecret) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)
