"""A program: run the fuzz targets in rounds, each with another seed, until a time budget is spent.

`BATCHSPEC_FUZZ_SECONDS` is the budget, 600 by default; a round that has begun ends. `BATCHSPEC_FUZZ_SEED` is the first
round's seed, 0 by default. A failure ends it with the seed to repeat. The same tests run in `make test` with few
examples that never change.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

TARGETS = (
    "tests/jobspec/test_fuzz.py",
    "tests/planner/templates/test_template_fuzz.py",
    "tests/state/test_lockfile.py::test_whatever_bytes_stand_in_it_it_is_read_or_its_line_is_named",
    "tests/reconciler/test_planfile.py::test_what_is_no_plan_is_refused_in_a_sentence",
    "tests/reconciler/test_planfile.py::test_numbers_of_any_size_never_allow_more_than_a_fresh_plan",
    "tests/outputs/test_odd_lines.py::test_no_mutation_makes_an_answer_of_nothing",
    "tests/outputs/test_line_scanner.py",
)
"""Specs, templates, lockfiles, saved plans and result lines."""


def main() -> int:
    """Return the exit code: pytest's, if a round fails."""
    seconds = float(os.environ.get("BATCHSPEC_FUZZ_SECONDS", "600"))
    seed = int(os.environ.get("BATCHSPEC_FUZZ_SEED", "0"))
    end, rounds = time.monotonic() + seconds, 0
    while rounds == 0 or time.monotonic() < end:
        command = [sys.executable, "-m", "pytest", "-q", f"--hypothesis-seed={seed + rounds}", *TARGETS]
        code = subprocess.run(command, env={**os.environ, "BATCHSPEC_FUZZ": "1"}, check=False).returncode
        if code:
            print(f"round {rounds + 1} failed; repeat it with BATCHSPEC_FUZZ_SEED={seed + rounds}")
            return code
        rounds += 1
    print(f"{rounds} rounds of {len(TARGETS)} targets are clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())
