"""Money as `Decimal` USD. Only `usd` rounds it, where it is written."""
