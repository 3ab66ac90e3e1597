"""Desired against Actual: states, plan, reasons and the lockfile as values. Pure: no clock, network or files."""
