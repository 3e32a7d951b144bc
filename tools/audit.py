"""`python -m tools.audit LOCK …`: known vulnerabilities of the packages that lock files pin.

OSV (https://osv.dev) is asked, which gathers the advisories of PyPA, GitHub and others. Ends with 0 where it
knows of none, and with 1 where it does. Ends with 0 also where it gives no answer, and says so: a machine
without a way to it can still run all other checks. (pip-audit ends the same way for both, and takes packages
that an index does not know for sound ones.)
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec

OSV_URL = "https://api.osv.dev"
TIMEOUT_SECONDS = 20.0
ACCEPTED: dict[str, str] = {}
"""Ids of advisories that do not concern us -> why not."""

_Answer = TypeVar("_Answer")
Pin = tuple[str, str]
"""Name and version of a package."""


class NoAnswer(Exception):
    """OSV could not be asked, or what answered was not OSV."""


class Known(msgspec.Struct):
    """One entry of an answer to a query."""

    id: str


class Result(msgspec.Struct):
    """What is known about one package."""

    vulns: list[Known] = []


class Batch(msgspec.Struct):
    """The answer to `POST /v1/querybatch`, in the order of the question."""

    results: list[Result]


class Range(msgspec.Struct):
    events: list[dict[str, str]] = []


class Affected(msgspec.Struct):
    ranges: list[Range] = []


class Advisory(msgspec.Struct):
    """The answer to `GET /v1/vulns/ID`, as far as it is used."""

    id: str
    summary: str = ""
    aliases: list[str] = []
    withdrawn: str = ""
    affected: list[Affected] = []

    @property
    def words(self) -> str:
        names = ", ".join([self.id, *(name for name in self.aliases if name.startswith("CVE-"))])
        ranges = (one for affected in self.affected for one in affected.ranges)
        fixed = sorted({event["fixed"] for one in ranges for event in one.events if "fixed" in event})
        return f"{names}: {self.summary or 'no summary'} (fixed in: {', '.join(fixed) or 'nothing yet'})"


def pins(lock: str) -> set[Pin]:
    """The packages of a lock file's text."""
    return set(re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", lock, re.MULTILINE))


def ask(client: httpx.Client, packages: Sequence[Pin]) -> Iterator[tuple[Pin, Advisory]]:
    """Every advisory that holds for one of `packages`. Raises `NoAnswer`."""
    question = [
        {"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in packages
    ]
    results = _sent(client, "POST", "/v1/querybatch", Batch, {"queries": question}).results
    if len(results) != len(packages):
        raise NoAnswer("answered something else")
    for package, result in zip(packages, results, strict=True):
        for known in result.vulns:
            advisory = _look_up(client, known.id)
            if not advisory.withdrawn:
                yield package, advisory


def _look_up(client: httpx.Client, id_: str) -> Advisory:
    """It counts also where nothing more can be learnt about it."""
    try:
        return _sent(client, "GET", f"/v1/vulns/{id_}", Advisory)
    except NoAnswer:
        return Advisory(id_)


def _sent(client: httpx.Client, method: str, path: str, type_: type[_Answer], body: object = None) -> _Answer:
    try:
        response = client.request(method, path, json=body)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoAnswer(f"cannot be reached ({type(error).__name__})") from error
    if response.status_code != 200:
        raise NoAnswer(f"answered HTTP {response.status_code}")
    try:
        return msgspec.json.decode(response.content, type=type_)
    except msgspec.MsgspecError as error:
        raise NoAnswer("answered something else") from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("locks", nargs="+", type=Path, metavar="LOCK")
    parser.add_argument("--url", default=OSV_URL, help="where OSV, or a mirror of it, is found")
    given = parser.parse_args(arguments)
    packages = sorted(set().union(*(pins(lock.read_text()) for lock in given.locks)))
    if not packages:
        parser.error("nothing is pinned there")
    try:
        with httpx.Client(base_url=given.url, timeout=TIMEOUT_SECONDS) as client:
            found = list(ask(client, packages))
    except NoAnswer as error:
        print(f"NOT AUDITED: {given.url} {error}; {len(packages)} packages were not looked up")
        return 0
    return _told(packages, found)


def _told(packages: Sequence[Pin], found: Iterable[tuple[Pin, Advisory]]) -> int:
    bad = False
    for (name, version), advisory in found:
        why = ACCEPTED.get(advisory.id)
        bad = bad or why is None
        print(f"{name} {version}: {advisory.words}" + (f"; accepted: {why}" if why else ""))
    print(f"{len(packages)} packages looked up: {'VULNERABLE, see above' if bad else 'nothing to mend'}")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
