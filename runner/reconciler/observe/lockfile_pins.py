"""What a job's answers come from, as a pins line."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from runner.base.digest import digest_json
from runner.planner.render import Desired
from runner.state.lockfile_lines import PinsLine


def pins_line(desired: Desired, commit: str) -> PinsLine:
    """Return a job's pins. The digest covers only what shapes answers: not tool, commit or parts."""
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
    source = {"tool": tool(), "commit": commit, "parts": pins.parts}
    return PinsLine.model_validate({"pins": digest_json(content)[:16], **content, **source})


def tool() -> str:
    """Return the installed version of this package."""
    try:
        return version("batchspec")
    except PackageNotFoundError:
        return "0"
