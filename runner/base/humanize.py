"""Counts and sizes for people."""

from __future__ import annotations


def number(value: int) -> str:
    """Format 1234567 as 1,234,567."""
    return f"{value:,}"


def counted(count: int, one: str, many: str = "") -> str:
    """Format a count with its noun: `1,234 rows`."""
    return f"{number(count)} {plural(count, one, many)}"


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count's noun."""
    return one if count == 1 else (many or f"{one}s")


def size(count: int) -> str:
    """Format bytes in powers of ten, like service limits."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{int(value)} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
