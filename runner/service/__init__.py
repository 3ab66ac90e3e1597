"""The embedded batch service. It imports only `base` and `errors` of this package."""

from runner.service.config import ServiceConfig
from runner.service.server.serve import BackgroundService, run

__all__ = ["BackgroundService", "ServiceConfig", "run"]
