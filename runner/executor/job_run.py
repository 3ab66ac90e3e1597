"""One job on its way through apply: what is done for it under the lock, step by step, each recorded before the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runner.base.humanize import counted
from runner.base.log_context import wrap
from runner.context import Context
from runner.errors import (
    BatchspecError,
    NotReady,
    OutOfMoney,
    QueueFull,
    RateLimited,
    ServerError,
    Unreachable,
    disk_error,
    with_code,
)
from runner.executor.backoff import Backoff, Room
from runner.executor.in_flight import InFlightLimit
from runner.executor.lockfile_writer import LockfileWriter
from runner.executor.observe_job import observe_job
from runner.executor.outcome import End, Outcome, Paid, RenderedJob
from runner.executor.poll import Blocked, BlockedError, PollTarget
from runner.executor.preflight import check_writable
from runner.executor.recover import recover_answers
from runner.executor.result_fetcher import ResultFetcher
from runner.executor.submit import Submission, key_of, submit
from runner.executor.threads import TransferProgress, run_tasks
from runner.executor.unconfirmed import CreateGracePeriod, check_unrecognized_batches, supports_idempotency_keys
from runner.money.token_sample import Spread
from runner.outputs.writer import write_output
from runner.planner.shards import Shard, cut
from runner.providers.protocol import RemoteBatch
from runner.reconciler.observe.batch_list import BatchListCache
from runner.reconciler.observe.batches import unconfirmed_creates
from runner.reconciler.observe.observe import ApplyOptions, Observed
from runner.reconciler.plan.canary import canary_status
from runner.reconciler.plan.classify_job import wanted_round
from runner.reconciler.plan.job_estimate import expected_of
from runner.reconciler.plan.plan import OutputState, Submit
from runner.reconciler.plan.plan_limits import PlanLimits
from runner.state.ledger import Ledger
from runner.state.lockfile_lines import BatchLine

_SHORT = 12
"""Digits of a shard's digest in logs."""


