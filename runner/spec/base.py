"""The base of everything people write."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Base of everything people write: strict keys, frozen, no silent change of type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
