"""The service's log: events on stderr, never with a secret.

Without a program's structlog configuration, only warnings and errors appear.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from runner.base.visible import visible_fields


def info(event: str, **fields: Any) -> None:
    """Log a normal event."""
    _logger().info(event, **fields)


def warning(event: str, **fields: Any) -> None:
    """Log an error that the service handled."""
    _logger().warning(event, **fields)


def error(event: str, **fields: Any) -> None:
    """Log an unexpected error with its traceback."""
    _logger().error(event, exc_info=True, **fields)


def _logger() -> Any:
    import structlog  # noqa: PLC0415 - 150 ms, only when something is logged

    if structlog.is_configured():
        return structlog.get_logger("batchspec.service")
    return structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            visible_fields,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
    )
