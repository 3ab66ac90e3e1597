"""Upload a shard, then create a batch. The ledger records the intent before each step.

What if the process dies here? Before the upload: nothing happened. After it: the ledger knows the file, or it is
uploaded again; files cost nothing. Between create and response: the same facts give the same `request_id`. So the next
run finds the batch in the list, or sends the key again and gets the existing batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runner.context import Context, Realm
from runner.errors import (
    Conflict,
    ConflictError,
    NotFound,
    OutOfMoney,
    QueueFull,
    RateLimited,
    Rejected,
    ServerError,
    Unauthorized,
    Unreachable,
)
from runner.executor.threads import TransferProgress
from runner.jobspec.loader import JobSpec
from runner.jobspec.trust import resolve_webhook_secret
from runner.planner.shards import Shard
from runner.providers.protocol import BatchApi, CreateRequest, RemoteBatch
from runner.reconciler.observe.batch_list import list_back
from runner.reconciler.observe.batches import BatchRecord, to_lockfile_line
from runner.reconciler.plan.idempotency import matches_create, metadata, request_id
from runner.state.atomic import sync_file
from runner.state.ledger import Create, Ledger
from runner.state.lockfile_lines import BatchLine
from runner.state.results import save_keys

MAX_ATTEMPTS = 5
"""How often to send one create request, with the same key."""
MAX_RATE_LIMIT_WAIT = 20.0
"""Longest wait (seconds) for a rate limit while the lockfile's lock is held."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Where a job's shards go. `idempotent`: the service keeps idempotency keys."""

    context: Context
    spec: JobSpec
    realm: Realm
    api: BatchApi
    ledger: Ledger
    sent: TransferProgress
    idempotent: bool


def key_of(project: str, address: str, shard: Shard, batches: Sequence[BatchRecord]) -> tuple[int, str]:
    """Return number and idempotency key of a shard's next attempt. `batches` are all of its address."""
    attempt = 1 + sum(1 for known in batches if known.line.shard == shard.digest and known.ended)
    return attempt, request_id(project, address, shard.digest, attempt)


def submit(
    target: Submission, shard: Shard, number: int, batches: Sequence[BatchRecord], pins: str
) -> tuple[BatchLine, RemoteBatch]:
    """Submit a shard exactly once, in round `number`. `batches` are all of its address.

    Raises ConflictError for something else under the key, or ProviderError.
    """
    assert shard.path is not None
    sync_file(shard.path)
    save_keys(target.realm.shards / f"{shard.digest}.keys.npy", shard.keys)
    address, project = target.spec.address, target.context.name
    attempt, identity = key_of(project, address, shard, batches)
    webhook = _webhook(target)
    for fresh in (False, True):
        file_id, remembered = _uploaded(target, shard, fresh)
        create = Create(
            target.realm.name,
            identity,
            address,
            shard.digest,
            file_id,
            shard.requests,
            shard.bytes,
            attempt,
            number,
            "intended",
            None,
            target.context.now(),
        )
        order = CreateRequest(
            file_id,
            target.spec.job.line_format,
            target.spec.job.url,
            identity,
            metadata(project, address, shard.digest, attempt, number),
            webhook,
        )
        unconfirmed = target.ledger.is_intended(target.realm.name, identity)
        target.ledger.create_intended(create)
        try:
            remote = _create(target, order, shard, unconfirmed=unconfirmed)
        except (NotFound, Rejected):
            target.ledger.refused(target.realm.name, identity)
            # The service may have deleted a file that the ledger remembers: try once more with a new upload.
            target.ledger.forget_upload(target.realm.name, file_id)
            if not remembered:
                raise
            continue
        target.ledger.created(target.realm.name, identity, remote.batch_id)
        return to_lockfile_line(remote, address, target.realm.name, create).model_copy(update={"pins": pins}), remote
    raise AssertionError("the second upload is fresh and returns or raises")


