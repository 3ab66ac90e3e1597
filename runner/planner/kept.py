"""The requests of an open partition, kept until it closes: its spec, rows and request lines.

So it finishes as it started, whatever happens to its spec, template or input. They are kept before its first create. In
doubt there are none. See docs/decisions/0071-pins-of-open-partitions.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from runner.base.digest import sha256_file, sha256_hex
from runner.jobspec.loader import JobSpec
from runner.jobspec.models import Job
from runner.planner.render import Desired, input_rows
from runner.planner.spool.pins import NOT_PINNED, Pins, pins_of
from runner.planner.spool.spool import Spool
from runner.state.atomic import atomic_write, private_folder, sync_file
from runner.state.lockfile_lines import PinsLine

_FORMAT = 1
_NAME = "kept.json"
_INPUT = "input.jsonl"


@dataclass(frozen=True, slots=True)
class KeptRequests:
    """Kept requests, and their pins."""

    desired: Desired
    pins: PinsLine


def keep(folder: Path, desired: Desired, pins: PinsLine) -> None:
    """Keep a partition's requests, unless those of the same pins are kept. Raises StoreError and InputError.

    The manifest is last: a process that dies before leaves nothing that `load_kept` takes.
    """
    known = _manifest(folder)
    if known is not None and known.get("pins", {}).get("pins") == pins.pins:
        return
    drop(folder)
    private_folder(folder)
    spool = desired.spool
    spool.ensure_lines()
    files = {}
    for path in spool.files():
        _link(path, folder / path.name)
    if desired.spec.job.output.needs_input:
        with atomic_write(folder / _INPUT) as file:
            for row in input_rows(desired):
                file.write(orjson.dumps(row) + b"\n")
    for path in sorted(folder.iterdir()):
        sync_file(path)
        files[path.name] = sha256_file(path)
    manifest = {
        "format": _FORMAT,
        "pins": pins.model_dump(mode="json"),
        "made": asdict(desired.pins),
        "job": desired.spec.job.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "schema": desired.spec.schema,
        "spool": [spool.rows, spool.replicates, spool.dedupe, spool.numbered],
        "files": files,
    }
    text = orjson.dumps(manifest)
    with atomic_write(folder / _NAME) as file:
        file.write(text + b"\n" + sha256_hex(text).encode() + b"\n")


def load_kept(folder: Path, spec: JobSpec, root: Path, scratch: Path) -> KeptRequests | None:
    """Return kept requests as a rendered job, linked into `scratch`; None without any or for a damaged file.

    `spec` is today's job: fields that shape no requests or outputs, such as `retry`, come from it.
    """
    manifest = _manifest(folder)
    if manifest is None:
        return None
    try:
        job = Job.model_validate(manifest["job"])
        pins, made = PinsLine.model_validate_json(orjson.dumps(manifest["pins"])), Pins(**manifest["made"])
        scratch.mkdir(parents=True)
        for name, digest in manifest["files"].items():
            if "/" in name or sha256_file(folder / name) != digest:
                return None
            _link(folder / name, scratch / name)
        then = at_pins(spec, job, manifest["schema"])
        if pins_of(then, made.templates, made.input_digest, made.rows, made.requests) != made:
            return None
        spool = Spool(scratch, *manifest["spool"])
    except (OSError, ValueError, TypeError, KeyError, ValidationError):
        return None
    rows = scratch / _INPUT if _INPUT in manifest["files"] else None
    return KeptRequests(Desired(then, root, spool, made, kept_rows=rows), pins)


def at_pins(spec: JobSpec, job: Job, schema: Mapping[str, Any] | None) -> JobSpec:
    """Return today's `spec`, with what shapes requests and outputs from an earlier `job`."""
    today = {name: getattr(spec.job, name) for name in NOT_PINNED}
    return replace(spec, job=job.model_copy(update=today), schema=schema)


def drop(folder: Path) -> None:
    """Remove kept requests, the manifest first."""
    (folder / _NAME).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        text, checksum = (folder / _NAME).read_bytes().splitlines()
        if sha256_hex(text) != checksum.decode():
            return None
        found = orjson.loads(text)
        return found if found["format"] == _FORMAT else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # the file system does not support links
        shutil.copyfile(source, target)
