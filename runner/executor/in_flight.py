"""`max_in_flight`: how many batches and tokens may be in flight at once, for each job and for all of one command."""

from __future__ import annotations

from collections.abc import Sequence

from runner.errors import BatchspecError
from runner.jobspec.loader import JobSpec
from runner.jobspec.models import MaxInFlight
from runner.planner.shards import Shard
from runner.reconciler.observe.batches import BatchRecord

BYTES_PER_TOKEN = 4
"""How many bytes of a shard are taken for one input token: English text has about four, JSON fewer."""


class InFlightLimit:
    """What is in flight of all jobs of one command, and what there is room for."""

    def __init__(self, limits: MaxInFlight | None) -> None:
        self._limits = limits
        self._flying: dict[str, list[int]] = {}

    def set_running(self, address: str, batches: Sequence[BatchRecord]) -> None:
        """Say what was seen in flight of a job: the tokens of each of its batches."""
        self._flying[address] = [tokens_of(known.line.bytes or 0) for known in batches if not known.ended]

    def count(self) -> int:
        """Batches in flight, of all jobs of the command."""
        return sum(len(flying) for flying in self._flying.values())

    def give_back(self, spec: JobSpec, shard: Shard) -> None:
        """Give back the room of a shard whose create was refused."""
        self._flying[spec.address].remove(tokens_of(shard.bytes))

    def has_room(self, spec: JobSpec) -> bool:
        """Whether another batch of the job may go out."""
        return all(
            limits.shards is None or len(flying) < limits.shards for limits, flying in self._counted(spec.address, spec)
        )

    def take(self, spec: JobSpec, shard: Shard) -> bool:
        """Take room for a shard; False where there is none now.

        Raises BatchspecError for a shard that alone is over the limit.
        """
        tokens = tokens_of(shard.bytes)
        for limits, flying in self._counted(spec.address, spec):
            if limits.tokens is not None and tokens > limits.tokens:
                raise BatchspecError(
                    f"{spec.address}: a batch of about {tokens:,} tokens is over max_in_flight.tokens "
                    f"({limits.tokens:,})",
                    hint=f"set shards.max_bytes to {limits.tokens * BYTES_PER_TOKEN} or less",
                    code="BS607",
                )
            full = limits.shards is not None and len(flying) >= limits.shards
            if full or (limits.tokens is not None and sum(flying) + tokens > limits.tokens):
                return False
        self._flying.setdefault(spec.address, []).append(tokens)
        return True

    def _counted(self, address: str, spec: JobSpec) -> list[tuple[MaxInFlight, list[int]]]:
        counted = []
        if spec.job.max_in_flight is not None:
            counted.append((spec.job.max_in_flight, self._flying.get(address, [])))
        if self._limits is not None:
            counted.append((self._limits, [tokens for job in self._flying.values() for tokens in job]))
        return counted


def tokens_of(size: int) -> int:
    """About how many input tokens `size` bytes of requests are."""
    return -(-size // BYTES_PER_TOKEN)
