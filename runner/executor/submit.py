"""Submitting one shard: upload, then create, each with its intent in the ledger first.

What if the process dies here? Before the upload: nothing happened. After it: the ledger knows the file, or it is
uploaded again; files cost nothing. Between the create and its answer: the same facts give the same `request_id`, so the
next run finds the batch in the list, or creates it with a key that the service answers with the batch there is.
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
"""How often a create is sent in one go: after a lost answer again, with the same key, after a look at the list."""
MAX_RATE_LIMIT_WAIT = 20.0
"""Seconds that a rate limit is waited for here, where the machine's lock is held."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Where one job's shards go. `keyed`: the service is seen to know the keys of its batches."""

    context: Context
    spec: JobSpec
    realm: Realm
    api: BatchApi
    ledger: Ledger
    sent: TransferProgress
    keyed: bool


def key_of(project: str, address: str, shard: Shard, batches: Sequence[BatchRecord]) -> tuple[int, str]:
    """The attempt that a shard would go out in, and its idempotency key then; `batches` are all of its address."""
    attempt = 1 + sum(1 for known in batches if known.line.shard == shard.digest and known.ended)
    return attempt, request_id(project, address, shard.digest, attempt)


def submit(
    to: Submission, shard: Shard, number: int, batches: Sequence[BatchRecord], pins: str
) -> tuple[BatchLine, RemoteBatch]:
    """Have a shard in a batch, once. Returns the lockfile's line and the batch as the service told it.

    `shard` lies in the realm's shards folder; `number` is its round; `batches` are all of its address. Raises
    ConflictError where the service holds something else under the key, and ProviderError.
    """
    assert shard.path is not None
    sync_file(shard.path)
    save_keys(to.realm.shards / f"{shard.digest}.keys.npy", shard.keys)
    address, project = to.spec.address, to.context.name
    attempt, identity = key_of(project, address, shard, batches)
    webhook = _webhook(to)
    for fresh in (False, True):
        file_id, remembered = _uploaded(to, shard, fresh)
        create = Create(
            to.realm.name,
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
            to.context.now(),
        )
        order = CreateRequest(
            file_id,
            to.spec.job.line_format,
            to.spec.job.url,
            identity,
            metadata(project, address, shard.digest, attempt, number),
            webhook,
        )
        doubtful = to.ledger.is_intended(to.realm.name, identity)
        to.ledger.create_intended(create)
        try:
            remote = _create(to, order, shard, doubtful=doubtful)
        except (NotFound, Rejected):
            to.ledger.refused(to.realm.name, identity)
            # A file the ledger remembered may be gone at the service: once more, with a fresh upload.
            to.ledger.forget_upload(to.realm.name, file_id)
            if not remembered:
                raise
            continue
        to.ledger.created(to.realm.name, identity, remote.batch_id)
        return to_lockfile_line(remote, address, to.realm.name, create).model_copy(update={"pins": pins}), remote
    raise AssertionError("the second upload is fresh and returns or raises")


def _uploaded(to: Submission, shard: Shard, fresh: bool) -> tuple[str, bool]:
    """A file at the service that holds the shard's bytes, and whether an earlier upload is used again."""
    now = to.context.now
    known = None if fresh else to.ledger.upload_of(to.realm.name, shard.digest, to.spec.address, now())
    if known is not None:
        return known, True
    assert shard.path is not None
    for last in (False, False, True):
        intent = to.api.create_file(f"{shard.digest[:32]}.jsonl", shard.bytes)
        to.ledger.upload_intended(to.realm.name, shard.digest, intent.file_id, now())
        try:
            to.api.upload(intent, shard.path, to.sent.add)
        except Unauthorized:
            if last:
                raise
            continue  # the URL is no longer good; another intent gives a new one
        to.ledger.uploaded(to.realm.name, shard.digest, intent.file_id, now())
        return intent.file_id, False
    raise AssertionError("the last try returns or raises")


def _create(to: Submission, order: CreateRequest, shard: Shard, *, doubtful: bool) -> RemoteBatch:
    """Send the create until its outcome is known. Never a second one without a look at the list.

    `doubtful`: an earlier create with this key was not answered. A refusal (no money, queue full) says nothing of that
    one, so its intent stays; else the ledger records the refusal.

    What is raised while an outcome is not known leaves the intent in the ledger: the job's next round looks for its
    batch. A service that is not seen to know keys is never asked again here, since only time can tell there.
    """
    for attempt in range(MAX_ATTEMPTS):
        try:
            return _verified(to.api.create_batch(order), shard, order)
        except (OutOfMoney, QueueFull):
            if not doubtful:
                to.ledger.refused(to.realm.name, order.request_id)
            raise
        except RateLimited as limited:
            wait = 2.0**attempt if limited.retry_after is None else limited.retry_after
            if attempt == MAX_ATTEMPTS - 1 or wait > MAX_RATE_LIMIT_WAIT:
                raise
            to.context.sleep(wait)
        except Conflict as conflict:
            return _verified(_find_by_key(to, order, conflict), shard, order)
        except (Unreachable, ServerError) as lost:
            doubtful = True
            to.context.watcher.event("create.lost", job=to.spec.address, reason=lost.message)
            if attempt == MAX_ATTEMPTS - 1 or not to.keyed:
                raise
            to.context.sleep(2.0**attempt)
            found = _find(to, order)
            if found is not None:
                return _verified(found, shard, order)
    raise AssertionError("the last try returns or raises")


def _find_by_key(to: Submission, order: CreateRequest, conflict: Conflict) -> RemoteBatch:
    """The batch that has the key already; the list may show it late. Raises ConflictError where it never does."""
    for attempt in range(MAX_ATTEMPTS):
        found = _find(to, order)
        if found is not None:
            return found
        to.context.sleep(2.0**attempt)
    raise ConflictError(
        f"{to.spec.address}: the service refuses the key {order.request_id}: {conflict.message}",
        hint="look at the service's list of batches for that request_id; nothing was submitted",
    ) from conflict


def _find(to: Submission, order: CreateRequest) -> RemoteBatch | None:
    found = [
        batch
        for batch in list_back(to.api, to.context.now()).values()
        if matches_create(batch.metadata, batch.request_id, order.request_id, order.metadata)
    ]
    if len(found) > 1:
        names = " and ".join(batch.batch_id for batch in found)
        raise ConflictError(
            f"{to.spec.address}: the service has two batches with the key {order.request_id}: {names}",
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
    """A create's answer need not repeat the key it was sent (the guide's does not)."""
    return replace(remote, request_id=order.request_id, metadata=remote.metadata or order.metadata)


def _webhook(to: Submission) -> tuple[str, str] | None:
    hook = to.spec.job.webhook
    return None if hook is None else (hook.url, resolve_webhook_secret(hook.secret.env, to.context.environ))
