"""Batchspec: infrastructure-as-code for LLM batch jobs.

`load`, `plan` and `apply` do what the commands of those names do; `Client` speaks the batch API itself. They are
imported when they are first used, so that `import runner` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api import apply, load, plan
    from runner.client import Client

__all__ = ["Client", "apply", "load", "plan"]

_HOMES = {"Client": "runner.client", "apply": "runner.api", "load": "runner.api", "plan": "runner.api"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOMES[name]), name)
