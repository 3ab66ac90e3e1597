"""Desired against actual."""
