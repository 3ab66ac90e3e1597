"""Desired against actual: states, plan and reasons."""
