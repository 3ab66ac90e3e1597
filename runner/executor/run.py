"""One job on its way through apply: what is done for it under the lock, step by step, each recorded before the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from runner.errors import BatchspecError, NotFound, ProviderError, RateLimited, ServerError, Unreachable
from runner.executor.batches import Known, ended_line, gone_line, in_doubt, list_back
from runner.executor.canary import stand
from runner.executor.context import Context
from runner.executor.costs import expected_of, with_cost
from runner.executor.fetch import fetch
from runner.executor.judge import is_indexed, wanted_round
from runner.executor.limits import Flight
from runner.executor.observe import Observed, Word, observe
from runner.executor.parallel import Meter, each
from runner.executor.salvage import salvage
from runner.executor.submit import Submission, submit
from runner.executor.wait import Awaited
from runner.executor.write import write_output
from runner.money.estimate import Estimate
from runner.money.sample import Spread
from runner.planner.render import Desired
from runner.planner.shards import Shard, cut
from runner.providers.api import RemoteBatch
from runner.reconciler.ceiling import Ceiling
from runner.reconciler.lockfile import BatchLine, PinsLine
from runner.reconciler.plan import JobPlan, OutputState, Submit
from runner.store.index import KeyMap
from runner.store.ledger import Ledger

End = Literal["succeeded", "failed", "running", "skipped", "error"]

DOUBT = {"local": 0.0, "digitalocean": 120.0}
"""Seconds after a create without an answer before the list is believed when it does not show its batch."""
SAVED = 1.0
"""Seconds between two writes of the lockfile while batches are submitted; the ledger has each at once."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that is rendered, with its pins; for apply also what its plan expects, and why a budget may be broken."""

    desired: Desired
    pins: PinsLine
    estimate: Estimate | None = None
    override: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended. `failed`: more requests stand failed than it tolerates. `error`: it stopped, see `message`."""

    address: str
    end: End
    plan: JobPlan | None = None
    message: str = ""
    submitted: int = 0
    running: tuple[str, ...] = ()


class Run:
    """One job's part of an apply. `outcome` is None until it has ended; `stalled` says why it can't go on just now."""

    def __init__(self, context: Context, job: Prepared, word: Word, ceiling: Ceiling | None, flight: Flight) -> None:
        self.outcome: Outcome | None = None
        self.stalled = ""
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
        self._sent: list[str] = []
        self._tried: set[str] = set()
        self._gone: set[str] = set()
        self._seen: Observed | None = None
        self._unsaved: list[BatchLine] = []
        self._saved_at = 0.0

    @property
    def address(self) -> str:
        """The job's address."""
        return self._spec.address

    def attempt(self, ledger: Ledger, listed: dict[int, dict[str, RemoteBatch]]) -> None:
        """Do all that can be done now; an error of this job ends it and no other.

        `listed` holds each service's batches, asked for when the first job needs them.
        """
        self.stalled = ""
        try:
            api = self._context.api(self._spec)
            if id(api) not in listed:
                listed[id(api)] = list_back(api, self._context.now())
            self._step(ledger, listed[id(api)])
        except (Unreachable, ServerError, RateLimited) as error:
            # What was going on once goes on when the service is back; one that never answered is told of at once.
            self.stalled = error.message
            if self._seen is None:
                self.give_up()
        except BatchspecError as error:
            hint = f"\n    {error.hint}" if error.hint else ""
            self.outcome = self._ended("error", f"{error.message}{hint}")

    def give_up(self) -> None:
        """End a job that the service's silence has stopped; the next apply goes on."""
        self.outcome = self._ended("error", self.stalled)

    def awaited(self) -> Awaited:
        """The batches this job waits for."""
        return Awaited(self.address, self._spec.profile.kind, self._context.api(self._spec), frozenset(self._running()))

    def left(self) -> Outcome:
        """The outcome of a job that is left while it runs."""
        return self.outcome or self._ended("running")

    def _ended(self, end: End, message: str = "") -> Outcome:
        plan = self._seen.plan if self._seen else None
        running = self._running() if end in {"running", "error"} else ()
        return Outcome(self.address, end, plan, message, sum(self._submitted.values()), running)

    def _running(self) -> tuple[str, ...]:
        """Batches in flight: those that were seen, and those that were submitted since."""
        seen = {known.line.batch: known.ended for known in self._seen.batches} if self._seen else {}
        return tuple(batch for batch, ended in {**dict.fromkeys(self._sent, False), **seen}.items() if not ended)

    def _step(self, ledger: Ledger, listed: dict[str, RemoteBatch]) -> None:
        seen = self._observe(ledger, listed)
        # Each effect is followed by a fresh look, until there is nothing left to do now.
        while (
            self._record(seen)
            or self._fetch(seen, needed=True)
            or (seen.plan.changes and self._fetch(seen, needed=False))
            or self._submit(seen, ledger, listed)
            or self._salvage(seen)
        ):
            seen = self._observe(ledger, listed)
        if self._running() or any(isinstance(action, Submit) for action in seen.plan.actions):
            return
        self._write(seen)
        self.outcome = self._ended("failed" if seen.plan.failed_beyond else "succeeded")

    def _observe(self, ledger: Ledger, listed: Mapping[str, RemoteBatch]) -> Observed:
        realm = self._context.realm(self._spec)
        names = self._context.names(self._spec)
        creates = tuple(create for name in names for create in ledger.creates(realm.name, name))
        api = self._context.api(self._spec)
        self._seen = observe(self._context, self._desired, self._pins, creates, listed, api, self._word, self._gone)
        self._flight.is_flying(self.address, self._seen.batches)
        return self._seen

    def _record(self, seen: Observed) -> bool:
        """Take adopted batches, and a new name, into the lockfile."""
        adopted = [known for known in seen.batches if known.adopted]
        old = self._spec.moved_from
        lockfile = self._context.lockfile(self._spec.lock_path)
        renamed = bool(old) and old not in lockfile.names(self.address)
        if renamed:
            self._context.save_lockfile(self._spec.lock_path, lockfile.with_moved(self.address, old))
            self._context.watcher.event("job.renamed", job=self.address, old=old)
        for known in adopted:
            self._context.watcher.event(
                "batch.adopted", job=self.address, batch=known.line.batch, requests=known.line.requests
            )
        self._save(*(known.line for known in adopted))
        return bool(adopted or renamed)

    def _fetch(self, seen: Observed, *, needed: bool) -> bool:
        """Fetch results: those that are needed, or also those that the output alone holds, before it is rewritten."""
        tasks = [partial(self._fetch_one, seen, known, needed) for known in self._wanted(seen, needed)]
        fetched = False
        try:
            for line in each(tasks):
                if line is not None:
                    self._save_soon(line, pinned=False)
                fetched |= line is not None or needed
        finally:
            self._save()
        return fetched

    def _wanted(self, seen: Observed, needed: bool) -> Iterator[Known]:
        """Ended batches to fetch; those that came short are tried once more in each apply."""
        for known in seen.batches:
            if not known.ended or known.line.gone or known.line.batch in self._tried:
                continue
            missing = known.index is None and (not needed or not is_indexed(known, seen.standing))
            if missing or known.short or (known.index is not None and not known.line.ended):
                yield known

    def _fetch_one(self, seen: Observed, known: Known, needed: bool) -> BatchLine | None:
        api = self._context.api(self._spec)
        batch = known.line.batch
        self._tried.add(batch)
        try:
            remote = known.remote or api.get_batch(batch)
            index = known.index
            if index is None or known.short:
                meter = Meter(partial(self._moved, f"results {self.address}"))
                mapping = KeyMap(known.keys, seen.realm.results.foreign(batch))
                index = fetch(api, seen.realm.results, remote, mapping, meter.add)
                self._context.watcher.event(
                    "batch.fetched",
                    job=self.address,
                    batch=batch,
                    state=remote.status,
                    answers=index.summary.answers,
                    failed=index.summary.failures,
                )
            made = seen.lockfile.pins.get(known.line.pins or "")
            line = ended_line(known.line, remote, index)
            return with_cost(line, made, self._spec.job, self._context.project.settings)
        except NotFound as error:
            if known.index is None:
                self._gone.add(batch)
                if needed:
                    self._context.watcher.event("results.gone", job=self.address, batch=batch, reason=error.message)
                return gone_line(known.line, known.remote)
            return None
        except ProviderError:
            self._tried.discard(batch)  # it may go better the next time
            raise

    def _moved(self, label: str, count: int, total: int = 0) -> None:
        self._context.watcher.progress(label, count, total)

    def _submit(self, seen: Observed, ledger: Ledger, listed: dict[str, RemoteBatch]) -> bool:
        """Submit what the plan says, as far as there is room; what is left over comes when a batch has ended."""
        actions = [action for action in seen.plan.actions if isinstance(action, Submit)]
        if not actions or not self._flight.has_room(self._spec):
            return False
        if self._settle_doubt(seen, ledger, listed):
            return True
        done = False
        canary = stand(self._spec, self._pins, seen)
        for action in actions:
            first = action.round == 1
            if canary == "waiting" or (canary == "again" and first):
                continue
            alone = (canary == "due" and first) or canary == "again"
            self._keep_to_plan(action)
            total = action.bytes
            meter = Meter(lambda sent, total=total: self._moved(f"upload {self.address}", sent, total))  # type: ignore[misc]
            to = Submission(self._context, self._spec, seen.realm, self._context.api(self._spec), ledger, meter)
            try:
                for line, remote in each(self._submissions(to, action, seen, canary=alone)):
                    listed[line.batch] = remote
                    self._sent.append(line.batch)
                    self._submitted[action.round] = self._submitted.get(action.round, 0) + line.requests
                    done = True
                    self._save_soon(line, pinned=True)
                    self._context.watcher.event(
                        "batch.submitted", job=self.address, batch=line.batch, requests=line.requests
                    )
            finally:
                self._save(pinned=done)
        return done

    def _submissions(
        self, to: Submission, action: Submit, seen: Observed, *, canary: bool
    ) -> Iterator[Callable[[], tuple[BatchLine, RemoteBatch]]]:
        """One task for each shard that there is room for, cut as it is asked for."""
        seen.realm.shards.mkdir(parents=True, exist_ok=True)
        wanted = partial(wanted_round, action.round)
        if canary and action.round == 1 and self._spec.job.canary is not None:
            spread = Spread(action.requests, self._spec.job.canary.requests)
            wanted = partial(_chosen, spread, action.round)
        for shard in cut(self._desired.spool, self._spec.job.shards, wanted, seen.realm.shards):
            if not self._flight.take(self._spec, shard):
                return
            yield partial(self._submit_one, to, shard, action.round, seen, canary)

    def _submit_one(
        self, to: Submission, shard: Shard, number: int, seen: Observed, canary: bool
    ) -> tuple[BatchLine, RemoteBatch]:
        line, remote = submit(to, shard, number, seen.batches, self._pins.pins)
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
            )

    def _settle_doubt(self, seen: Observed, ledger: Ledger, listed: dict[str, RemoteBatch]) -> bool:
        """Before anything else goes out: a create without an answer is given time to show in the list.

        Where the same shard goes out again its key settles it; anything else could ask for a request twice. True where
        it was waited, and the list read again.
        """
        realm = seen.realm.name
        creates = (c for name in self._context.names(self._spec) for c in ledger.creates(realm, name))
        grace = DOUBT[self._spec.profile.kind]
        doubtful = in_doubt(creates, seen.batches)
        shards = {shard.digest for shard in self._shards(seen)} if doubtful else set()
        ages = [(self._context.now() - create.at).total_seconds() for create in doubtful if create.shard not in shards]
        left = grace - min(ages, default=grace)
        if left <= 0:
            return False
        self._context.watcher.event("create.doubtful", job=self.address, seconds=round(left))
        self._context.sleep(left)
        listed.clear()
        listed.update(list_back(self._context.api(self._spec), self._context.now()))
        return True

    def _shards(self, seen: Observed) -> Iterator[Shard]:
        """The shards that the plan would submit now, not written."""
        for action in seen.plan.actions:
            if isinstance(action, Submit):
                wanted = partial(wanted_round, action.round)
                yield from cut(self._desired.spool, self._spec.job.shards, wanted, None)

    def _salvage(self, seen: Observed) -> bool:
        """Before the output is rewritten: answers that stand in it alone go into the store."""
        if seen.output_state is OutputState.GOOD or self._running() or seen.plan.submits:
            return False
        return salvage(self._context, self._spec, seen)

    def _write(self, seen: Observed) -> None:
        if seen.output_state is OutputState.GOOD:
            return
        output = self._spec.job.output
        path = self._context.places.output(output.path)
        errors = None if output.errors is None else self._context.places.output(output.errors)
        line = write_output(
            path, self._desired, seen.judged, self._context.watcher, errors=errors, pins=self._pins.pins
        )
        lockfile = self._context.lockfile(self._spec.lock_path)
        self._context.save_lockfile(self._spec.lock_path, lockfile.with_pins(self._pins).with_output(line))
        self._context.watcher.event(
            "output.written", job=self.address, path=self._context.places.shown(path), rows=line.rows
        )

    def _save_soon(self, line: BatchLine, *, pinned: bool) -> None:
        """Have a line in the lockfile within a second; writing it for each of many batches would cost their square."""
        self._unsaved.append(line)
        now = self._context.now().timestamp()
        if now - self._saved_at >= SAVED:
            self._save(pinned=pinned)
            self._saved_at = now

    def _save(self, *lines: BatchLine, pinned: bool = False) -> None:
        self._unsaved += lines
        if not self._unsaved:
            return
        lockfile = self._context.lockfile(self._spec.lock_path).with_batches(self._unsaved)
        if pinned:
            lockfile = lockfile.with_pins(self._pins)
        self._context.save_lockfile(self._spec.lock_path, lockfile)
        self._unsaved.clear()


def _chosen(spread: Spread, number: int, asks: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """The canary's asks: of those of a round, some from all over the input."""
    return spread.take(wanted_round(number, asks))
