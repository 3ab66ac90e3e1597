"""What a job's answers come from, as the lockfile's pins line: the planner's facts, the tool and git's commit."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from runner.base.digest import digest_json
from runner.planner.render import Desired
from runner.state.lockfile_lines import PinsLine


def pins_line(desired: Desired, commit: str) -> PinsLine:
    """Return the pins of a rendered job. Its digest covers what shapes the answers, so neither the tool nor the commit.

    Nor the parts, which tell once more what the spec's digest covers.
    """
    pins = desired.pins
    content = {
        "job": desired.spec.address,
        "model": pins.model,
        "format": pins.line_format,
        "endpoint": pins.endpoint,
        "parameters": pins.parameters,
        "input": pins.input_path,
        "input_digest": pins.input_digest,
        "rows": pins.rows,
        "templates": pins.templates,
        "spec": pins.spec,
        "requests": pins.requests,
    }
    told = {"tool": tool(), "commit": commit, "parts": pins.parts}
    return PinsLine.model_validate({"pins": digest_json(content)[:16], **content, **told})


def tool() -> str:
    """Return the version of this package, as it is installed."""
    try:
        return version("batchspec")
    except PackageNotFoundError:
        return "0"
