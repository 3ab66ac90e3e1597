"""What vouches for answers that only an output holds: it comes from git, as the lockfile does.

A batch whose results are in the store was downloaded here. Of the others the service's list knows those that are
recent; one that is missing there, though the service would still keep it, is asked for by its id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from runner.context import Context
from runner.errors import NotFound, ProviderError
from runner.jobspec.loader import JobSpec
from runner.outputs.reader import OutputAnswers
from runner.providers.protocol import BatchApi
from runner.reconciler.observe.batches import BatchRecord, moment_of
from runner.reconciler.observe.consistency import may_lag

MOST = 20
"""Batches that the service does not know, after which no more are asked for: a lockfile may name any number."""
_SKEW = timedelta(days=1)
"""How far a lockfile's clock may be ahead."""


@dataclass(frozen=True, slots=True)
class Proof:
    """`unknown` are batches that the service does not know and should; `unproven` counts answers of others.

    Those are answers that lockfile and output alone vouch for, since the service was not asked, or keeps the batch no
    longer.
    """

    unknown: tuple[str, ...] = ()
    unproven: int = 0


def prove(
    context: Context,
    spec: JobSpec,
    batches: Sequence[BatchRecord],
    standing: Mapping[str, OutputAnswers],
    used: Collection[str],
    api: BatchApi | None,
) -> Proof:
    """Return what is known of batches whose answers come from the output; `api` is None where no service is asked.

    Asks the service for one batch at a time, and only for those that its list should have had. The service that
    `local` starts is asked nothing: it forgets with the store.
    """
    unknown: list[str] = []
    unproven = 0
    for known in batches:
        batch = known.line.batch
        if batch not in used or batch not in standing or known.index is not None or known.remote is not None:
            continue
        asked = api is not None and spec.profile.kind != "local" and len(unknown) < MOST
        if asked and api is not None and _is_kept(context, spec, known) and not _is_known(api, batch):
            unknown.append(batch)
        else:
            unproven += standing[batch].answered
    return Proof(tuple(unknown), unproven)


def _is_kept(context: Context, spec: JobSpec, known: BatchRecord) -> bool:
    """Return whether the service must know a batch: it keeps its results still, and has shown it by now."""
    now, made, until = context.now(), moment_of(known.line.created_at), known.kept_until
    if made is not None and made.tzinfo is not None and made <= now + _SKEW and may_lag(spec.profile.kind, made, now):
        return False
    return until is None or until.tzinfo is None or until > now


def _is_known(api: BatchApi, batch: str) -> bool:
    """Return whether the service knows a batch; where it does not say, True."""
    try:
        api.get_batch(batch)
    except NotFound:
        return False
    except ProviderError:
        return True
    return True
