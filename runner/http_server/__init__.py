"""An HTTP server with bounds on connections, headers and time."""
