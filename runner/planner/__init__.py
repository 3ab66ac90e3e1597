"""Renders input rows to requests on disk."""
