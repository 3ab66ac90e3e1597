"""The `python` grader: project code, which needs the environment's trust."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from runner.base.repository_paths import TooLarge, check_ignored, read_inside
from runner.errors import TrustError
from runner.evaluation.answers import Answer
from runner.evaluation.expectations import GradingError, Row
from runner.evaluation.graders.compiled import NOTHING, Grade
from runner.jobspec.evaluate_options import PythonGrader
from runner.planner.confine import import_path

TRUST_PYTHON = "BATCHSPEC_TRUST_PYTHON"
TWICE = 100
"""Answers that are graded twice, by processes with different hash seeds: a score must be a pure function."""
SOURCE_BYTES = 1_000_000
ROW_SECONDS = 60.0
"""The longest that one answer may take."""
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from runner.evaluation.graders.python_worker import main; main()"


def is_trusted(environ: Mapping[str, str]) -> bool:
    """Return whether the environment allows `python` graders."""
    return environ.get(TRUST_PYTHON) == "1"


class PythonGrading:
    """Grades with a Python file. Its processes end with the context."""

    def __init__(self, name: str, model: PythonGrader, root: Path) -> None:
        self._label = f"evaluate.graders.{name}"
        self._path = model.answer or "text"
        self._file = model.file
        self._root = root
        self._graded = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        source = self._read(self._root)
        try:
            for seed in ("0", "1"):
                self._processes.append(self._start(seed))
                self._ask(self._processes[-1], {"file": self._file, "source": source})
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()
            process.wait()
        self._processes.clear()

    def grade(self, answer: Answer, row: Row) -> Grade:
        """Grade one answer. Raises GradingError."""
        value = answer.at(self._path)
        if value is None:
            return NOTHING
        order = {"row": dict(row), "answer": value}
        first, *others = self._processes
        score = self._ask(first, order)
        if self._graded < TWICE:
            self._graded += 1
            if any(self._ask(other, order) != score for other in others):
                raise GradingError(
                    f"{self._label}: {self._file} gave two scores for one answer",
                    hint="a grader must not depend on time, random numbers or the order of sets",
                )
        return NOTHING if score is None else Grade(score)

    def _read(self, root: Path) -> str:
        try:
            check_ignored(root, self._file)
            return read_inside(root, self._file, SOURCE_BYTES).decode()
        except (OSError, ValueError, TooLarge, TrustError) as error:
            raise GradingError(f"{self._label}: {self._file} can't be read: {error}") from error

    def _start(self, seed: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  our own program, no shell
            [sys.executable, "-B", "-s", "-P", "-c", _BOOT, *import_path()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._root,
            env={"PYTHONHASHSEED": seed},
        )

    def _ask(self, process: subprocess.Popen[bytes], order: Mapping[str, Any]) -> float | None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], ROW_SECONDS)
            line = process.stdout.readline() if ready else b""
        except BrokenPipeError:
            line = b""
        if not line:
            raise GradingError(
                f"{self._label}: {self._file} ended or took more than {ROW_SECONDS:.0f} s",
                hint="it may use 1 GiB of memory, no network and no other programs",
            )
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise GradingError(f"{self._label}: {self._file}: {reply['error']}")
        score: float | None = reply.get("score")
        return score
