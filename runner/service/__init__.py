"""The embedded batch service. Imports nothing of this package but digest and errors.

`serve` is how it is run; everything heavy is imported when the service starts, not with this module.
"""

from runner.service.config import ServiceConfig
from runner.service.server.serve import BackgroundService, run

__all__ = ["BackgroundService", "ServiceConfig", "run"]
