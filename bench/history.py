"""A job with a long history: 20,000 batches in its lockfile and its ledger, read, reconciled and written."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.instant import Instant
from bench.scene import make
from runner.api import load, open_project
from runner.executor.observe_job import observe_job
from runner.jobspec.realm import realm_of
from runner.reconciler.observe.observe import ApplyOptions
from runner.state.ledger import Create, Ledger
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, CountsField

_START = datetime(2026, 1, 1, tzinfo=UTC)


def history(root: Path, batches: int) -> dict[str, float]:
    """Seconds for each part: the ledger and the lockfile read, all of it reconciled, the lockfile written."""
    make(root, 10)
    project = load(root=root)
    spec = project.jobs[0]
    with open_project(project) as opened:
        context = opened.context
        context._apis[realm_of(spec)] = Instant(root / "service")  # noqa: SLF001
        realm = realm_of(spec)
        lines = [_line(number, spec.address, realm) for number in range(batches)]
        context.save_lockfile(spec.lock_path, Lockfile(context.name).with_batches(lines))
        _fill(context.places.ledger, lines)
        (prepared,), _ = opened.prepare(project.jobs)
    with open_project(project) as opened:
        context = opened.context
        (prepared,), _ = opened.prepare(project.jobs)
        marks = [time.perf_counter()]
        ledger = Ledger(context.places.ledger)
        creates = ledger.creates(realm, spec.address)
        ledger.close()
        marks.append(time.perf_counter())
        lockfile = context.lockfile(spec.lock_path)
        marks.append(time.perf_counter())
        observe_job(context, prepared, creates, {}, None, ApplyOptions())
        marks.append(time.perf_counter())
        context.save_lockfile(spec.lock_path, lockfile.with_batches([_line(batches, spec.address, realm)]))
        marks.append(time.perf_counter())
    names = ("ledger read", "lockfile read", "reconciled", "lockfile written")
    return {name: end - start for name, start, end in zip(names, marks[:-1], marks[1:], strict=True)}


def _line(number: int, address: str, realm: str) -> BatchLine:
    made = _START + timedelta(minutes=number)
    return BatchLine(
        batch=f"batch-{number:08d}",
        job=address,
        realm=realm,
        shard=f"{number:064x}",
        requests=50_000,
        bytes=40_000_000,
        attempt=1,
        round=1,
        request_id=f"{number:032x}",
        file=f"file-{number:08d}",
        created_at=made.isoformat(),
        pins=None,
        state="completed",
        ended_at=(made + timedelta(minutes=30)).isoformat(),
        counts=CountsField(total=50_000, completed=50_000, failed=0),
    )


def _fill(path: Path, lines: list[BatchLine]) -> None:
    ledger = Ledger(path)
    with ledger._writing() as db:  # noqa: SLF001  one transaction in place of 20,000
        for line in lines:
            create = Create(
                realm=line.realm,
                request_id=line.request_id,
                address=line.job,
                shard=line.shard or "",
                file_id=line.file,
                requests=line.requests,
                bytes=line.bytes or 0,
                attempt=line.attempt,
                round=line.round,
                state="created",
                batch_id=line.batch,
                at=_START,
            )
            db.execute(
                "insert into creates (realm, request_id, address, shard, file_id, requests, bytes, attempt, round,"
                " state, batch_id, at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    create.realm,
                    create.request_id,
                    create.address,
                    create.shard,
                    create.file_id,
                    create.requests,
                    create.bytes,
                    create.attempt,
                    create.round,
                    create.state,
                    create.batch_id,
                    "2026-01-01T00:00:00.000000Z",
                ),
            )
    ledger.close()
