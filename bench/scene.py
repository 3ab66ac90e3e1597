"""The project that is measured: made-up reviews, one job, and, where asked for, all of it answered.

python -m bench.scene FOLDER ROWS [--answered]
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.instant import Instant
from bench.rows import write_rows

SPEC = """\
version: 1
name: reviews
provider: local
model: gpt-4o-mini
parameters: {temperature: 0, max_tokens: 16}
input: {path: data/reviews.jsonl, id: review_id}
prompt:
  system: You label product reviews. Answer with one word.
  user: {template: templates/sentiment.j2}
vars: {labels: [positive, negative, mixed]}
output: {path: out/reviews.jsonl}
"""
TEMPLATE = """\
Review of "{{ product }}" ({{ stars }} of 5 stars):

{{ text }}

Is this review {{ vars.labels | join(", ") }}? Answer with one of these words.
"""


def make(root: Path, rows: int) -> None:
    """Write the project with its input."""
    files = {
        "batchspec.yaml": "version: 1\nproject: bench\n",
        "specs/reviews.yaml": SPEC,
        "templates/sentiment.j2": TEMPLATE,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    (root / "data").mkdir(exist_ok=True)
    write_rows(root / "data" / "reviews.jsonl", rows)


def answer(root: Path) -> None:
    """Apply it at a service that answers at once, so that nothing is left to do."""
    from runner.api import load, open_project  # noqa: PLC0415  making a project needs nothing of it
    from runner.jobspec.realm import realm_of  # noqa: PLC0415

    project = load(root=root)
    with open_project(project) as opened:
        opened.context._apis[realm_of(project.jobs[0])] = Instant(root / "service")  # noqa: SLF001
        planned = opened.plan(project.jobs)
        (outcome,) = opened.apply(planned)
    if outcome.end != "succeeded":
        raise SystemExit(f"{outcome.end}: {outcome.message}")


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
    if "--answered" in sys.argv:
        answer(Path(sys.argv[1]))
