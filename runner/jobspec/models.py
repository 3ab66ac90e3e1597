"""The spec's models: one job of a spec file, as frozen values.

Rules across values are in `runner.jobspec.loader` and `lint`.
"""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Strict, Tag, field_validator, model_validator

from runner.jobspec.base_model import FilePath, Model
from runner.jobspec.budget_options import BudgetLimits, Canary, ReviewOptions, Share, parse_share
from runner.jobspec.evaluate_options import Evaluate
from runner.jobspec.output_options import Output
from runner.jobspec.partition_options import PartitionOption, Scalar

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Endpoint = Literal["/v1/chat/completions", "/v1/responses"]
LineFormat = Literal["openai", "anthropic"]
RowFormat = Literal["jsonl", "json", "csv", "tsv", "parquet"]
Role = Literal["system", "user", "assistant"]

CLAUDE = re.compile(r"^(anthropic[-/])?claude-")
"""Names of Anthropic's models, also with a catalogue's prefix."""
MAX_REQUESTS = 50_000
"""Requests in one file, the service's limit (DigitalOcean's batch inference guide, 27 Apr 2026)."""
MAX_BYTES = 200_000_000
"""Bytes in one file. The guide's 200 MB are taken as 10^6 bytes each."""


class EnvName(Model):
    """A value from the environment, never from a file: `{env: NAME}`."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Name of the environment variable."
    )


class TemplateRef(Model):
    """A template file, relative to the project's root: `{template: templates/x.j2}`."""

    template: FilePath = Field(description="Path of a Jinja template.")


def _kind_of_text(value: Any) -> str:
    return "<text>" if isinstance(value, str) else "<file>"


def _one_or_several(value: Any) -> str:
    return "<several>" if isinstance(value, (list, tuple)) else "<one>"


# These tags can't be keys of a spec, so `runner.jobspec.validation_messages` can recognise them.
Text = Annotated[Annotated[str, Tag("<text>")] | Annotated[TemplateRef, Tag("<file>")], Discriminator(_kind_of_text)]
"""Inline Jinja text, or a template file."""
Files = Annotated[
    Annotated[tuple[FilePath, ...], Strict(False), Field(max_length=100), Tag("<several>")]
    | Annotated[FilePath, Tag("<one>")],
    Discriminator(_one_or_several),
]
Columns = Annotated[
    Annotated[tuple[FilePath, ...], Strict(False), Field(min_length=1, max_length=20), Tag("<several>")]
    | Annotated[FilePath, Tag("<one>")],
    Discriminator(_one_or_several),
]


class Sample(Model):
    """A random sample of the rows, the same on every machine."""

    n: int = Field(ge=1, le=1_000_000, description="How many rows.")
    seed: int = Field(default=0, ge=-(1 << 63), lt=1 << 63, description="A different seed selects different rows.")


