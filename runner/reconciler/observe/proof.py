"""Check that the service knows the batches of answers that only an output has.

A pull request can change both output and lockfile.
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
"""Batches unknown to the service after which to ask for no more: a lockfile may name any number."""
_SKEW = timedelta(days=1)
"""How far a lockfile's clock may be ahead."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Batches whose answers come from the output alone.

    unknown: the service should know them and does not. `unproven`: answers of the others.
    """

    unknown: tuple[str, ...] = ()
    unproven: int = 0


def prove(
    context: Context,
    spec: JobSpec,
    batches: Sequence[BatchRecord],
    from_outputs: Mapping[str, OutputAnswers],
    used: Collection[str],
    api: BatchApi | None,
) -> Proof:
    """Check batches with answers from the output, if the list should have them.

    Asks for one at a time, but not the service that `local` starts: it forgets with the store.
    """
    unknown: list[str] = []
    unproven = 0
    for known in batches:
        batch = known.line.batch
        if batch not in used or batch not in from_outputs or known.index is not None or known.remote is not None:
            continue
        asked = api is not None and spec.profile.kind != "local" and len(unknown) < MOST
        if asked and api is not None and _is_kept(context, spec, known) and not _is_known(api, batch):
            unknown.append(batch)
        else:
            unproven += from_outputs[batch].answered
    return Proof(tuple(unknown), unproven)


def _is_kept(context: Context, spec: JobSpec, known: BatchRecord) -> bool:
    now, made, until = context.now(), moment_of(known.line.created_at), known.kept_until
    if made is not None and made.tzinfo is not None and made <= now + _SKEW and may_lag(spec.profile.kind, made, now):
        return False
    return until is None or until.tzinfo is None or until > now


def _is_known(api: BatchApi, batch: str) -> bool:
    try:
        api.get_batch(batch)
    except NotFound:
        return False
    except ProviderError:
        return True
    return True
