"""`partition:` - the vars whose values make jobs of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import Discriminator, Field, Strict, Tag, model_validator

from runner.base.duration import parse_duration
from runner.jobspec.base_model import Model
from runner.jobspec.periods import EARLIEST, Every, PeriodError, Schedule, schedule_of

VarName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Scalar = Annotated[str, Field(min_length=1, max_length=200)] | int | float | bool


class Periods(Model):
    """A var whose values are periods of time."""

    every: Every = Field(description="Length of a period: hour, day, week (ISO, from Monday) or month.")
    start: Annotated[str, Field(min_length=1, max_length=40)] = Field(
        description="First period: its name, or the day on which it begins."
    )
    timezone: Annotated[str, Field(min_length=1, max_length=60)] | None = Field(
        default=None, description="Timezone at whose midnight periods begin; UTC by default. Hours are always UTC."
    )
    after: Annotated[str, Field(min_length=1, max_length=40)] = Field(
        default="0s", description="Time for late input: a period is due this long after its end, such as 2h."
    )

    @model_validator(mode="after")
    def _valid(self) -> Periods:
        if self.every == "hour" and self.timezone is not None:
            raise ValueError("hours are always UTC: remove `timezone`")
        _ = self.schedule
        return self

    @property
    def schedule(self) -> Schedule:
        """Return the periods. Raises ValueError for a wrong start, timezone or duration."""
        return schedule_of(self.every, self.start, self.timezone or "UTC", parse_duration(self.after))


def _kind_of_values(value: Any) -> str:
    return "<values>" if isinstance(value, (list, tuple)) else "<periods>"


def _kind_of_partition(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<table>"
    return "<several>" if isinstance(value, (list, tuple)) else "<one>"


Values = Annotated[
    Annotated[tuple[Scalar, ...], Strict(False), Field(min_length=1, max_length=256), Tag("<values>")]
    | Annotated[Periods, Tag("<periods>")],
    Discriminator(_kind_of_values),
]
PartitionOption = Annotated[
    Annotated[dict[VarName, Values], Field(min_length=1, max_length=10), Tag("<table>")]
    | Annotated[tuple[VarName, ...], Strict(False), Field(min_length=1, max_length=10), Tag("<several>")]
    | Annotated[VarName, Tag("<one>")],
    Discriminator(_kind_of_partition),
]
"""Names of vars, or vars with their periods or values."""


@dataclass(frozen=True, slots=True)
class PartitionAxes:
    """The vars of a job's partition.

    `period` is the var of its `schedule`, or empty. `fixed` has the values that the spec lists; any other var takes any
    value.
    """

    names: tuple[str, ...] = ()
    period: str = ""
    schedule: Schedule | None = None
    fixed: Mapping[str, tuple[str | int | float | bool, ...]] = field(default_factory=dict)

    @property
    def free(self) -> tuple[str, ...]:
        """Return the vars that take any value."""
        return tuple(name for name in self.names if name != self.period and name not in self.fixed)

    def allowing(self, values: Mapping[str, str | int | float | bool]) -> PartitionAxes:
        """Return these vars with more fixed values and a schedule without a start."""
        schedule = None if self.schedule is None else replace(self.schedule, first=EARLIEST)
        fixed = {name: (*known, values[name]) if name in values else known for name, known in self.fixed.items()}
        return replace(self, schedule=schedule, fixed=fixed)


def axes_of(option: str | tuple[str, ...] | Mapping[str, Periods | tuple[Any, ...]] | None) -> PartitionAxes:
    """Return the vars of a `partition:`. Raises PeriodError if two of them have periods."""
    if option is None or isinstance(option, (str, tuple)):
        return PartitionAxes((option,) if isinstance(option, str) else option or ())
    timed = {name: values for name, values in option.items() if isinstance(values, Periods)}
    if len(timed) > 1:
        raise PeriodError(f"only one var of a partition can have `every`, not {' and '.join(timed)}")
    period = next(iter(timed), "")
    fixed = {name: values for name, values in option.items() if isinstance(values, tuple)}
    return PartitionAxes(tuple(option), period, timed[period].schedule if period else None, fixed)
