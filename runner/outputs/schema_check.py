"""Check answers against the job's JSON Schema.

Indexes do not depend on a schema. The result for one batch and schema is cached next to its index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.base.digest import digest_json
from runner.errors import StoreError
from runner.jobspec.loader import JobSpec
from runner.jobspec.schema_validator import MAX_STEPS, SchemaValidator, StepLimitExceeded
from runner.jobspec.strict_json import parse_strict
from runner.jobspec.tools import forced_function
from runner.outputs.result_lines import INVALID, Answer, answer_of, read_line
from runner.state.results import ENTRY, PARSER_VERSION, Entries, ResultIndex
from runner.state.sorted_file import SortedFile, save_sorted


class AnswerSchema:
    """A JSON Schema, ready to check answers."""

    def __init__(self, schema: Mapping[str, Any], function: str | None = None) -> None:
        self.digest = digest_json(schema if function is None else {"schema": schema, "function": function})[:16]
        self._function = function
        self._validator = SchemaValidator(schema)

    @classmethod
    def of(cls, spec: JobSpec) -> AnswerSchema:
        """Return a job's schema. If the model must call one function, answers are its arguments."""
        assert spec.schema is not None
        return cls(spec.schema, forced_function(spec.job.parameters))

    def parse(self, text: str) -> tuple[Any, str]:
        """Return the answer's value, and the validator's message, or "" if it fits."""
        try:
            value = parse_strict(text)
        except ValueError as error:
            return None, f"not JSON: {error}"[:500]
        return self._validate(value)

    def _validate(self, value: Any) -> tuple[Any, str]:
        try:
            first = self._validator.first_problem(value)
        except RecursionError:
            return None, "the answer is nested too deep to be checked"
        except StepLimitExceeded:
            return None, f"the schema takes more than {MAX_STEPS} steps to check this answer"
        if first is None:
            return value, ""
        where = "".join(f"/{part}" for part in first.absolute_path)
        return None, (f"at {where}: {first.message}" if where else first.message)[:500]

    def check(self, answer: Answer) -> tuple[Answer, Any]:
        """Return the answer with its value, or with an error. Refusals pass."""
        if answer.error is not None:
            return answer, None
        called = next((call for call in answer.calls if call.name == self._function), None)
        if called is not None:
            arguments = called.arguments
            value, wrong = self.parse(arguments) if isinstance(arguments, str) else self._validate(arguments)
        elif answer.text is None or (answer.calls and answer.text.isspace()):
            return answer, None
        else:
            value, wrong = self.parse(answer.text)
        return (answer._replace(error=(INVALID, wrong)), None) if wrong else (answer, value)


def checked(index: ResultIndex, schema: AnswerSchema) -> tuple[SortedFile, tuple[str, ...]]:
    """Return an index's entries and codes, with unfit answers marked `invalid`. Raises StoreError."""
    codes = (*index.summary.codes, INVALID)
    results = index.files[0]
    version = f"{schema.digest}-{index.summary.output_digest[:16]}-{len(index.entries)}-{PARSER_VERSION}"
    path = results.with_name(f"{results.name.removesuffix('.output.jsonl')}.{version}.npy")
    if not path.exists():
        entries = index.entries.all()
        entries["code"][_invalid(index, entries, schema)] = len(codes)
        return save_sorted(path, entries), codes
    try:
        return SortedFile.open(path, ENTRY), codes
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error}", hint="remove it; the answers are checked again") from error


def _invalid(index: ResultIndex, entries: Entries, schema: AnswerSchema) -> npt.NDArray[np.bool_]:
    wrong = np.zeros(len(entries), bool)
    for number, path in enumerate(index.files):
        chosen = np.flatnonzero((entries["file"] == number) & (entries["code"] == 0))
        chosen = chosen[np.argsort(entries["offset"][chosen])]
        if not len(chosen):
            continue
        with path.open("rb") as file:
            for at in chosen.tolist():
                file.seek(int(entries["offset"][at]))
                line = read_line(file.read(int(entries["length"][at])))
                wrong[at] = line is not None and schema.check(answer_of(line))[0].error is not None
    return wrong
