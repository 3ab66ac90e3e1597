"""What graders expect of a row: the spec's values, or Jinja over the row in the prompts' sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from runner.errors import BatchspecError
from runner.planner.templates.environment import Templates, is_constant
from runner.planner.templates.step_limit import RowError

Row = Mapping[str, Any]
Expectation = Callable[[Row], Any]
_COLUMN = re.compile(r"^\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}$")
_RESERVED = frozenset({"row", "vars", "true", "false", "none", "True", "False", "None", "loop", "self", "super"})


def expectation(templates: Templates, value: Any, label: str) -> Expectation:
    """Return a function from a row to the expected value. Raises jinja2.TemplateError.

    A text that is one column, such as `{{ label }}`, gives the column's typed value.
    """
    if isinstance(value, list):
        members = [expectation(templates, member, label) for member in value]
        return lambda row: [member(row) for member in members]
    if isinstance(value, dict):
        fields = {name: expectation(templates, member, label) for name, member in value.items()}
        return lambda row: {name: field(row) for name, field in fields.items()}
    if not isinstance(value, str) or is_constant(value):
        return lambda _row: value
    column = _COLUMN.match(value)
    if column and column[1] not in _RESERVED:
        return _lookup(column[1], label)
    render = templates.compile_text(value, label)

    def rendered(row: Row) -> str:
        try:
            return render(templates.namespace(dict(row)))
        except RowError as error:
            raise GradingError(f"{label}: {error}") from error

    return rendered


def columns_in(value: Any) -> frozenset[str]:
    """Return names in a value's Jinja: columns that expectations may read."""
    if isinstance(value, str):
        blocks = re.findall(r"\{[{%](.*?)[}%]\}", value, re.DOTALL)
        return frozenset(name for block in blocks for name in re.findall(r"[A-Za-z_][A-Za-z0-9_]*", block))
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return frozenset().union(*map(columns_in, inner))


class GradingError(BatchspecError):
    """A row can't be graded, such as one without a column in `expect`."""

    code = "BS901"


def _lookup(name: str, label: str) -> Expectation:
    def look_up(row: Row) -> Any:
        try:
            return row[name]
        except KeyError:
            known = ", ".join(list(row)[:20])
            raise GradingError(
                f"{label}: the row has no column {name}", hint=f"its columns are: {known}", code="BS901"
            ) from None

    return look_up
