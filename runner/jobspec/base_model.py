"""The base model of everything that people write."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

FilePath = Annotated[str, Field(min_length=1)]
"""A file's path, relative to the project's root."""


class Model(BaseModel):
    """Base of all spec models: unknown keys refused, frozen, no implicit type conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
