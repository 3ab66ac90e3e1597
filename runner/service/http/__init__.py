"""The HTTP API: routes, middleware, presigned URLs, rate limits."""
