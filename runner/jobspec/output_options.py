"""`output:` - where answers are written, and which fields."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, Field, field_validator, model_validator

from runner.jobspec.base_model import FilePath, Model
from runner.jobspec.suggest import did_you_mean

OutputFormat = Literal["jsonl", "csv", "parquet"]

OUTPUT_FIELDS = ("text", "parsed", "finish_reason", "refusal", "usage", "model", "error", "request", "batch")
"""Default fields of an output row after its id, in this order."""
_CHOSEN = (*OUTPUT_FIELDS, "tool_calls", "cost", "row")


def _known_field(name: str) -> str:
    outer, _, inner = name.partition(".")
    if name not in _CHOSEN and not (outer in {"row", "parsed"} and inner):
        hint = did_you_mean(name, _CHOSEN) or f"known are: {', '.join(_CHOSEN)}, row.NAME, parsed.NAME"
        raise ValueError(f"{name[:40]} is not a field of an output ({hint})")
    return name


_PATTERN = rf"^({'|'.join(_CHOSEN)}|(row|parsed)\..+)$"
OutputField = Annotated[str, AfterValidator(_known_field), Field(json_schema_extra={"pattern": _PATTERN})]
OutputFields = Annotated[tuple[OutputField, ...], Field(max_length=1_000, json_schema_extra={"uniqueItems": True})]


class Output(Model):
    """Where the answers are written."""

    path: FilePath = Field(
        description="File, relative to the project's root: .jsonl, .csv or .parquet (the extra `duckdb`), the first "
        "two also .gz and .zst. `{{ name }}`, `{{ address }}`, `{{ model }}`, `{{ vars.NAME }}` and "
        "`{{ matrix.AXIS }}` are filled in."
    )
    format: OutputFormat | None = Field(
        default=None, description="Format, if the file's name does not end in it: jsonl, csv or parquet."
    )
    include: (
        Annotated[tuple[OutputField, ...], Field(max_length=1_000, json_schema_extra={"uniqueItems": True})] | None
    ) = Field(
        default=None,
        strict=False,
        description="Fields after the id, in this order: text, parsed, finish_reason, refusal, usage, model, error, "
        "request, batch, tool_calls, cost (USD), row (the input columns), also parsed.NAME and row.NAME. All but "
        "tool_calls, cost and row by default; tool_calls too if the job has `tools`.",
    )
    errors: FilePath | None = Field(
        default=None, description="A .jsonl file for failed rows, which `path` then leaves out."
    )

    cells: Literal["safe"] | None = Field(
        default=None,
        description="For csv that people open in spreadsheets: `safe` puts a ' before text that a spreadsheet would "
        "run as a formula. The file begins with a byte order mark, by which batchspec knows to take the ' away again.",
    )

    @field_validator("include")
    @classmethod
    def _each_once(cls, include: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if include is not None and len(set(include)) < len(include):
            raise ValueError("a field is repeated")
        return include

    @model_validator(mode="after")
    def _known_format(self) -> Output:
        if self.format is None and self._suffix() not in {".jsonl", ".csv", ".parquet"}:
            raise ValueError("`path` must end in .jsonl, .csv or .parquet; otherwise set `format`")
        if self.kind == "parquet" and self.path.endswith((".gz", ".zst")):
            raise ValueError("parquet is already compressed; remove .gz or .zst")
        if self.kind != "jsonl" and "row" in (self.include or ()):
            raise ValueError(f"a {self.kind} output names input columns one by one: row.NAME")
        if self.cells is not None and self.kind != "csv":
            raise ValueError(f"`cells` is for csv; a {self.kind} output runs no formulas")
        if self.errors is not None and not self.errors.endswith(".jsonl"):
            raise ValueError("`errors` must end in .jsonl")
        return self

    def _suffix(self) -> str:
        path = PurePosixPath(self.path)
        return path.with_suffix("").suffix if path.suffix in {".gz", ".zst"} else path.suffix

    @property
    def kind(self) -> OutputFormat:
        """Return the configured format, else that of the file's name."""
        return self.format or cast("OutputFormat", self._suffix().removeprefix("."))

    @property
    def needs_input(self) -> bool:
        """Return whether the output includes input columns."""
        return any(name.partition(".")[0] == "row" for name in self.include or ())

    @property
    def needs_cost(self) -> bool:
        """Return whether the output includes each answer's cost."""
        return "cost" in (self.include or ())
