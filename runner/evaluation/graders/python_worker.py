"""A `python` grader's process, without network, programs or environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from runner.planner.confine import confine

MEMORY_BYTES = 1 << 30
CPU_SECONDS = 3_600


def main() -> None:
    """Read the grader, then a line for each answer; write a line with its score or error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the grader prints is no reply
    confine(memory=MEMORY_BYTES, seconds=CPU_SECONDS)
    grade: Callable[[Any, Any], Any] | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if grade is None:
                grade = _load(order["file"], order["source"])
                reply: dict[str, Any] = {}
            else:
                reply = {"score": _checked(grade(order["row"], order["answer"]))}
        except BaseException as error:  # noqa: BLE001  a grader may raise anything; it ends the evaluation
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _load(file: str, source: str) -> Callable[[Any, Any], Any]:
    namespace: dict[str, Any] = {"__name__": "grader", "__file__": file}
    exec(compile(source, file, "exec"), namespace)  # noqa: S102  the environment trusts it
    grade = namespace.get("grade")
    if not callable(grade):
        raise TypeError("it defines no function `grade(row, answer)`")
    return grade  # type: ignore[no-any-return]


def _checked(score: Any) -> float | None:
    if score is None:
        return None
    if not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise ValueError(f"grade() returned {str(score)[:80]}; it must return None or a number from 0 to 1")
    return float(score)
