"""Values of parquet files and queries keep their digits in templates and ids, or are refused: none is changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from runner.errors import InputError
from tests.planner.input.test_source import rows

Write = Callable[..., Path]

KEPT: dict[str, tuple[str, Any]] = {
    "bigint": ("9007199254740993::BIGINT", 9007199254740993),
    "lowest": ("(-9223372036854775808)::BIGINT", -9223372036854775808),
    "ubigint": ("18446744073709551615::UBIGINT", 18446744073709551615),
    "integer in a list": ("[9007199254740993::BIGINT]", [9007199254740993]),
    "decimal": ("12.50::DECIMAL(10,2)", 12.5),
    "decimal of 15 digits": ("1234567890123.45::DECIMAL(38,2)", 1234567890123.45),
    "whole decimal": ("9007199254740993::DECIMAL(38,0)", 9007199254740993),
    "microseconds": ("TIMESTAMP '2024-01-02 03:04:05.123456'", "2024-01-02T03:04:05.123456"),
    "nanoseconds": ("TIMESTAMP_NS '2024-01-02 03:04:05.123456789'", "2024-01-02T03:04:05.123456789"),
    "one nanosecond": ("TIMESTAMP_NS '2024-01-02 03:04:05.000000001'", "2024-01-02T03:04:05.000000001"),
    "before 1970": ("TIMESTAMP_NS '1969-12-31 23:59:59.999999999'", "1969-12-31T23:59:59.999999999"),
    "nanoseconds, all zero": ("TIMESTAMP_NS '2024-01-02 03:04:05'", "2024-01-02T03:04:05"),
    "nanoseconds, six digits": ("TIMESTAMP_NS '2024-01-02 03:04:05.1234'", "2024-01-02T03:04:05.123400"),
    "no timestamp": ("NULL::TIMESTAMP_NS", None),
}
REFUSED = {
    "decimal": ("12345678901234567890.123456::DECIMAL(38,6)", "cannot keep the digits of 12345678901234567890.123456"),
    "decimal in a list": ("[0.12345678901234567891::DECIMAL(38,20)]", "cannot keep the digits of"),
    "whole decimal": ("123456789012345678901::DECIMAL(38,0)", "beyond 64 bits"),
    "nanoseconds in a list": ("[TIMESTAMP_NS '2024-01-02 03:04:05.123456789']", "would lose its nanoseconds"),
    "nanoseconds in a struct": ("{'a': TIMESTAMP_NS '2024-01-02 03:04:05.123456789'}", "would lose its nanoseconds"),
    "time": ("'03:04:05.123456789'::TIME_NS", "would lose its nanoseconds"),
}


def read(project: Write, source: str, values: list[str]) -> dict[str, Any]:
    query = "SELECT 'a' AS id, " + ", ".join(f'{value} AS "value {n}"' for n, value in enumerate(values))
    if source == "sql":
        found = rows(project, "{id: id, sql: " + orjson.dumps(query).decode() + "}")
    else:
        root = project()
        duckdb.execute(f"COPY ({query}) TO '{root / 'data/a.parquet'}'")
        found = rows(project, "{id: id, path: data/a.parquet}")
    return found[0][1]


@pytest.mark.parametrize("source", ["sql", "parquet"])
def test_values_keep_their_digits(project: Write, source: str) -> None:
    found = read(project, source, [value for value, _ in KEPT.values()])
    assert {name: found[f"value {n}"] for n, name in enumerate(KEPT)} == {
        name: expected for name, (_, expected) in KEPT.items()
    }


@pytest.mark.parametrize(
    ("source", "value", "says"),
    [
        *(pytest.param("sql", *case, id=name) for name, case in REFUSED.items()),
        pytest.param("parquet", *REFUSED["decimal"], id="decimal of a parquet file"),
    ],
)
def test_a_value_that_would_be_changed_is_refused(project: Write, source: str, value: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(project, source, [value])


def test_the_order_of_a_query_with_nanoseconds_is_kept(project: Write) -> None:
    query = "SELECT i AS id, make_timestamp_ns(i) AS t FROM range(5000) r(i) ORDER BY i % 7, i DESC -- as asked\n;"
    found = rows(project, '{id: id, sql: "' + query.replace("\n", "\\n") + '"}')
    ids = [row["id"] for _, row in found]
    assert ids == sorted(range(5000), key=lambda i: (i % 7, -i))
    assert found[0][1]["t"] == f"1970-01-01T00:00:00.{ids[0]:09d}"