class Input(Model):
    """The input rows: files (`path`), files as rows (`text`), rows in the spec (`rows`) or a query (`sql`)."""

    path: FilePath = Field(
        default="",
        description="File or glob, relative to the project's root; .jsonl, .ndjson, .json (a list), .csv, .tsv or "
        ".parquet, all but the last also .gz and .zst. `{{ vars.NAME }}` is filled in.",
    )
    text: FilePath = Field(
        default="",
        description="Glob of text files; each is a row with the columns path, name (without its suffix) and text.",
    )
    rows: tuple[dict[str, Any], ...] | None = Field(
        default=None, strict=False, description="The rows themselves, as mappings."
    )
    sql: FilePath = Field(
        default="",
        description="One SELECT over files of the project, such as SELECT * FROM 'data/*.csv' ORDER BY id; runs in "
        "DuckDB (the extra `duckdb`). Vars are parameters: $NAME.",
    )
    format: RowFormat | None = Field(default=None, description="Format, if the file's name does not end in it.")
    encoding: Annotated[str, Field(max_length=40)] = Field(
        default="utf-8", description="Encoding of text files. A byte order mark is taken away."
    )
    delimiter: Annotated[str, Field(pattern=r"^([\t -!#-/:-@\[-`{-~])?$")] = Field(
        default="", description="Separator of csv files: one character; a comma by default."
    )
    id: Columns | None = Field(
        default=None,
        description="Column, or columns, that hold each row's id; it must be unique. Without it rows are numbered "
        "from 1, and text files are called by their path.",
    )
    limit: int | None = Field(default=None, ge=1, description="Only so many rows, the first ones.")
    sample: Sample | None = Field(default=None, description="Only some rows, chosen by their content and a seed.")
    empty: Literal["warn", "error", "allow"] = Field(
        default="warn",
        description="What an input without rows means. For a period of `every`, anything but allow waits for rows, or "
        "is an error.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Input:
        given = [name for name in ("path", "text", "rows", "sql") if name in self.model_fields_set]
        if len(given) != 1:
            what = " and ".join(f"`{name}`" for name in given)
            raise ValueError(f"set one of `path`, `text`, `rows` and `sql`{', not ' + what if given else ''}")
        for name in ("format", "delimiter"):
            if getattr(self, name) and not self.path:
                raise ValueError(f"`{name}` goes with `path`")
        if self.rows is not None and not self.rows:
            raise ValueError("`rows` is empty")
        if self.limit is not None and self.sample is not None:
            raise ValueError("set `limit` or `sample`, not both")
        return self

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            codec = codecs.lookup(name)
            "".encode(name)
        except (LookupError, ValueError):
            codec = None
        if codec is None or codec.name.replace("-", "_") in _NO_ENCODINGS:
            raise ValueError(f"{name[:40]} is not a known encoding; try utf-8, latin-1, cp1252 or utf-16")
        return name

    @property
    def id_columns(self) -> tuple[str, ...]:
        """Return the columns of a row's id; none if rows are numbered."""
        if self.id is None:
            return ("path",) if self.text else ()
        return (self.id,) if isinstance(self.id, str) else self.id

    @property
    def source(self) -> str:
        """Return the source's name for messages."""
        return self.path or self.text or ("input.sql" if self.sql else "input.rows")


_NO_ENCODINGS = frozenset(
    {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf_7", "mbcs", "oem"}
)


class Message(Model):
    """One message of a conversation."""

    role: Role = Field(description="Who speaks.")
    content: Text = Field(description="The text: Jinja or {template: FILE}.")


class Turn(NamedTuple):
    """One message for rendering: role, text, and its path below `prompt`."""

    role: Role
    text: str | TemplateRef
    path: tuple[str | int, ...]


class Prompt(Model):
    """The prompt of each row: `user` with an optional `system`, or a list of `messages`."""

    system: Text | None = Field(default=None, description="System prompt: Jinja text or {template: FILE}.")
    user: Text | None = Field(default=None, description="User prompt: Jinja text or {template: FILE}.")
    messages: Annotated[tuple[Message, ...], Field(json_schema_extra={"minItems": 1})] | None = Field(
        default=None,
        strict=False,
        description="The whole conversation, in place of `system` and `user`: examples, assistant turns. "
        "A system message comes first.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Prompt:
        if self.messages is None:
            if self.user is None:
                raise ValueError("`user` is missing; or write `messages`")
            return self
        if self.user is not None or self.system is not None:
            raise ValueError("write `messages`, or `system` and `user`, not both")
        if any(message.role == "system" for message in self.messages[1:]):
            raise ValueError("only the first of `messages` can have the role system")
        if not self.messages:
            raise ValueError("`messages` is empty")
        if all(message.role != "user" for message in self.messages):
            raise ValueError("one of `messages` must have the role user")
        return self

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Return the conversation. Both notations give the same requests."""
        if self.messages is not None:
            return tuple(Turn(m.role, m.content, ("messages", n, "content")) for n, m in enumerate(self.messages))
        parts = (Turn("system", self.system or "", ("system",)), Turn("user", self.user or "", ("user",)))
        return parts if self.system is not None else parts[1:]


class Webhook(Model):
    """Where the service reports that a batch has ended."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] = Field(description="URL that is called.")
    secret: EnvName = Field(description="The signing secret, from the environment.")


class Shards(Model):
    """Limits of one uploaded file; the service's own limits by default."""

    max_requests: int = Field(default=MAX_REQUESTS, ge=1, le=MAX_REQUESTS, description="Requests in one file.")
    max_bytes: int = Field(default=MAX_BYTES, ge=1_000, le=MAX_BYTES, description="Bytes in one file.")


class Retry(Model):
    """Retries of transient errors (rate limits, server errors, timeouts, expired)."""

    rounds: int = Field(default=3, ge=1, le=20, description="Rounds in all, the first one included.")
    on: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] | None = Field(
        default=None, strict=False, description="Error codes to retry; docs/spec.md lists the defaults."
    )


class MaxInFlight(Model):
    """Keeps a job, or in batchspec.yaml all jobs of one command, within an account's queue limits."""

    shards: int | None = Field(default=None, ge=1, description="Batches that may be in flight at once.")
    tokens: int | None = Field(
        default=None, ge=1, description="Input tokens that may be in flight at once, taken as a quarter of the bytes."
    )

    @model_validator(mode="after")
    def _something(self) -> MaxInFlight:
        if self.shards is None and self.tokens is None:
            raise ValueError("set `shards`, `tokens` or both")
        return self


class Matrix(BaseModel):
    """One job for each combination of values: `model: [a, b]`, `temperature: [0, 1]`.

    An axis is `model`, `endpoint`, `format`, `template` (the user prompt's file), a parameter or a declared var.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[str, Annotated[list[Scalar], Field(min_length=1, max_length=256)]]

    include: list[dict[str, Scalar]] = Field(
        default=[],
        description="Combinations to add; one that fits combinations that are there adds its other values to those.",
    )
    exclude: list[dict[str, Scalar]] = Field(
        default=[], description="Combinations to leave out; naming some of the axes is enough."
    )

    @model_validator(mode="after")
    def _something(self) -> Matrix:
        if not self.__pydantic_extra__ and not self.include:
            raise ValueError("it has no axis, such as `model: [a, b]`")
        return self


class Moved(Model):
    """A former address of the job, or of one of its partitions."""

    from_: Annotated[str, Field(min_length=1, max_length=500)] = Field(
        alias="from", description="The job's address before: its old name, or NAME[axis=value] of one job."
    )
    added: dict[str, Scalar] = Field(
        default={},
        max_length=20,
        description="Axes of the matrix that were added since, with the value that was meant before. Jobs with these "
        "values follow the one without the axes; the others are new.",
    )
    to: Annotated[str, Field(min_length=1, max_length=500)] = Field(
        default="", description="Only this address moved, such as a partition whose value is spelled differently now."
    )

    @model_validator(mode="after")
    def _one_address(self) -> Moved:
        if self.to and ("[" not in self.from_ or self.added):
            raise ValueError("`to` goes with the whole address in `from`, and without `added`")
        return self


MovedOption = Annotated[
    Annotated[tuple[Moved, ...], Strict(False), Field(min_length=1, max_length=5_000), Tag("<several>")]
    | Annotated[Moved, Tag("<one>")],
    Discriminator(_one_or_several),
]


class Job(Model):
    """One job: a YAML document of a spec file, or one combination of its matrix."""

    SPREAD: ClassVar[frozenset[str]] = frozenset({"matrix", "partition", "vars_file", "moved"})
    """Fields that make several jobs of a document. A finished job has none of them."""

    version: Literal[1] = Field(description="Version of the spec language.")
    name: Name = Field(description="Name of the job; its address, with matrix and partition values behind it.")
    provider: Name | None = Field(
        default=None,
        description="digitalocean, local, or a profile of batchspec.yaml; digitalocean by default.",
    )
    model: Annotated[str, Field(min_length=1, max_length=200)] = Field(description="Model that is asked.")
    format: LineFormat | None = Field(
        default=None, description="Line format; inferred from the model (claude-* is anthropic)."
    )
    endpoint: Endpoint | None = Field(
        default=None, description="Endpoint of the openai format; /v1/chat/completions by default."
    )
    parameters: dict[str, Any] = Field(
        default={}, description="Fields of the request body, as they are sent; checked where they are known."
    )
    input: Input = Field(description="The input rows.")
    prompt: Prompt = Field(description="What is asked for each row.")
    answer_schema: FilePath | None = Field(
        default=None,
        alias="schema",
        description="JSON Schema file that answers must fit; it is sent along, and answers are parsed and checked.",
    )
    tags: tuple[Name, ...] = Field(
        default=(), strict=False, max_length=20, description="Names for `--select tag:NAME`; they change no request."
    )
    vars: dict[str, Any] = Field(
        default={}, description="Values for the templates, as `vars`; --var overrides those declared here."
    )
    vars_file: Files | None = Field(
        default=None, description="YAML file, or files, with more vars; `vars` wins over them."
    )
    matrix: Matrix | None = Field(default=None, description="One job for each combination of values.")
    partition: PartitionOption | None = Field(
        default=None,
        description="Var, or vars, whose value makes a job of its own: name[date=2026-11-23]. Values are periods "
        "(`every`), a list, or come from --var.",
    )
    moved: MovedOption | None = Field(
        default=None, description="The address that this job had before it was renamed; or a list of them, with `to`."
    )
    webhook: Webhook | None = Field(default=None, description="Where the service reports that a batch has ended.")
    shards: Shards = Field(default=Shards(), description="Limits of one uploaded file.")
    retry: Retry = Field(default=Retry(), description="Retries of transient errors.")
    max_in_flight: MaxInFlight | None = Field(default=None, description="How much of this job runs at once.")
    tolerate: Share = Field(
        default=0, description="Failed requests that are accepted: a count, or a share such as 0.5%."
    )
    budget: BudgetLimits | None = Field(default=None, description="What one apply of this job may add at most.")
    canary: Canary | None = Field(default=None, description="A small first batch that the rest waits for.")
    review: ReviewOptions = Field(default=ReviewOptions(), description="What a plan for a pull request may show.")
    dedupe: bool = Field(default=True, description="Ask equal requests once and give every row the answer.")
    replicates: int = Field(default=1, ge=1, le=1_000, description="How many times each request is asked.")
    salt: Annotated[str, Field(max_length=200)] = Field(default="", description="Another value asks everything again.")
    output: Output = Field(description="Where the answers are written.")
    evaluate: Evaluate | None = Field(default=None, description="How the answers are graded.")

    @field_validator("tolerate")
    @classmethod
    def _share_or_count(cls, value: str | float) -> str | float:
        parse_share(value)
        return value

    @property
    def moves(self) -> tuple[Moved, ...]:
        """Return the former addresses."""
        return self.moved if isinstance(self.moved, tuple) else () if self.moved is None else (self.moved,)

    @property
    def line_format(self) -> LineFormat:
        """Return the configured format, else the model's."""
        return self.format or ("anthropic" if CLAUDE.match(self.model) else "openai")

    @property
    def url(self) -> str:
        """Return the endpoint of each request; empty for anthropic."""
        return "" if self.line_format == "anthropic" else (self.endpoint or "/v1/chat/completions")

    @property
    def provider_name(self) -> str:
        """Return the provider or profile."""
        return self.provider or "digitalocean"
