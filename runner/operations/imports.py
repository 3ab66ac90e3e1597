"""Imports a batch created elsewhere. The uploaded file gives its request keys."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from runner.base import lfs
from runner.base.digest import sha256_file
from runner.base.keys import DIGEST_BYTES, KEY_BYTES, body_digest, key_state
from runner.base.repository_paths import open_named
from runner.context import Context
from runner.errors import BatchspecError, InputError, NotFound, NotReady, Problem
from runner.executor.fetch import fetch_batch
from runner.jobspec.loader import JobSpec
from runner.planner.requests.canonical import body_of, canonical
from runner.planner.spool.spool import Spool
from runner.providers.protocol import RemoteBatch
from runner.reconciler.observe.batches import to_lockfile_line
from runner.state.lockfile_lines import BatchLine
from runner.state.locks import write_lock
from runner.state.results import CustomIdMap, ResultStore, save_keys

MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Imported:
    """An imported batch, with a count of its bodies by digest."""

    batch: RemoteBatch
    asked: Mapping[bytes, int]

    @property
    def requests(self) -> int:
        """The number of requests."""
        return sum(self.asked.values())

    def used_by(self, spool: Spool) -> int:
        """Return how many of the requests a job has."""
        digests = np.array(sorted(self.asked), f"S{DIGEST_BYTES}")
        found = 0
        for _, _, _, group in spool.groups():
            at = np.minimum(np.searchsorted(digests, group), len(digests) - 1)
            for digest, rows in zip(*np.unique(group[digests[at] == group], return_counts=True), strict=True):
                asks = spool.replicates * (1 if spool.dedupe else int(rows))
                found += min(asks, self.asked[bytes(digest).ljust(DIGEST_BYTES, b"\0")])
        return found


def import_batch(context: Context, spec: JobSpec, batch_id: str, requests: Path) -> Imported:
    """Import a batch into a job, using the uploaded file. Importing again restores lost keys.

    Raises InputError if the file is not in the job's format. Raises BatchspecError if the batch is known, belongs to
    another job, or does not match the file. Raises ProviderError.
    """
    remote = context.api(spec).get_batch(batch_id)
    mapping = _read(spec, requests)
    if remote.counts.total not in (0, len(mapping)):
        raise BatchspecError(
            f"batch {batch_id} has {remote.counts.total:,} requests, and {requests} has {len(mapping):,}",
            hint="give the file that was uploaded for this batch",
            code="BS805",
        )
    theirs = remote.metadata.get("job")
    if theirs is not None and theirs not in context.names(spec):
        raise BatchspecError(
            f"batch {batch_id} was made by the job {theirs}, and batches belong to one job",
            hint=f"import it there; or, if the job was renamed, write `moved: {{from: {theirs}}}`",
            code="BS805",
        )
    realm, names = context.realm(spec), context.names(spec)
    results = realm.results
    with write_lock(context.places.lock(spec.lock_path)):
        for path in context.lock_paths():
            line = context.lockfile(path).batches.get(batch_id)
            if line is not None and (line.job not in names or results.imported_ids(batch_id) is not None):
                raise BatchspecError(
                    f"batch {batch_id} is known already, as one of {line.job} in {path}",
                    hint=f"there is nothing to do; `batchspec forget {line.job}` would let it go",
                    code="BS805",
                )
        digest = sha256_file(requests)
        keys = np.sort(np.array(list(mapping.values()), f"S{KEY_BYTES}"))
        results.forget_index(batch_id)
        if remote.ended:
            _check_answers(context, spec, results, remote, CustomIdMap(keys, mapping), requests)
        # The id map comes first: without it the answers have no keys, and the batch's line would block the job.
        results.folder.mkdir(parents=True, exist_ok=True)
        results.save_imported_ids(batch_id, mapping)
        realm.shards.mkdir(parents=True, exist_ok=True)
        save_keys(realm.shards / f"{digest}.keys.npy", keys)
        line = to_lockfile_line(remote, spec.address, realm.name, None)
        line = line.model_copy(
            update={
                "shard": digest,
                "requests": len(mapping),
                "bytes": requests.stat().st_size,
                "attempt": 1,
                "round": 1,
            }
        )
        lockfile = context.lockfile(spec.lock_path)
        context.save_lockfile(spec.lock_path, lockfile.with_batches([line]))
    return Imported(remote, Counter(key[:DIGEST_BYTES] for key in mapping.values()))


def is_imported(context: Context, line: BatchLine) -> bool:
    """Return whether only the lockfile ties a batch to its job."""
    return not line.request_id or context.realm_called(line.realm).results.imported_ids(line.batch) is not None


def _check_answers(
    context: Context, spec: JobSpec, store: ResultStore, batch: RemoteBatch, mapping: CustomIdMap, requests: Path
) -> None:
    try:
        summary = fetch_batch(context, spec.profile, store, batch, mapping, ended_by=context.now()).summary
    except (NotFound, NotReady):
        return  # apply reports it
    if summary.unknown and not summary.answers + summary.failures:
        store.forget_index(batch.batch_id)
        raise BatchspecError(
            f"batch {batch.batch_id} answers none of the requests in {requests}",
            hint="give the file that was uploaded for this batch",
            code="BS805",
        )


def _read(spec: JobSpec, path: Path) -> dict[str, bytes]:
    job = spec.job
    state = key_state(job.line_format, job.url, job.salt)
    found: dict[str, bytes] = {}
    asked: Counter[bytes] = Counter()
    problems: list[Problem] = []
    try:
        with open_named(path) as file:
            if lfs.is_pointer(file.peek(len(lfs.MARK) + 1)):
                raise BatchspecError(f"{path} is a Git LFS pointer, not the file itself", hint=lfs.HINT, code="BS805")
            for number, line in enumerate(file, 1):
                raw = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if not raw.strip():
                    continue
                wrong = _take(spec, raw, state, found, asked)
                if wrong and len(problems) < MAX_PROBLEMS:
                    problems.append(Problem(str(path), number, 0, wrong, code="BS805"))
    except OSError as error:
        raise BatchspecError(f"{path} can't be read: {error.strerror or error}", code="BS805") from error
    if problems:
        raise InputError(problems)
    if not found:
        raise BatchspecError(
            f"{path} holds no requests", hint="give the file that was uploaded for this batch", code="BS805"
        )
    return found


def _take(spec: JobSpec, raw: bytes, state: object, found: dict[str, bytes], asked: Counter[bytes]) -> str:
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error.msg}"
    custom_id = line.get("custom_id") if isinstance(line, dict) else None
    if not isinstance(custom_id, str):
        return "the line has no custom_id"
    body = body_of(spec.job, line)
    if body is None:
        where = spec.job.url or "the anthropic format"
        return f"the line is not a request of {spec.address}, which asks {where}"
    if custom_id in found:
        return f"the custom_id {custom_id} is in this file already"
    digest = body_digest(state, canonical(spec.job, body))  # type: ignore[arg-type]
    found[custom_id] = digest + asked[digest].to_bytes(4, "big")
    asked[digest] += 1
    return ""
