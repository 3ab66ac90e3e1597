"""The embedded batch service. It imports only `base` and `errors` of this package.

Heavy modules are imported at the start, not with this module.
"""

from runner.service.config import ServiceConfig
from runner.service.server.serve import BackgroundService, run

__all__ = ["BackgroundService", "ServiceConfig", "run"]
