"""The embedded service in a fork of this process, so that it needs no time to start."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from runner.service import BackgroundService, ServiceConfig

TOKEN = "crash-token"


@contextmanager
def forked_service(data: Path, settings: Mapping[str, Any]) -> Iterator[str]:
    """The embedded service in a fork of this process; its URL."""
    read, told = os.pipe()
    child = os.fork()
    if not child:
        try:
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
            with BackgroundService.start(ServiceConfig(data=data, tokens=(TOKEN,), **settings)) as service:
                os.write(told, service.url.encode())
                os.close(told)
                signal.pause()
        finally:
            os._exit(0)
    os.close(told)
    try:
        with os.fdopen(read) as pipe:
            yield pipe.read()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
