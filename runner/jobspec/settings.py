"""batchspec.yaml as frozen values: the project's name, its store, and provider profiles."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.jobspec.base_model import Model
from runner.jobspec.budget_options import BudgetLimits, PriceEntry
from runner.jobspec.models import EnvName, MaxInFlight, Name


class DigitalOceanProfile(Model):
    """DigitalOcean's batch API, or another service with the same API."""

    kind: Literal["digitalocean"] = Field(description="DigitalOcean's batch API, or one that speaks the same.")
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] = Field(
        default="https://inference.do-ai.run", description="Where the API is; keys go only to hosts that are trusted."
    )
    key: EnvName | None = Field(default=None, description="Environment variable of the access key; found by default.")
    account: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = Field(
        default="", description="Label of the account: part of the realm, so answers of accounts never mix."
    )
    webhook_secret: EnvName | None = Field(
        default=None,
        description="Environment variable of the secret that signs the account's webhooks, for `batchspec listen`.",
    )


class LocalProfile(Model):
    """The embedded service, started on this machine on demand."""

    kind: Literal["local"] = Field(description="The embedded service, started on this machine when it is needed.")
    backend: Literal["echo", "smollm", "openai"] = Field(
        default="echo",
        description="What answers: echo repeats the prompt, smollm is a small real model, openai another server.",
    )
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = Field(
        default=None, description="For backend openai: the OpenAI-compatible server that answers."
    )
    key: EnvName | None = Field(default=None, description="For backend openai: environment variable of its key.")
    concurrency: int = Field(default=8, ge=1, le=1_000, description="Requests that are answered at once.")


Profile = Annotated[DigitalOceanProfile | LocalProfile, Field(discriminator="kind")]


class NotifyUrl(Model):
    """Where notifications go: `{env: BATCHSPEC_NOTIFY_URL}`."""

    env: Annotated[str, Field(pattern=r"^BATCHSPEC_NOTIFY_[A-Za-z0-9_]+$")] = Field(
        description="Name of the environment variable, which begins with BATCHSPEC_NOTIFY_."
    )


class Notify(Model):
    """A message to a chat at the end of a command."""

    url: NotifyUrl = Field(description="URL that gets a POST of a JSON object with a `text`.")
    on: tuple[Literal["succeeded", "failed", "over_budget"], ...] = Field(
        default=("succeeded", "failed", "over_budget"), strict=False, min_length=1, description="What is reported."
    )


class Settings(Model):
    """batchspec.yaml at the project's root."""

    version: Literal[1] = Field(default=1, description="Version of the settings language.")
    project: Name = Field(default="default", description="Name of the project: part of every idempotency key.")
    store: Annotated[str, Field(min_length=1)] = Field(
        default=".batchspec", description="Where the ledger and the store live."
    )
    budget: BudgetLimits | None = Field(default=None, description="What one apply of all jobs may add at most.")
    prices: dict[str, PriceEntry] = Field(
        default={}, description="Prices of models, as you are billed for batches; they beat those that are known."
    )
    providers: dict[str, Profile] = Field(default={}, description="Provider profiles by name.")
    max_in_flight: MaxInFlight | None = Field(default=None, description="Limits for all jobs of one command together.")
    notify: Notify | None = Field(default=None, description="A message to a chat when jobs end.")

    def profile(self, name: str) -> DigitalOceanProfile | LocalProfile | None:
        """Return the profile called `name`, or that kind's default profile."""
        if name in self.providers:
            return self.providers[name]
        if name == "digitalocean":
            return DigitalOceanProfile(kind="digitalocean")
        return LocalProfile(kind="local") if name == "local" else None
