"""General helpers."""
