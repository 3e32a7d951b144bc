"""What the documents print is true: settings, commands, links, lines of the log, ordering keys."""

from __future__ import annotations

import ast
import gc
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ROOT
from zoomrelay.cli.commands import COMMANDS
from zoomrelay.cli.entry import run
from zoomrelay.config import load
from zoomrelay.intake.identity import VOLATILE_FIELDS, Identifier
from zoomrelay.intake.path_ledger import CLEAN_MARGIN_SECONDS, UNCLEAN_MARGIN_SECONDS

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
NAMES = {document: str(document.relative_to(ROOT)) for document in DOCUMENTS}
SHELLS = ("sh", "bash", "console")
A_SOURCE = '[sources.main]\nclient_id = "a"\nclient_secret = "b"\n'


def _blocks(document: Path, *languages: str) -> Iterator[tuple[int, str]]:
    """The fenced blocks in these languages, with the number of their first line."""
    text = document.read_text()
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if found[1] in languages:
            yield text.count("\n", 0, found.start(2)) + 1, found[2]


def _all(*languages: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{NAMES[document]}:{line}")
        for document in DOCUMENTS
        for line, block in _blocks(document, *languages)
    ]


# --- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", _all("toml"))
def test_every_toml_block_is_a_configuration(tmp_path: Path, block: str) -> None:
    given = tomllib.loads(block)
    text = block if "sources" in given else f"{block}\n{A_SOURCE}"
    for name, source in given.get("sources", {}).items():
        if not {"client_secret", "client_secret_file"} & source.keys():
            (tmp_path / f"sources.{name}.client_secret").write_text("secret")
    file = tmp_path / "zoomrelay.toml"
    file.write_text(_with_files(text, tmp_path))
    assert load(file, environ={}, secrets_directory=tmp_path).config.sources


def _with_files(text: str, directory: Path) -> str:
    """The same with paths to files that are there."""
    address = directory / "address"
    address.write_text("https://alive.example/made-up\n")
    text = re.sub(r'^(ping_url_file\s*=\s*)"[^"]+"', rf'\1"{address}"', text, flags=re.MULTILINE)
    there = directory / "made-up"
    there.write_text("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")  # good for every kind of secret
    return re.sub(r'^(\s*(?!ping_url)[\w-]+_file\s*=\s*)"[^"]+"', rf'\1"{there}"', text, flags=re.MULTILINE)


def test_there_are_toml_blocks() -> None:
    assert len(_all("toml")) >= 2


# --- commands ---------------------------------------------------------------------------------------


def _commands() -> list[Any]:
    """Every call of zoomrelay in a block for a shell: what stands behind the program's name."""
    found = [
        (arguments, f"{NAMES[document]}:{first + number}")
        for document in DOCUMENTS
        for first, block in _blocks(document, *SHELLS)
        for number, line in enumerate(block.splitlines())
        if (arguments := _call(line))
    ]
    return [pytest.param(arguments, id=f"{where} {arguments[0]}") for arguments, where in found]


def _call(line: str) -> list[str]:
    """`zoomrelay status --json | jq` -> [status, --json]; empty where zoomrelay is not called."""
    try:
        words = shlex.split(line.removeprefix("$ "), comments=True)
    except ValueError:
        return []
    for at, word in enumerate(words[:-1]):
        # An image, a service or a directory of that name is followed by something else.
        if word.rpartition("/")[2] == "zoomrelay" and re.fullmatch(r"[a-z]+", words[at + 1]):
            rest = words[at + 1 :]
            end = next((n for n, one in enumerate(rest) if re.match(r"[|>&;]|2>", one)), len(rest))
            if rest[0] != "zoomrelay":
                return rest[:end]
    return []


