"""An HTTP server that bounds what its clients may take: connections, headers, time."""
