"""Rendered requests on disk, and their decisions."""
