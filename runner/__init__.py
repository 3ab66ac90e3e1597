"""Batchspec: infrastructure-as-code for LLM batch jobs.

`load`, `plan`, `apply` and `results` do what the commands do; `Client` speaks the batch API itself. Names are imported
on first use, so that `import runner` stays cheap. docs/reference/python.md has examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api import apply, load, plan, results
    from runner.client import Client
    from runner.errors import BatchspecError, InputError, ProviderError, SpecError
    from runner.executor.outcome import Outcome
    from runner.jobspec.loader import Project
    from runner.reconciler.plan.plan import Plan
    from runner.report.rows import AnswerRow

__all__ = [
    "AnswerRow",
    "BatchspecError",
    "Client",
    "InputError",
    "Outcome",
    "Plan",
    "Project",
    "ProviderError",
    "SpecError",
    "apply",
    "load",
    "plan",
    "results",
]

_MODULES = {
    "runner.api": ("apply", "load", "plan", "results"),
    "runner.client": ("Client",),
    "runner.errors": ("BatchspecError", "InputError", "ProviderError", "SpecError"),
    "runner.executor.outcome": ("Outcome",),
    "runner.jobspec.loader": ("Project",),
    "runner.reconciler.plan.plan": ("Plan",),
    "runner.report.rows": ("AnswerRow",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOMES[name]), name)
