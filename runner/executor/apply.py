"""Apply: observe, fetch, submit, wait, and again, until nothing of any job is left to do; then its output is written.

Each round through a job reads everything afresh under the machine's write lock; waiting holds no lock. Whatever is
learned is recorded before the next effect.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal

from runner.errors import BatchspecError, NotFound
from runner.executor.batches import Known, ended_line, list_back
from runner.executor.context import Context
from runner.executor.fetch import fetch
from runner.executor.judge import is_indexed, wanted_round
from runner.executor.observe import Observed, Word, observe
from runner.executor.submit import Submission, submit
from runner.executor.wait import Awaited, wait
from runner.executor.write import write_output
from runner.planner.render import Desired
from runner.planner.shards import cut
from runner.providers.api import RemoteBatch
from runner.reconciler.lockfile import BatchLine, PinsLine
from runner.reconciler.plan import JobPlan, OutputState, Submit
from runner.store.files import lock_holder, write_lock
from runner.store.ledger import Ledger

End = Literal["succeeded", "failed", "running", "skipped", "error"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that is rendered, with its pins."""

    desired: Desired
    pins: PinsLine


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended. `failed`: more requests stand failed than it tolerates. `error`: it stopped, see `message`."""

    address: str
    end: End
    plan: JobPlan | None = None
    message: str = ""
    submitted: int = 0


def apply(
    context: Context,
    jobs: Sequence[Prepared],
    word: Word,
    *,
    waiting: bool = True,
    deadline: datetime | None = None,
) -> tuple[Outcome, ...]:
    """Do what the plan says for all jobs; one that fails stops none of the others.

    With `waiting` False it returns once everything that can be submitted is. Raises KeyboardInterrupt as it comes:
    everything known is on disk by then.
    """
    runs = [_Run(context, job, word) for job in jobs]
    while True:
        _round(context, [run for run in runs if run.outcome is None])
        awaited = [run.awaited() for run in runs if run.outcome is None]
        if not awaited or not waiting or not wait(context, awaited, deadline):
            break
    return tuple(run.outcome or run.running() for run in runs)


def _round(context: Context, runs: Sequence[_Run]) -> None:
    """One round through all jobs under the lock."""
    if not runs:
        return
    with write_lock(context.places.lock, waiting=_telling(context)):
        ledger = Ledger(context.places.ledger)
        try:
            listed: dict[int, dict[str, RemoteBatch]] = {}
            for run in runs:
                run.attempt(ledger, listed)
        finally:
            ledger.close()


@contextlib.contextmanager
def _telling(context: Context):  # type: ignore[no-untyped-def]  # noqa: ANN202
    context.watcher.event("lock.waiting", holder=lock_holder(context.places.lock))
    yield


class _Run:
    """One job on its way through apply."""

    def __init__(self, context: Context, job: Prepared, word: Word) -> None:
        self.outcome: Outcome | None = None
        self._context = context
        self._desired = job.desired
        self._pins = job.pins
        self._word = word
        self._spec = job.desired.spec
        self._submitted = 0
        self._missing: set[str] = set()
        self._seen: Observed | None = None

    def attempt(self, ledger: Ledger, listed: dict[int, dict[str, RemoteBatch]]) -> None:
        """One step; an error of this job ends it and no other."""
        try:
            api = self._context.api(self._spec)
            if id(api) not in listed:
                listed[id(api)] = list_back(api, self._context.now())
            self._step(ledger, listed[id(api)])
        except BatchspecError as error:
            hint = f"\n    {error.hint}" if error.hint else ""
            self.outcome = Outcome(self._spec.address, "error", None, f"{error.message}{hint}", self._submitted)

    def awaited(self) -> Awaited:
        """The batches this job waits for."""
        assert self._seen is not None
        ids = frozenset(known.line.batch for known in self._seen.batches if not known.ended)
        return Awaited(self._spec.address, self._spec.profile.kind, self._context.api(self._spec), ids)

    def running(self) -> Outcome:
        """The outcome of a job that is left while it runs."""
        plan = self._seen.plan if self._seen else None
        return Outcome(self._spec.address, "running", plan, "", self._submitted)

    def _step(self, ledger: Ledger, listed: dict[str, RemoteBatch]) -> None:
        seen = self._observe(ledger, listed)
        # Each effect is followed by a fresh look, until there is nothing left to do now.
        while (
            self._record(seen)
            or self._fetch(seen, needed=True)
            or (seen.plan.changes and self._fetch(seen, needed=False))
            or self._submit(seen, ledger, listed)
        ):
            seen = self._observe(ledger, listed)
        self._seen = seen
        if any(not known.ended for known in seen.batches):
            return
        self._write(seen)
        end: End = "failed" if seen.plan.failed_beyond else "succeeded"
        self.outcome = Outcome(self._spec.address, end, seen.plan, "", self._submitted)

    def _observe(self, ledger: Ledger, listed: Mapping[str, RemoteBatch]) -> Observed:
        realm = self._context.realm(self._spec)
        creates = ledger.creates(realm.name, self._spec.address)
        api = self._context.api(self._spec)
        return observe(self._context, self._desired, self._pins, creates, listed, api, self._word, self._missing)

    def _record(self, seen: Observed) -> bool:
        """Take adopted batches into the lockfile."""
        adopted = [known for known in seen.batches if known.adopted]
        for known in adopted:
            self._save(known.line)
            self._context.watcher.event(
                "batch.adopted", job=self._spec.address, batch=known.line.batch, requests=known.line.requests
            )
        return bool(adopted)

    def _fetch(self, seen: Observed, *, needed: bool) -> bool:
        """Fetch results: those that are needed, or also those that the output alone holds, before it is rewritten."""
        fetched = False
        for known in seen.batches:
            wanted = known.ended and known.line.batch not in self._missing and known.index is None
            wanted = wanted and (not needed or not is_indexed(known, seen.standing))
            late = known.ended and not known.line.ended and known.index is not None
            if not wanted and not late:
                continue
            try:
                fetched |= self._fetch_one(seen, known)
            except NotFound as error:
                self._missing.add(known.line.batch)
                if needed:
                    fetched = True
                    self._context.watcher.event(
                        "results.gone", job=self._spec.address, batch=known.line.batch, reason=error.message
                    )
        return fetched

    def _fetch_one(self, seen: Observed, known: Known) -> bool:
        api = self._context.api(self._spec)
        remote = known.remote or api.get_batch(known.line.batch)
        index = known.index
        if index is None:
            label = f"results {self._spec.address}"
            moved = _Added(lambda total: self._context.watcher.progress(label, total, 0))
            index = fetch(api, seen.realm.results, remote, moved)
            self._context.watcher.event(
                "batch.fetched",
                job=self._spec.address,
                batch=known.line.batch,
                state=remote.status,
                answers=index.summary.answers,
                failed=index.summary.failures,
            )
        self._save(ended_line(known.line, remote, index))
        return True

    def _submit(self, seen: Observed, ledger: Ledger, listed: dict[str, RemoteBatch]) -> bool:
        """Submit what the plan says, within `max_in_flight`; what is left over comes in a later step."""
        api = self._context.api(self._spec)
        room = self._spec.job.max_in_flight.shards if self._spec.job.max_in_flight else None
        if room is not None:
            room -= sum(1 for known in seen.batches if not known.ended)
        to = Submission(self._context, self._spec, seen.realm, api, ledger)
        done = False
        for action in seen.plan.actions:
            if not isinstance(action, Submit):
                continue
            seen.realm.shards.mkdir(parents=True, exist_ok=True)
            shards = cut(
                self._desired.spool, self._spec.job.shards, partial(wanted_round, action.round), seen.realm.shards
            )
            for shard in shards:
                if room is not None and room <= 0:
                    return done
                line = submit(to, shard, action.round, seen.batches, self._pins.pins)
                self._save(line, pinned=True)
                listed[line.batch] = api.get_batch(line.batch)
                self._submitted += line.requests
                self._context.watcher.event(
                    "batch.submitted", job=self._spec.address, batch=line.batch, requests=line.requests
                )
                done = True
                room = None if room is None else room - 1
        return done

    def _write(self, seen: Observed) -> None:
        state = seen.output_state
        if state is OutputState.GOOD:
            return
        path = self._context.places.output(self._spec.job.output.path)
        if path.is_file() and any(known.index is None for known in seen.batches):
            # Answers of a batch whose results are gone may stand in this file alone: it is kept, not only replaced.
            kept = seen.realm.results.folder.parent / "kept" / f"{path.name}-{self._context.now():%Y%m%dT%H%M%S%f}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept)
            self._context.watcher.event("output.kept", path=self._context.places.shown(kept))
        line = write_output(path, self._desired, seen.judged, self._context.watcher)
        lockfile = self._context.lockfile(self._spec.lock_path)
        self._context.save_lockfile(self._spec.lock_path, lockfile.with_pins(self._pins).with_output(line))
        self._context.watcher.event("output.written", job=self._spec.address, path=line.output, rows=line.rows)

    def _save(self, line: BatchLine, *, pinned: bool = False) -> None:
        lockfile = self._context.lockfile(self._spec.lock_path).with_batch(line)
        if pinned:
            lockfile = lockfile.with_pins(self._pins)
        self._context.save_lockfile(self._spec.lock_path, lockfile)


class _Added:
    """Adds up counts and hands on the sum."""

    def __init__(self, tell) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        self._tell = tell
        self._sum = 0

    def __call__(self, count: int) -> None:
        self._sum += count
        self._tell(self._sum)
