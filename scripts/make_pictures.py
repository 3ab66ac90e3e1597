"""Writes docs/pictures/: report and service page in a browser, plan and status in a terminal. `make docs-pictures`.

It needs Chromium as `chromium`. Everything shown comes from runs of the embedded service in a folder of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

REPOSITORY = Path(__file__).parent.parent
PICTURES = REPOSITORY / "docs" / "pictures"
FAULTS = "fail-requests=4%:content_policy"

SPEC = """\
version: 1
name: review-sentiment
provider: local
model: gpt-4o-mini
parameters: {temperature: 0, max_tokens: 40}
input: {path: data/reviews.jsonl, id: id}
prompt:
  system: You label product reviews.
  user: "Review: {{ text }}"
tolerate: 10%
output: {path: out/reviews.jsonl}
"""
WORDS = [
    "boils",
    "in",
    "two",
    "minutes",
    "the",
    "handle",
    "stays",
    "cool",
    "and",
    "it",
    "hums",
    "a",
    "little",
    "after",
    "a",
    "week",
    "but",
    "works",
    "fine",
]


def main() -> None:
    """Make all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _project(root)
        for rows in (150, 210, 240):
            _rows(root, rows)
            _run(root, "apply", "--yes", environment={"BATCHSPEC_SERVICE_FAULTS": FAULTS})
        _run(root, "report", "--out", "page.html")
        for theme, number in (("light", 1), ("dark", 0)):
            _photograph((root / "page.html").as_uri(), PICTURES / f"report-{theme}.png", root / theme, number)
        with _serve(root / "service") as url:
            settings = f"version: 1\nproject: shop\nproviders: {{far: {{kind: digitalocean, base_url: '{url}'}}}}\n"
            (root / "batchspec.yaml").write_text(settings, encoding="utf-8")
            for rows in (150, 210, 240):
                _rows(root, rows)
                _run(root, "apply", "--yes", "--provider", "far")
            _photograph(url, PICTURES / "service-page.png", root / "light", 1, (1280, 480))
        (root / "batchspec.yaml").write_text("version: 1\nproject: shop\n", encoding="utf-8")
        for width in (80, 200):
            _terminal(_run(root, "status", width=width), PICTURES / f"status-{width}.svg", width)
        _rows(root, 280)
        _terminal(_run(root, "plan", width=80), PICTURES / "plan-80.svg", 80)


def _project(root: Path) -> None:
    for folder in ("specs", "data"):
        (root / folder).mkdir()
    (root / "specs/reviews.yaml").write_text(SPEC, encoding="utf-8")
    (root / "batchspec.yaml").write_text("version: 1\nproject: shop\n", encoding="utf-8")


def _rows(root: Path, count: int) -> None:
    lines = []
    for number in range(count):
        words = [WORDS[(number * 7 + place * 5) % len(WORDS)] for place in range(3 + number * 13 % 60)]
        lines.append(f'{{"id": "r-{number}", "text": "{" ".join(words)}"}}\n')
    (root / "data/reviews.jsonl").write_text("".join(lines), encoding="utf-8")


def _run(root: Path, *arguments: str, width: int = 80, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(  # noqa: S603  our own command
        [sys.executable, "-m", "runner", *arguments],
        cwd=root,
        env={**os.environ, "COLUMNS": str(width), "NO_COLOR": "1", **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _terminal(text: str, path: Path, width: int) -> None:
    console = Console(record=True, width=width, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    console.print(Text(text.rstrip("\n")))
    console.file.close()
    drawn = console.export_svg(title="", unique_id="b", font_aspect_ratio=0.61)
    # Fonts from elsewhere are left out: a picture fetches nothing.
    drawn = re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", drawn, flags=re.DOTALL).replace(
        "Fira Code", "DejaVu Sans Mono"
    )
    path.write_text(drawn, encoding="utf-8")


@contextmanager
def _serve(data: Path) -> Iterator[str]:
    """Run a service. Yield its address, which is also the address of its page."""
    command = [sys.executable, "-m", "runner", "serve", "--port", "0", "--data", str(data), "--fault", FAULTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own command
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _photograph(page: str, picture: Path, profile: Path, theme: int, size: tuple[int, int] = (1000, 1500)) -> None:
    """One screenshot. `theme` is Chromium's number of a preferred colour scheme: 0 dark, 1 light."""
    subprocess.run(  # noqa: S603  fixed arguments
        [  # noqa: S607  chromium is wherever the user has it
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", f"--blink-settings=preferredColorScheme={theme}",
            f"--window-size={size[0]},{size[1]}",
            "--hide-scrollbars", f"--screenshot={picture}", page,
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )  # fmt: skip


if __name__ == "__main__":
    main()
