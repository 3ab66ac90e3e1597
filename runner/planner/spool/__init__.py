"""Rendered requests on disk, and the decision for each."""
