"""Decisions from values, without input or output."""
