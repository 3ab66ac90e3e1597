"""Tokens, prices, estimates and budgets as values.

Money is `Decimal` USD. `usd` alone rounds it, where it is written.
"""