def _uploaded(target: Submission, shard: Shard, fresh: bool) -> tuple[str, bool]:
    now = target.context.now
    known = None if fresh else target.ledger.upload_of(target.realm.name, shard.digest, target.spec.address, now())
    if known is not None:
        return known, True
    assert shard.path is not None
    for last in (False, False, True):
        intent = target.api.create_file(f"{shard.digest[:32]}.jsonl", shard.bytes)
        target.ledger.upload_intended(target.realm.name, shard.digest, intent.file_id, now())
        try:
            target.api.upload(intent, shard.path, target.sent.add)
        except Unauthorized:
            if last:
                raise
            continue  # the upload URL has expired; a new intent gives a new one
        target.ledger.uploaded(target.realm.name, shard.digest, intent.file_id, now())
        return intent.file_id, False
    raise AssertionError("the last try returns or raises")


def _create(target: Submission, order: CreateRequest, shard: Shard, *, unconfirmed: bool) -> RemoteBatch:
    """Send the create request until its outcome is known. Check the list before each retry.

    unconfirmed: an earlier create with this key got no response. A refusal proves nothing about it, so its intent
    stays.

    Otherwise an unknown outcome leaves the intent for the next round. Without idempotency keys, never ask twice: only
    time shows whether the first create worked.
    """
    for attempt in range(MAX_ATTEMPTS):
        try:
            return _verified(target.api.create_batch(order), shard, order)
        except (OutOfMoney, QueueFull):
            if not unconfirmed:
                target.ledger.refused(target.realm.name, order.request_id)
            raise
        except RateLimited as limited:
            wait = 2.0**attempt if limited.retry_after is None else limited.retry_after
            if attempt == MAX_ATTEMPTS - 1 or wait > MAX_RATE_LIMIT_WAIT:
                raise
            target.context.sleep(wait)
        except Conflict as conflict:
            return _verified(_find_by_key(target, order, conflict), shard, order)
        except (Unreachable, ServerError) as lost:
            unconfirmed = True
            target.context.watcher.event("create.lost", job=target.spec.address, reason=lost.message)
            if attempt == MAX_ATTEMPTS - 1 or not target.idempotent:
                raise
            target.context.sleep(2.0**attempt)
            found = _find(target, order)
            if found is not None:
                return _verified(found, shard, order)
    raise AssertionError("the last try returns or raises")


def _find_by_key(target: Submission, order: CreateRequest, conflict: Conflict) -> RemoteBatch:
    for attempt in range(MAX_ATTEMPTS):
        found = _find(target, order)
        if found is not None:
            return found
        target.context.sleep(2.0**attempt)
    raise ConflictError(
        f"{target.spec.address}: the service refuses the key {order.request_id}: {conflict.message}",
        hint="nothing was submitted; look for that request_id in the service's list of batches",
    ) from conflict


def _find(target: Submission, order: CreateRequest) -> RemoteBatch | None:
    found = [
        batch
        for batch in list_back(target.api, target.context.now()).values()
        if matches_create(batch.metadata, batch.request_id, order.request_id, order.metadata)
    ]
    if len(found) > 1:
        names = " and ".join(batch.batch_id for batch in found)
        raise ConflictError(
            f"{target.spec.address}: the service has two batches with the key {order.request_id}: {names}",
            hint="cancel one of them with `batchspec cancel`",
        )
    return found[0] if found else None


def _verified(remote: RemoteBatch, shard: Shard, order: CreateRequest) -> RemoteBatch:
    held = remote.metadata.get("shard", shard.digest)
    if held != shard.digest:
        raise ConflictError(
            f"batch {remote.batch_id} has the key {order.request_id} and holds another shard ({held[:12]})",
            hint="nothing was submitted; `batchspec status` shows the batches of this job",
        )
    if remote.request_id and remote.request_id != order.request_id:
        raise ConflictError(f"batch {remote.batch_id} came back with another key than it was created with")
    return remote if remote.request_id else _with_key(remote, order)


def _with_key(remote: RemoteBatch, order: CreateRequest) -> RemoteBatch:
    """Add the key, which the vendor's guide's response lacks."""
    return replace(remote, request_id=order.request_id, metadata=remote.metadata or order.metadata)


def _webhook(target: Submission) -> tuple[str, str] | None:
    hook = target.spec.job.webhook
    return None if hook is None else (hook.url, resolve_webhook_secret(hook.secret.env, target.context.environ))
