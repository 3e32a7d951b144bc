"""What a certificate says of itself: issuer and dates. Pure.

Python tells this of certificates that it trusts only, and the others are the ones of interest; so the few
fields are read here, out of the DER structure of RFC 5280, 4.1. Nothing is verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_VERSION = 0xA0
_UTC_TIME, _UTF16 = 0x17, 0x1E
_COMMON_NAME, _ORGANIZATION = bytes.fromhex("550403"), bytes.fromhex("55040a")


@dataclass(frozen=True, slots=True)
class Certificate:
    issuer: str
    """Organization and common name, whatever there is of them."""
    not_before: datetime
    not_after: datetime


def read_certificate(der: bytes) -> Certificate:
    """Raises ValueError for what is no certificate."""
    try:
        (_, whole), *_ = _parts(der)
        (_, signed), *_ = _parts(whole)
        fields = [part for part in _parts(signed) if part[0] != _VERSION]
        (_, issuer), (_, dates) = fields[2], fields[3]
        begins, ends = (_moment(tag, value) for tag, value in _parts(dates))
        return Certificate(_name(issuer), begins, ends)
    except IndexError as error:
        raise ValueError("the certificate ends too soon") from error


def _parts(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that stand in `der` one after the other, as tag and content."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(der[at : at + count], "big"), at + count
        if at + length > len(der):
            raise IndexError
        yield tag, der[at : at + length]
        at += length


def _name(der: bytes) -> str:
    found: dict[bytes, str] = {}
    for _, group in _parts(der):
        for _, pair in _parts(group):
            (_, kind), (tag, text) = _parts(pair)
            found[kind] = text.decode("utf-16-be" if tag == _UTF16 else "utf-8", "replace")
    told = [found[kind] for kind in (_ORGANIZATION, _COMMON_NAME) if found.get(kind)]
    return ", ".join(dict.fromkeys(told)) or "nobody named"


def _moment(tag: int, value: bytes) -> datetime:
    """UTCTime has two digits of the year, from 1950 to 2049."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
