"""What one job may submit now.

Every batch is recorded before any step that depends on it: in the ledger first, soon after in the lockfile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runner.base.log_context import wrap
from runner.context import Context
from runner.errors import BatchspecError, OutOfMoney, QueueFull
from runner.executor.backoff import Backoff, Room
from runner.executor.in_flight import InFlightLimit
from runner.executor.lockfile_writer import LockfileWriter
from runner.executor.outcome import RenderedJob
from runner.executor.poll import Blocked, BlockedError
from runner.executor.preflight import check_writable
from runner.executor.submit import Submission, key_of, submit
from runner.executor.threads import TransferProgress, run_tasks
from runner.executor.unconfirmed import CreateGracePeriod, check_unrecognized_batches, supports_idempotency_keys
from runner.money.token_sample import Spread
from runner.planner.kept import keep
from runner.planner.shards import Shard, cut
from runner.providers.protocol import RemoteBatch
from runner.reconciler.observe.batches import unconfirmed_creates
from runner.reconciler.observe.observe import ApplyOptions, Observed
from runner.reconciler.plan.canary import CanaryStatus, canary_status
from runner.reconciler.plan.classify_job import wanted_round
from runner.reconciler.plan.job_estimate import expected_of
from runner.reconciler.plan.plan import Submit
from runner.reconciler.plan.plan_limits import PlanLimits
from runner.state.ledger import Ledger
from runner.state.lockfile_lines import BatchLine

_SHORT = 12
"""Digits of a shard's digest in logs."""


