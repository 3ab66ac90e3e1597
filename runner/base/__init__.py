"""Helpers without a room of their own. They import nothing of this package but `errors`."""
