"""Rendered requests on disk: rows, keys sorted by prefix, and the decision for each row."""
