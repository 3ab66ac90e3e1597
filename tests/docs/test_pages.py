"""The pages of docs/ are true: their commands run and print what they show, their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli_runner import cli_path
from tests.conftest import REPOSITORY
from tests.sampling import sampled

DOCS = REPOSITORY / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md"))
RUN = [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>\w*)(?: title=\"(?P<title>[^\"]+)\"| [a-z]+)?\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    kind: str
    title: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for found in _FENCE.finditer(page.read_text(encoding="utf-8")):
        text = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(found["kind"], found["title"] or "", text)


def put(root: Path, block: Block) -> None:
    """Write a block with a title as the file of that name."""
    target = root / block.title
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(block.text, encoding="utf-8")


def steps(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Commands of a console block, each with the lines that are shown below it."""
    command = ""
    shown: list[str] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line[2:], []
        else:
            shown.append(line)
    if command:
        yield command, shown


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_every_how_to_is_run() -> None:
    assert len(RUN) >= 8
    for page in RUN:
        if page.name not in {"ci.md", "evaluate-migrate.md"}:  # the first has tests of its own, the second is tables
            assert any(block.kind == "console" for block in blocks(page)), page


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("page", sampled(RUN, 3), ids=name)
def test_what_a_page_says_happens(page: Path, tmp_path: Path) -> None:
    """In order: files with a title are written, commands run, and each line shown comes in the output; … is anything."""
    root = tmp_path / "project"
    root.mkdir()
    for block in blocks(page):
        if block.title:
            put(root, block)
        if block.kind != "console":
            continue
        for command, shown in steps(block):
            done = subprocess.run(
                ["bash", "-c", command], cwd=root, text=True, timeout=120, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout}"
            check(command, shown, done.stdout)


def check(command: str, shown: list[str], output: str) -> None:
    lines = [" ".join(line.split()) for line in output.splitlines()]
    at = 0
    for wanted in shown:
        if wanted.strip() in {"…", ""}:
            continue
        pattern = re.compile(".*".join(re.escape(" ".join(part.split())) for part in wanted.split("…")))
        matching = (n for n in range(at, len(lines)) if pattern.search(lines[n]))
        found = next(matching, None)
        assert found is not None, f"$ {command}\nshows no line: {wanted}\n--- after line {at} of:\n{output}"
        at = found + 1


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "errors"], ids=name)
def test_commands_that_are_not_run_have_verbs_and_options_that_exist(page: Path) -> None:
    """Those of the errors' pages are all run, by test_errors.py; some are wrong on purpose."""
    for block in blocks(page):
        if block.kind not in {"sh", "console"}:
            continue
        for line in block.text.splitlines():
            found = re.search(r"(?<![\w./-])batchspec ([a-z]+)\b([^|;&#]*)", line)
            if found is None or "pip install" in line:
                continue
            help_text = help_of(found[1])
            for option in re.findall(r"(?<=\s)--[a-z-]+", found[2]):
                assert option in help_text, f"{line}: {found[1]} has no option {option}"


_HELPS: dict[str, str] = {}


def help_of(verb: str) -> str:
    """A verb's help, out of the page that is made from all of them."""
    if not _HELPS:
        text = (DOCS / "reference/commands.md").read_text()
        for part in re.split(r"^### batchspec ", text, flags=re.MULTILINE)[1:]:
            _HELPS[part.split("\n", 1)[0]] = part
    assert verb in _HELPS, f"there is no command {verb}"
    return _HELPS[verb]


def test_the_page_of_commands_is_fresh() -> None:
    """`make docs-commands` writes it."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.insert(0, 'scripts'); import make_commands; print(make_commands.text(sys.argv[1:]), end='')",
         cli_path()],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert (DOCS / "reference/commands.md").read_text(encoding="utf-8") == done.stdout


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [REPOSITORY / "README.md", *PAGES], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(there), f"{name(page)} links to {target}; there is no such heading"


def test_the_sites_pages_are_there() -> None:
    listed = re.findall(r'"([^"]+\.md)"', (REPOSITORY / "zensical.toml").read_text())
    assert len(listed) == len(set(listed)) > 20
    for page in listed:
        assert (DOCS / page).is_file(), f"zensical.toml lists {page}, which is not there"