class JobRun:
    """One job's part of an apply. `outcome` is None until it has ended; `stalled` says why it can't go on just now."""

    def __init__(
        self, context: Context, job: RenderedJob, word: ApplyOptions, ceiling: PlanLimits | None, flight: InFlightLimit
    ) -> None:
        self.outcome: Outcome | None = None
        self.stalled: Blocked | None = None
        self._codes: tuple[str, ...] = ()
        self._context = context
        self._desired = job.desired
        self._pins = job.pins
        self._estimate = job.estimate
        self._override = job.override
        self._word = word
        self._ceiling = ceiling
        self._flight = flight
        self._spec = job.desired.spec
        self._submitted: dict[int, int] = {}
        self._unwritten = False
        self._salvaged: set[str] = set()
        self._sent: list[str] = []
        self._priced: frozenset[str] | None = None
        self._backoff = Backoff()
        self._room = Room()
        self._broke: OutOfMoney | None = None
        self._doubt = CreateGracePeriod(job.desired.spec.profile.kind)
        self._seen: Observed | None = None
        self._record = LockfileWriter(context, job.desired.spec.lock_path, job.pins)
        self._collector = ResultFetcher(context, job.desired.spec, self._record)

    @property
    def address(self) -> str:
        """The job's address."""
        return self._spec.address

    @property
    def lock_path(self) -> str:
        """The path of the job's lockfile in the project."""
        return self._spec.lock_path

    def attempt(self, ledger: Ledger, lists: BatchListCache) -> None:
        """Do all that can be done now; an error of this job ends it and no other."""
        self.stalled = None
        try:
            self._step(ledger, lists)
        except BlockedError as way_out:
            self.stalled = way_out.stall
        except NotReady as error:
            self.stalled = Blocked(self.address, error.message, event="results.late", code=error.code)
        except (Unreachable, ServerError, RateLimited) as error:
            # What was going on once goes on when the service is back; one that never answered is told of at once.
            seconds = getattr(error, "retry_after", None) or 0.0
            self.stalled = Blocked(self.address, error.message, seconds, code=error.code)
            if self._seen is None:
                self.abandon()
        except BatchspecError as error:
            self._fail(error)
        except OSError as error:
            self._fail(disk_error(error))

    def abandon(self) -> None:
        """End a job that the service's silence has stopped; the next apply goes on."""
        assert self.stalled is not None
        self._codes = (self.stalled.code,)
        self.outcome = self._ended("error", with_code(self.stalled.reason, self.stalled.code))

    def _fail(self, error: BatchspecError) -> None:
        """End a job that an error has stopped."""
        self._codes = error.codes
        hint = f"\n    {error.hint}" if error.hint else ""
        self.outcome = self._ended("error", f"{error.coded()}{hint}")

    def awaited(self) -> PollTarget:
        """The batches this job waits for."""
        api, running = self._context.api(self._spec), frozenset(self._running())
        return PollTarget(self.address, self._spec.profile.kind, api, running, self._room.wake)

    def left(self) -> Outcome:
        """The outcome of a job that is left while it runs."""
        if self.outcome is None and self._broke is not None:
            self._fail(self._broke)
        waits = f"the queue is full ({self._backoff.words}); apply again later" if self._room.batches == 0 else ""
        return self.outcome or self._ended("running", waits)

    def _ended(self, end: End, message: str = "") -> Outcome:
        plan = self._seen.plan if self._seen else None
        running = self._running() if end in {"running", "error"} else ()
        codes = self._codes if end == "error" else ()
        batches = self._seen.batches if self._seen else ()
        paid = Paid.of(batches, self._sent, self._priced or (), self._estimate)
        submitted = sum(self._submitted.values())
        return paid.into(Outcome(self.address, end, plan, message, submitted, running, codes))

    def _running(self) -> tuple[str, ...]:
        """Batches in flight: those that were seen, and those that were submitted since."""
        seen = {known.line.batch: known.ended for known in self._seen.batches} if self._seen else {}
        return tuple(batch for batch, ended in {**dict.fromkeys(self._sent, False), **seen}.items() if not ended)

    def _step(self, ledger: Ledger, lists: BatchListCache) -> None:
        api = self._context.api(self._spec)
        listed = lists.of(api)
        seen = self._observe(ledger, listed)
        # Each effect is followed by a fresh look, until there is nothing left to do now.
        while (
            self._adopt(seen)
            or self._collector.collect(seen, needed=True)
            or (seen.plan.changes and self._collector.collect(seen, needed=False))
            or self._submitted_now(seen, ledger, listed)
            or self._salvage(seen)
        ):
            listed = lists.of(api)
            seen = self._observe(ledger, listed)
        if self._broke is not None and not self._running():
            raise self._broke
        if self._running() or any(isinstance(action, Submit) for action in seen.plan.actions):
            return
        if seen.judged.tally.in_flight:
            # Nothing runs and all is fetched: another process is putting the same results in place just now.
            self._collector.again()
            reason = "another process is writing answers that were here"
            raise BlockedError(Blocked(self.address, reason, event="results.late", code=NotReady.code))
        if not seen.plan.asks_new and seen.plan.held_back:
            text = f"{counted(seen.plan.held_back, 'request')} never asked; apply without `--no-new` submits them"
            self.outcome = self._ended("skipped", text)
        else:
            self._write(seen)
            self.outcome = self._ended("failed" if seen.plan.exceeds_tolerance else "succeeded")

    def _observe(self, ledger: Ledger, listed: Mapping[str, RemoteBatch]) -> Observed:
        realm = self._context.realm(self._spec)
        names = self._context.names(self._spec)
        creates = tuple(create for name in names for create in ledger.creates(realm.name, name))
        api, gone = self._context.api(self._spec), self._collector.gone
        self._seen = observe_job(self._context, self._desired, self._pins, creates, listed, api, self._word, gone)
        if self._priced is None:
            self._priced = frozenset(k.line.batch for k in self._seen.batches if k.line.cost is not None)
        if self._word.ended is None:
            ended = frozenset(known.line.batch for known in self._seen.batches if known.ended)
            self._word = replace(self._word, ended=ended)
        self._flight.set_running(self.address, self._seen.batches)
        for known in self._backoff.look(self._seen.batches, self._sent, self._flight.count()):
            self._submitted[known.line.round] -= known.line.requests  # nothing of it ran: the plan's limit holds
        return self._seen

    def _adopt(self, seen: Observed) -> bool:
        """Take adopted batches, and a new name, into the lockfile."""
        adopted = [known for known in seen.batches if known.adopted]
        old = self._spec.moved_from
        lockfile = self._context.lockfile(self._spec.lock_path)
        renamed = bool(old) and old not in lockfile.aliases(self.address)
        if renamed:
            self._context.save_lockfile(self._spec.lock_path, lockfile.with_moved(self.address, old))
            if any(known.line.job != self.address for known in seen.batches):
                self._context.watcher.event("job.renamed", job=self.address, old=old)
        for known in adopted:
            self._context.watcher.event(
                "batch.adopted", job=self.address, batch=known.line.batch, requests=known.line.requests
            )
        self._record.save(*(known.line for known in adopted))
        return self._context.lockfile(self._spec.lock_path) != lockfile

    def _submitted_now(self, seen: Observed, ledger: Ledger, listed: dict[str, RemoteBatch]) -> bool:
        """Submit what there is room for in the account's queue. False where nothing was submitted.

        A create that is refused because the account can't pay ends all submitting: what is in flight is still fetched.
        """
        if self._broke is not None or not any(isinstance(action, Submit) for action in seen.plan.actions):
            return False
        self._room = self._room_for(seen)
        if self._room.batches == 0:
            return False
        before = len(self._sent)
        try:
            return self._submit(seen, ledger, listed)
        except OutOfMoney as error:
            self._broke = error
            self._context.watcher.event("create.refused", job=self.address, reason=error.message)
        except QueueFull:
            self._room = self._room_for(seen)
        return len(self._sent) > before

    def _room_for(self, seen: Observed) -> Room:
        """What the account's queue has room for. Raises BatchspecError if waiting does not help."""
        shards = sum(action.shards for action in seen.plan.actions if isinstance(action, Submit))
        flying, now = self._flight.count(), self._context.now()
        return self._backoff.room(self.address, seen.batches, shards, flying, now, self._context.watcher)

    def _submit(self, seen: Observed, ledger: Ledger, listed: dict[str, RemoteBatch]) -> bool:
        """Submit what the plan says, as far as there is room; what is left over comes when a batch has ended."""
        actions = [action for action in seen.plan.actions if isinstance(action, Submit)]
        if not self._flight.has_room(self._spec):
            return False
        check_writable(self._context, self._spec)
        canary = canary_status(self._spec, self._pins, seen)
        self._settle(seen, ledger, listed, canary=canary in {"due", "again"})
        done = False
        self._unwritten = False
        for action in actions:
            first = action.round == 1
            if canary == "waiting" or (canary == "again" and first):
                continue
            alone = (canary == "due" and first) or canary == "again"
            self._keep_to_plan(action)
            meter = TransferProgress(
                partial(self._context.watcher.progress, f"upload {self.address}"), total=action.bytes
            )
            to = Submission(
                self._context,
                self._spec,
                seen.realm,
                self._context.api(self._spec),
                ledger,
                meter,
                supports_idempotency_keys(listed),
            )
            try:
                for line, remote in run_tasks(self._submissions(to, action, seen, canary=alone)):
                    listed[line.batch] = remote
                    self._sent.append(line.batch)
                    self._submitted[action.round] = self._submitted.get(action.round, 0) + line.requests
                    done = True
                    self._note(line)
                    self._context.watcher.event(
                        "batch.submitted",
                        job=self.address,
                        batch=line.batch,
                        shard=(line.shard or "")[:_SHORT],
                        requests=line.requests,
                    )
            finally:
                self._record.save(pinned=done)
            meter.end()
        return done

    def _note(self, line: BatchLine) -> None:
        """Have a batch in the lockfile soon. Where that can't be written no more go out, and those under way count."""
        try:
            self._record.add(line, pinned=True)
        except (OSError, BatchspecError):
            self._unwritten = True  # the last write, when all have come back, says why

    def _submissions(
        self, to: Submission, action: Submit, seen: Observed, *, canary: bool
    ) -> Iterator[Callable[[], tuple[BatchLine, RemoteBatch]]]:
        """One task for each shard that there is room for, cut as it is asked for."""
        seen.realm.shards.mkdir(parents=True, exist_ok=True)
        left = math.inf if self._room.batches is None else self._room.batches
        for shard in self._shards(action, seen.realm.shards, canary=canary):
            if left <= 0 or self._unwritten or not self._flight.take(self._spec, shard):
                return
            left -= 1
            yield wrap(partial(self._submit_one, to, shard, action.round, seen, canary), shard=shard.digest[:_SHORT])

    def _submit_one(
        self, to: Submission, shard: Shard, number: int, seen: Observed, canary: bool
    ) -> tuple[BatchLine, RemoteBatch]:
        try:
            line, remote = submit(to, shard, number, seen.batches, self._pins.pins)
        except (OutOfMoney, QueueFull) as error:
            self._flight.give_back(self._spec, shard)
            if isinstance(error, QueueFull):
                self._backoff.refuse(shard.digest, shard.bytes, error, self._context.now(), self._flight.count())
            raise
        said = {
            "estimate": expected_of(self._estimate, shard.requests, shard.bytes),
            "canary": canary,
            "override": self._override or None,
        }
        return line.model_copy(update=said), remote

    def _keep_to_plan(self, action: Submit) -> None:
        """Law 3: nothing goes out that the plan did not say."""
        if self._ceiling is None:
            return
        beyond = self._ceiling.allows(action.round, self._submitted.get(action.round, 0), action.requests)
        if beyond:
            raise BatchspecError(
                f"{self.address}: {beyond} ({action.reason}); nothing more was submitted",
                hint="look at a fresh `batchspec plan`, and apply that",
                code="BS606",
            )

    def _settle(self, seen: Observed, ledger: Ledger, listed: Mapping[str, RemoteBatch], *, canary: bool) -> None:
        """Before anything else goes out: whose a batch is, and what came of a create, is known or waited for."""
        creates = [c for name in self._context.names(self._spec) for c in ledger.creates(seen.realm.name, name)]
        keyed = supports_idempotency_keys(listed)
        last = next((known.line for known in reversed(seen.batches) if known.line.pins), None)
        here = last is not None and last.batch in ledger.batches(seen.realm.name)
        if not keyed and not here and self.address not in self._word.ask_unknown:
            check_unrecognized_batches(self.address, listed, self._recorded(ledger, seen.realm.name), seen.sizes, last)
        doubtful = unconfirmed_creates(creates, seen.batches)
        if doubtful and keyed:
            # Where the same key goes out again it settles it; anything else could ask for a request twice.
            submits = [action for action in seen.plan.actions if isinstance(action, Submit)]
            shards = (shard for action in submits for shard in self._shards(action, None, canary=canary))
            again = {key_of(self._context.name, self.address, shard, seen.batches)[1] for shard in shards}
            doubtful = tuple(create for create in doubtful if create.request_id not in again)
        left = self._doubt.left(doubtful, self._context.now())
        if left:
            reason = "a create was sent and not answered"
            raise BlockedError(Blocked(self.address, reason, left, event="create.doubtful", settles=True))

    def _recorded(self, ledger: Ledger, realm: str) -> frozenset[str]:
        """Every batch that a lockfile of the project, or the ledger, knows."""
        locked = (batch for path in self._context.lock_paths() for batch in self._context.lockfile(path).batches)
        return ledger.batches(realm).union(locked)

    def _shards(self, action: Submit, folder: Path | None, *, canary: bool) -> Iterator[Shard]:
        """The shards of a round, written to `folder` where there is one; those of the canary alone, where it is due."""
        wanted = partial(wanted_round, action.round)
        if canary and action.round == 1 and self._spec.job.canary is not None:
            spread = Spread(action.requests, self._spec.job.canary.requests)
            wanted = partial(_chosen, spread, action.round)
        return cut(self._desired.spool, self._spec.job.shards, wanted, folder)

    def _salvage(self, seen: Observed) -> bool:
        """Before the output is rewritten: answers that stand in it alone go into the store."""
        if seen.output_state is OutputState.GOOD or self._running() or seen.plan.submits:
            return False
        return recover_answers(self._context, self._spec, seen, self._salvaged)

    def _write(self, seen: Observed) -> None:
        if seen.output_state is OutputState.GOOD:
            return
        output = self._spec.job.output
        path = self._context.places.output(output.path)
        errors = None if output.errors is None else self._context.places.output(output.errors)
        lockfile = self._context.lockfile(self._spec.lock_path)
        line = write_output(
            path,
            self._desired,
            seen.judged,
            self._context.watcher,
            batches=lockfile.batches,
            errors=errors,
            pins=self._pins.pins,
        )
        self._context.save_lockfile(self._spec.lock_path, lockfile.with_pins(self._pins).with_output(line))
        self._context.watcher.event(
            "output.written", job=self.address, path=self._context.places.shown(path), rows=line.rows
        )


def _chosen(spread: Spread, number: int, asks: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """The canary's asks: of those of a round, some from all over the input."""
    return spread.take(wanted_round(number, asks))
