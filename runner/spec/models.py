"""What people write, as frozen values: one job of a spec file, and batchspec.yaml.

Only shapes and the rules inside one value live here. Reading YAML, places in files and rules across values are in
`runner.spec.load`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Endpoint = Literal["/v1/chat/completions", "/v1/responses"]
LineFormat = Literal["openai", "anthropic"]

MAX_REQUESTS = 50_000
"""Requests in one file, the service's limit (DigitalOcean's batch inference guide, 27 Apr 2026)."""
MAX_BYTES = 200_000_000
"""Bytes in one file; the guide says 200 MB, read as 10^6 bytes."""


class Model(BaseModel):
    """Base of everything people write: strict keys, frozen, no silent change of type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class EnvName(Model):
    """A value that stands in the environment, never in a file: `{env: NAME}`."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Name of the environment variable."
    )


class TemplateRef(Model):
    """A template file, relative to the project's root: `{template: templates/x.j2}`."""

    template: Annotated[str, Field(min_length=1)] = Field(description="Path of a Jinja template.")


def _kind_of_text(value: Any) -> str:
    return "text" if isinstance(value, str) else "file"


Text = Annotated[Annotated[str, Tag("text")] | Annotated[TemplateRef, Tag("file")], Discriminator(_kind_of_text)]
"""Inline Jinja text, or a template file."""


class Input(Model):
    """The input rows."""

    path: Annotated[str, Field(min_length=1)] = Field(
        description="File or glob, relative to the project's root; .jsonl, .ndjson, .csv or .tsv, also .gz and .zst."
    )
    format: Literal["jsonl", "csv", "tsv"] | None = Field(
        default=None, description="Said outright where the file's name does not tell."
    )
    id: str | None = Field(default=None, description="The column that holds each row's id; it must be unique.")


class Prompt(Model):
    """What is asked for each row."""

    system: Text | None = Field(default=None, description="System prompt: Jinja text or {template: FILE}.")
    user: Text = Field(description="User prompt: Jinja text or {template: FILE}.")


class Webhook(Model):
    """Where the service reports that a batch has ended."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] = Field(description="URL that is called.")
    secret: EnvName = Field(description="The signing secret, from the environment.")


class Shards(Model):
    """Limits of one uploaded file; the service's own limits by default."""

    max_requests: int = Field(default=MAX_REQUESTS, ge=1, le=MAX_REQUESTS, description="Requests in one file.")
    max_bytes: int = Field(default=MAX_BYTES, ge=1_000, le=MAX_BYTES, description="Bytes in one file.")


class Retry(Model):
    """Asking again what failed in a passing way (rate limits, server errors, timeouts, expired)."""

    rounds: int = Field(default=3, ge=1, le=20, description="Rounds in all, the first one included.")
    on: tuple[str, ...] | None = Field(
        default=None, strict=False, description="Error codes that are asked again; the defaults stand in docs/spec.md."
    )


class MaxInFlight(Model):
    """Keeps a job, or in batchspec.yaml all jobs of one command together, inside an account's queue limits."""

    shards: int | None = Field(default=None, ge=1, description="Batches that may be in flight at once.")
    tokens: int | None = Field(
        default=None, ge=1, description="Input tokens that may be in flight at once, taken as a quarter of the bytes."
    )


class Moved(Model):
    """A job that had another name: its batches and answers are those of the old one."""

    source: Annotated[str, Field(min_length=1)] = Field(alias="from", description="The address it had.")


class Output(Model):
    """Where the answers are written."""

    path: Annotated[str, Field(min_length=1)] = Field(
        description="File, relative to the project's root; must end in .jsonl."
    )

    @field_validator("path")
    @classmethod
    def _jsonl(cls, path: str) -> str:
        if not path.endswith(".jsonl"):
            raise ValueError("an output must end in .jsonl; csv and parquet are not supported yet")
        return path


