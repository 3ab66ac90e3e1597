"""Answers that stand in outputs a job wrote elsewhere: under the path it had before, or in a file that was moved since.

Only a file whose bytes are those of a recorded output of the job is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from runner.digest import sha256_file
from runner.errors import StoreError, TrustError
from runner.executor.standing import OutputAnswers, read_output
from runner.reconciler.lockfile import OutputLine
from runner.spec.output import Output
from runner.spec.trust import inside


def older_answers(
    root: Path, output: Output, recorded: Iterable[OutputLine], own: Mapping[str, OutputAnswers], scratch: Path
) -> dict[str, OutputAnswers]:
    """The answers of a job, by batch id: those of `own`, its output of now, and what recorded ones hold beyond them.

    `recorded` are the job's lines in lockfiles, whose paths are below `root`. A batch is read from the file that holds
    the most of it.
    """
    lines = list(recorded)
    digests = {line.digest for line in lines}
    found = dict(own)
    paths = dict.fromkeys([*(() if own else (output.path,)), *sorted({line.output for line in lines} - {output.path})])
    for number, path in enumerate(paths):
        # A lockfile's path is as much a stranger's as a spec's is.
        with suppress(TrustError, StoreError):
            file = inside(root, path)
            if not file.is_file() or sha256_file(file) not in digests:
                continue
            for batch, answers in read_output(file, output, scratch / f"older-{number}").items():
                if batch not in found or answers.answered > found[batch].answered:
                    found[batch] = answers
    return found