class Submitter:
    """Submits one job's shards. `sent`: its batches. `out_of_money`: the error that ended it."""

    def __init__(
        self,
        context: Context,
        job: RenderedJob,
        options: ApplyOptions,
        limits: PlanLimits | None,
        in_flight: InFlightLimit,
        writer: LockfileWriter,
    ) -> None:
        self.sent: list[str] = []
        self.out_of_money: OutOfMoney | None = None
        self._context = context
        self._job = job
        self._spec = job.desired.spec
        self._options = options
        self._limits = limits
        self._in_flight = in_flight
        self._writer = writer
        self._submitted: dict[int, int] = {}
        self._room = Room()
        self._backoff = Backoff()
        self._grace_period = CreateGracePeriod(self._spec.profile.kind)
        self._lockfile_failed = False

    @property
    def submitted(self) -> int:
        """Requests submitted, without those refused later."""
        return sum(self._submitted.values())

    @property
    def wake(self) -> float:
        """Seconds until more may be submitted, or infinite."""
        return self._room.wake

    @property
    def queue_full(self) -> str:
        """Why a full queue allows no submission, or ""."""
        return f"the queue is full ({self._backoff.words}); apply again later" if self._room.batches == 0 else ""

    def observe(self, seen: Observed) -> None:
        """Update what is in flight and what was refused."""
        self._in_flight.set_running(self._spec.address, seen.batches)
        for known in self._backoff.look(seen.batches, self.sent, self._in_flight.count()):
            self._submitted[known.line.round] -= known.line.requests  # nothing of it ran: the plan's limit holds

    def submit(self, seen: Observed, ledger: Ledger, listed: dict[str, RemoteBatch]) -> bool:
        """Submit as many shards as fit. Return whether a batch was created.

        An account that can't pay ends all submitting, but no fetching.
        """
        if self.out_of_money is not None or not _submits(seen):
            return False
        self._room = self._queue_room(seen)
        if self._room.batches == 0:
            return False
        before = len(self.sent)
        try:
            self._submit_actions(seen, ledger, listed)
        except OutOfMoney as error:
            self.out_of_money = error
            self._context.watcher.event("create.refused", job=self._spec.address, reason=error.message)
        except QueueFull:
            self._room = self._queue_room(seen)
        return len(self.sent) > before

    def _queue_room(self, seen: Observed) -> Room:
        shards = sum(action.shards for action in _submits(seen))
        running, now = self._in_flight.count(), self._context.now()
        return self._backoff.room(self._spec.address, seen.batches, shards, running, now, self._context.watcher)

    def _submit_actions(self, seen: Observed, ledger: Ledger, listed: dict[str, RemoteBatch]) -> None:
        if not self._in_flight.has_room(self._spec):
            return
        check_writable(self._context, self._spec)
        canary = canary_status(self._spec, self._job.pins, seen)
        self._check_safe_to_submit(seen, ledger, listed, canary=canary in {"due", "again"})
        self._lockfile_failed = False
        if self._spec.partition:
            keep(self._context.places.kept(self._spec.address), self._job.desired, self._job.pins)
        for action in _submits(seen):
            if _may_submit(action, canary):
                canary_only = canary == "again" or (canary == "due" and action.round == 1)
                self._submit_action(action, seen, ledger, listed, canary=canary_only)

    def _submit_action(
        self, action: Submit, seen: Observed, ledger: Ledger, listed: dict[str, RemoteBatch], *, canary: bool
    ) -> None:
        self._check_limits(action)
        progress = TransferProgress(
            partial(self._context.watcher.progress, f"upload {self._spec.address}"), total=action.bytes
        )
        api = self._context.api(self._spec)
        keyed = supports_idempotency_keys(listed)
        target = Submission(self._context, self._spec, seen.realm, api, ledger, progress, keyed)
        before = len(self.sent)
        try:
            for line, remote in run_tasks(self._tasks(target, action, seen, canary=canary)):
                listed[line.batch] = remote
                self.sent.append(line.batch)
                self._submitted[action.round] = self._submitted.get(action.round, 0) + line.requests
                self._record_soon(line)
                self._context.watcher.event(
                    "batch.submitted",
                    job=self._spec.address,
                    batch=line.batch,
                    shard=(line.shard or "")[:_SHORT],
                    requests=line.requests,
                )
        finally:
            self._writer.flush(pinned=len(self.sent) > before)
        progress.end()

    def _record_soon(self, line: BatchLine) -> None:
        """Add a batch to the lockfile. On failure, start no more uploads."""
        try:
            self._writer.add(line, pinned=True)
        except (OSError, BatchspecError):
            self._lockfile_failed = True  # the flush after the last upload raises the reason

    def _tasks(
        self, target: Submission, action: Submit, seen: Observed, *, canary: bool
    ) -> Iterator[Callable[[], tuple[BatchLine, RemoteBatch]]]:
        """Cut each shard only when there is room."""
        seen.realm.shards.mkdir(parents=True, exist_ok=True)
        remaining = math.inf if self._room.batches is None else self._room.batches
        for shard in self._shards(action, seen.realm.shards, canary=canary):
            if remaining <= 0 or self._lockfile_failed or not self._in_flight.try_acquire(self._spec, shard):
                return
            remaining -= 1
            yield wrap(
                partial(self._submit_shard, target, shard, action.round, seen, canary), shard=shard.digest[:_SHORT]
            )

    def _submit_shard(
        self, target: Submission, shard: Shard, number: int, seen: Observed, canary: bool
    ) -> tuple[BatchLine, RemoteBatch]:
        try:
            line, remote = submit(target, shard, number, seen.batches, self._job.pins.pins)
        except (OutOfMoney, QueueFull) as error:
            self._in_flight.release(self._spec, shard)
            if isinstance(error, QueueFull):
                running = self._in_flight.count()
                self._backoff.refuse(shard.digest, shard.bytes, error, self._context.now(), running)
            raise
        fields = {
            "estimate": expected_of(self._job.estimate, shard.requests, shard.bytes),
            "canary": canary,
            "override": self._job.override or None,
        }
        return line.model_copy(update=fields), remote

    def _check_limits(self, action: Submit) -> None:
        """Raise BatchspecError if an action exceeds the approved plan (law 3)."""
        if self._limits is None:
            return
        violation = self._limits.violation(action.round, self._submitted.get(action.round, 0), action.requests)
        if violation:
            raise BatchspecError(
                f"{self._spec.address}: {violation} ({action.reason}); nothing more was submitted",
                hint="run `batchspec plan` again, review it, and apply the new plan",
                code="BS606",
            )

    def _check_safe_to_submit(
        self, seen: Observed, ledger: Ledger, listed: Mapping[str, RemoteBatch], *, canary: bool
    ) -> None:
        """Check that no batch may already have the requests.

        Raises ConflictError for possible batches of this job, BlockedError while an unanswered create may still be
        listed.
        """
        names = self._context.names(self._spec)
        creates = [create for name in names for create in ledger.creates(seen.realm.name, name)]
        keyed = supports_idempotency_keys(listed)
        last = next((known.line for known in reversed(seen.batches) if known.line.pins), None)
        sent_here = last is not None and last.batch in ledger.batches(seen.realm.name)
        if not keyed and not sent_here and self._spec.address not in self._options.ask_unknown:
            recorded = self._recorded(ledger, seen.realm.name)
            check_unrecognized_batches(self._spec.address, listed, recorded, seen.sizes, last)
        unconfirmed = unconfirmed_creates(creates, seen.batches)
        if unconfirmed and keyed:
            # Sending the same key again is safe and settles it; any other shard could ask for a request twice.
            shards = (shard for action in _submits(seen) for shard in self._shards(action, None, canary=canary))
            again = {key_of(self._context.name, self._spec.address, shard, seen.batches)[1] for shard in shards}
            unconfirmed = tuple(create for create in unconfirmed if create.request_id not in again)
        seconds = self._grace_period.remaining(unconfirmed, self._context.now())
        if seconds:
            reason = "a create request got no response"
            raise BlockedError(Blocked(self._spec.address, reason, seconds, event="create.doubtful", settles=True))

    def _recorded(self, ledger: Ledger, realm: str) -> frozenset[str]:
        locked = (batch for path in self._context.lock_paths() for batch in self._context.lockfile(path).batches)
        return ledger.batches(realm).union(locked)

    def _shards(self, action: Submit, folder: Path | None, *, canary: bool) -> Iterator[Shard]:
        wanted = partial(wanted_round, action.round)
        if canary and action.round == 1 and self._spec.job.canary is not None:
            spread = Spread(action.requests, self._spec.job.canary.requests)
            wanted = partial(_canary_requests, spread, action.round)
        return cut(self._job.desired.spool, self._spec.job.shards, wanted, folder)


def _submits(seen: Observed) -> list[Submit]:
    return [action for action in seen.plan.actions if isinstance(action, Submit)]


def _may_submit(action: Submit, canary: CanaryStatus) -> bool:
    return not (canary == "waiting" or (canary == "again" and action.round == 1))


def _canary_requests(spread: Spread, number: int, asks: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    return spread.choose(wanted_round(number, asks))
