"""`max_in_flight`: a job's and all jobs' limits on batches and tokens in flight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runner.errors import BatchspecError
from runner.jobspec.job_spec import JobSpec
from runner.jobspec.models import MaxInFlight
from runner.planner.shards import Shard
from runner.reconciler.observe.batches import BatchRecord
from runner.state.lockfile_lines import BatchLine

BYTES_PER_TOKEN = 4
"""Bytes of a shard counted as one input token. English text has about four, JSON fewer."""


class InFlightLimit:
    """Tokens of each batch in flight, by job address, and their limits."""

    def __init__(self, limits: MaxInFlight | None) -> None:
        self._limits = limits
        self._in_flight: dict[str, list[int]] = {}

    def set_running(self, address: str, batches: Sequence[BatchRecord]) -> None:
        """Replace a job's batches in flight."""
        self._in_flight[address] = [tokens_of(known.line.bytes or 0) for known in batches if not known.ended]

    def set_recorded(self, address: str, lines: Iterable[BatchLine]) -> None:
        """Replace what is in flight of a job that this command does not run."""
        self._in_flight[address] = [tokens_of(line.bytes or 0) for line in lines if line.state == "submitted"]

    def count(self) -> int:
        """Return the batches in flight."""
        return sum(len(tokens) for tokens in self._in_flight.values())

    def release(self, spec: JobSpec, shard: Shard) -> None:
        """Release a refused shard's room."""
        self._in_flight[spec.address].remove(tokens_of(shard.bytes))

    def has_room(self, spec: JobSpec) -> bool:
        """Return whether another batch fits."""
        return all(
            limits.shards is None or len(in_flight) < limits.shards for limits, in_flight in self._limits_of(spec)
        )

    def try_acquire(self, spec: JobSpec, shard: Shard) -> bool:
        """Reserve room, or return False. Raises BatchspecError for a shard that never fits."""
        tokens = tokens_of(shard.bytes)
        for limits, in_flight in self._limits_of(spec):
            if limits.tokens is not None and tokens > limits.tokens:
                raise BatchspecError(
                    f"{spec.address}: a batch of about {tokens:,} tokens is over max_in_flight.tokens "
                    f"({limits.tokens:,})",
                    hint=f"set shards.max_bytes to {limits.tokens * BYTES_PER_TOKEN} or less",
                    code="BS607",
                )
            full = limits.shards is not None and len(in_flight) >= limits.shards
            if full or (limits.tokens is not None and sum(in_flight) + tokens > limits.tokens):
                return False
        self._in_flight.setdefault(spec.address, []).append(tokens)
        return True

    def _limits_of(self, spec: JobSpec) -> list[tuple[MaxInFlight, list[int]]]:
        found = []
        if spec.job.max_in_flight is not None:
            siblings = [
                tokens for address, one in self._in_flight.items() if spec.is_sibling(address) for tokens in one
            ]
            found.append((spec.job.max_in_flight, siblings))
        if self._limits is not None:
            found.append((self._limits, [tokens for job in self._in_flight.values() for tokens in job]))
        return found


def tokens_of(size: int) -> int:
    """Return about how many tokens `size` bytes are."""
    return -(-size // BYTES_PER_TOKEN)