class Job(Model):
    """One job: one YAML document of a spec file."""

    version: Literal[1] = Field(description="Version of the spec language.")
    name: Name = Field(description="Name of the job; its address.")
    provider: Name | None = Field(
        default=None,
        description="digitalocean, local, or a profile of batchspec.yaml; digitalocean by default.",
    )
    model: Annotated[str, Field(min_length=1)] = Field(description="Model that is asked.")
    format: LineFormat | None = Field(
        default=None, description="Line format; inferred from the model (claude-* is anthropic)."
    )
    endpoint: Endpoint | None = Field(
        default=None, description="Endpoint of the openai format; /v1/chat/completions by default."
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Fields of the request body, as they are sent."
    )
    input: Input
    prompt: Prompt
    vars: dict[str, Any] = Field(default_factory=dict, description="Values for the templates, as `vars`.")
    webhook: Webhook | None = None
    shards: Shards = Shards()
    retry: Retry = Retry()
    max_in_flight: MaxInFlight | None = None
    tolerate: str | int | float = Field(
        default=0, description="Failed requests that are accepted: a count, or a share such as 0.5%."
    )
    dedupe: bool = Field(default=True, description="Ask equal requests once and give every row the answer.")
    replicates: int = Field(default=1, ge=1, le=1_000, description="How many times each request is asked.")
    salt: str = Field(default="", description="Another value asks everything again.")
    moved: Moved | None = Field(default=None, description="Where the job was renamed: `{from: OLD}`.")
    output: Output

    @field_validator("tolerate")
    @classmethod
    def _share_or_count(cls, value: str | float) -> str | float:
        parse_tolerate(value)
        return value

    @model_validator(mode="after")
    def _format_and_endpoint(self) -> Job:
        if self.line_format == "anthropic" and self.endpoint is not None:
            raise ValueError("the anthropic format has no endpoint; remove `endpoint`")
        if self.line_format == "anthropic" and "max_tokens" not in self.parameters:
            raise ValueError("the anthropic format needs parameters.max_tokens")
        return self

    @property
    def line_format(self) -> LineFormat:
        """The line format said outright, else the one that goes with the model's name."""
        return self.format or ("anthropic" if self.model.startswith("claude-") else "openai")

    @property
    def url(self) -> str:
        """The endpoint of each request; empty for anthropic."""
        return "" if self.line_format == "anthropic" else (self.endpoint or "/v1/chat/completions")

    @property
    def provider_name(self) -> str:
        """The provider or profile; `digitalocean` where the spec names none."""
        return self.provider or "digitalocean"


class DigitalOceanProfile(Model):
    """DigitalOcean's batch API, or one that speaks the same."""

    kind: Literal["digitalocean"]
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] = "https://inference.do-ai.run"
    key: EnvName | None = Field(default=None, description="Where the access key stands; looked for by default.")
    account: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = Field(
        default="", description="Label of the account: part of the realm, so answers of accounts never mix."
    )


class LocalProfile(Model):
    """The embedded service, started on this machine when it is needed."""

    kind: Literal["local"]
    backend: Literal["echo", "smollm", "openai"] = "echo"
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = Field(
        default=None, description="For backend openai: the OpenAI-compatible server that answers."
    )
    key: EnvName | None = Field(default=None, description="For backend openai: where its key stands.")
    concurrency: int = Field(default=8, ge=1, le=1_000, description="Requests that are answered at once.")


Profile = Annotated[DigitalOceanProfile | LocalProfile, Field(discriminator="kind")]


class Settings(Model):
    """batchspec.yaml at the project's root."""

    version: Literal[1] = 1
    project: Name = Field(default="default", description="Name of the project: part of every idempotency key.")
    store: Annotated[str, Field(min_length=1)] = Field(
        default=".batchspec", description="Where the ledger and the store live."
    )
    providers: dict[str, Profile] = Field(default_factory=dict, description="Provider profiles by name.")
    max_in_flight: MaxInFlight | None = Field(default=None, description="Limits for all jobs of one command together.")

    def profile(self, name: str) -> DigitalOceanProfile | LocalProfile | None:
        """The profile called `name`; the two kinds are profiles of their own name. None where there is none."""
        if name in self.providers:
            return self.providers[name]
        if name == "digitalocean":
            return DigitalOceanProfile(kind="digitalocean")
        return LocalProfile(kind="local") if name == "local" else None


_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def parse_tolerate(value: str | float) -> tuple[float, int]:
    """`tolerate` as (share of requests, count); exactly one of them is used, the other is 0. Raises ValueError."""
    if isinstance(value, str):
        match = _SHARE.fullmatch(value.strip())
        if not match or float(match[1]) > 100:
            raise ValueError("tolerate is a count such as 3, or a share such as 0.5%")
        return float(match[1]) / 100, 0
    if isinstance(value, bool) or value < 0 or value != int(value):
        raise ValueError("tolerate is a count such as 3, or a share such as 0.5%")
    return 0.0, int(value)
