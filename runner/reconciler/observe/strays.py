"""Requests of a job's batches that its present rendering does not have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runner.base.keys import DIGEST_BYTES
from runner.context import Realm
from runner.planner.spool.spool import Spool
from runner.reconciler.observe.batches import BatchRecord
from runner.state.sorted_file import FileHandleCache


def count_strays(spool: Spool, batches: Sequence[BatchRecord], realm: Realm) -> int:
    """Return how many known requests of the batches are not in `spool`.

    Imported batches may have requests of other jobs, and don't count. Raises StoreError.
    """
    held = []
    for known in batches:
        if realm.results.imported_ids(known.line.batch) is not None:
            continue
        if known.keys is not None:
            held.append((known.keys, False))
        elif known.index is not None:
            held.append((known.index.entries, True))
    found = 0
    with FileHandleCache() as files:
        for lowest, after, _, digests in spool.groups():
            for file, is_entry in held:
                records = file.between(files, lowest, after)
                keys = np.ascontiguousarray(records["key"] if is_entry else records)
                theirs = keys.view(_PARTS)["digest"]
                found += int((~np.isin(theirs, digests)).sum())
    return found


_PARTS = np.dtype([("digest", f"S{DIGEST_BYTES}"), ("ordinal", "S4")])