@pytest.mark.parametrize("arguments", _commands())
def test_every_printed_command_exists(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments[0] in COMMANDS
    told = _help([arguments[0]], capsys)
    if "COMMAND [ARGS]" in told and len(arguments) > 1:
        told = _help(arguments[:2], capsys)
    flags = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    assert [flag for flag in flags if not re.search(rf"{flag}\b", told)] == []


def _help(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run([*command, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("block", _all(*SHELLS))
def test_every_printed_target_of_make_exists(block: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)) <= targets


# --- links ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES.values())
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# One heading, `code`\n[x](#one-heading-code) [y](b.md)")
    with pytest.raises(AssertionError, match=r"b\.md"):
        test_every_relative_link_leads_somewhere(document)


# --- the log ----------------------------------------------------------------------------------------


@cache
def _strings_of_the_code() -> frozenset[str]:
    """Every constant text of the package, those that go over several lines joined."""
    files = [file.read_text() for file in ROOT.glob("zoomrelay/**/*.py")]
    gc.disable()  # a finalizer in the middle of `ast.parse` breaks that (CPython 3.11)
    try:
        trees = [ast.parse(file) for file in files]
    finally:
        gc.enable()
    nodes = (node for tree in trees for node in ast.walk(tree))
    return frozenset(
        node.value for node in nodes if isinstance(node, ast.Constant) and type(node.value) is str
    )


def _spans(text: str) -> list[str]:
    """What stands between backticks outside of blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


SET_UP = (ROOT / "docs" / "zoom-setup.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def test_lines_of_the_log_are_those_of_the_code() -> None:
    spans = [span for span in _spans(SET_UP + OPERATIONS) if " = " not in span and ".sqlite" not in span]
    lines = [re.match(r"(?:session|auth|sink|gap|spool|config)\.[a-z_]+(?= |$)", span) for span in spans]
    happenings = {found[0] for found in lines if found}
    assert len(happenings) >= 15
    assert happenings <= _strings_of_the_code()


def test_values_in_the_log_are_those_of_the_code() -> None:
    values = re.findall(r"\b(?:reason|cause|next)=(\w+)", SET_UP + OPERATIONS)
    assert len(set(values)) >= 15
    assert {value for value in values if not value.startswith("http_")} <= _strings_of_the_code()


@pytest.mark.parametrize("block", _all("json"))
def test_printed_log_lines_are_whole_and_their_cures_the_code_s(block: str) -> None:
    for line in block.splitlines():
        entry = json.loads(line)
        if "cure" in entry:
            assert entry["cure"] in _strings_of_the_code()


# --- architecture -----------------------------------------------------------------------------------

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_floors_are_those_of_the_import_contract() -> None:
    contract = (ROOT / ".importlinter").read_text().partition("layers =\n")[2].partition("\n\n")[0]
    floors = contract.replace("zoomrelay.", "").replace("    ", "").strip()
    assert f"```\n{floors}\n```" in ARCHITECTURE


def test_volatile_fields_and_margins_are_those_of_the_code() -> None:
    identity = ARCHITECTURE.partition("## Identity")[2].partition("\n## ")[0]
    assert all(f"`{field}`" in identity for field in VOLATILE_FIELDS)
    assert f"| {CLEAN_MARGIN_SECONDS:g} s before that |" in ARCHITECTURE
    assert ARCHITECTURE.count(f"| {UNCLEAN_MARGIN_SECONDS:g} s before the last") == 2


# --- ordering keys ----------------------------------------------------------------------------------


def _key_paths() -> list[str]:
    table = ARCHITECTURE.partition("## Ordering keys")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(payload\.[^`]+)`", table, re.MULTILINE)


@pytest.mark.parametrize("path", _key_paths())
def test_ordering_keys_are_read_where_the_table_says(path: str) -> None:
    assert Identifier("main").read(_event({path: "here"}), "sub", 0).key == "here"


def test_the_table_of_ordering_keys_is_in_order_of_precedence() -> None:
    paths = _key_paths()
    assert len(paths) >= 12
    for first, second in pairwise(paths):
        read = Identifier("main").read(_event({first: "first", second: "second"}), "sub", 0)
        assert read.key == "first", (first, second)


def _event(values: dict[str, str]) -> bytes:
    """An event with these values at these dotted paths; `[0]` is a list's only entry."""
    event: dict[str, Any] = {"event": "some.event"}
    for path, value in values.items():
        at = event
        *way, last = path.split(".")
        for step in way:
            name, bracket, _ = step.partition("[")
            at = at.setdefault(name, [{}])[0] if bracket else at.setdefault(name, {})
        at[last] = value
    return json.dumps(event).encode()


# --- capacity ---------------------------------------------------------------------------------------


def test_the_table_of_capacity_has_the_rows_of_the_bench() -> None:
    section = OPERATIONS.partition("## Capacity\n")[2].partition("\n##")[0]
    titles = {
        title for title in re.findall(r"^\| ([a-z][^|]+?) \|", section, re.MULTILINE) if title != "sinks"
    }
    bench = (ROOT / "bench" / "capacity.py").read_text()
    assert len(titles) >= 12
    assert {title for title in titles if re.sub(r" at [\d,]+/s$", "", title) not in bench} == set()
