"""Decisions from values."""
