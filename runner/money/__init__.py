"""Tokens, prices, estimates and budgets as values. No files, no network, no clock: times come in as arguments.

Money is `Decimal` USD everywhere inside. Only where it is written down (lockfile, JSON, text) is it rounded, to a
millionth of a dollar and by `usd` alone.
"""
