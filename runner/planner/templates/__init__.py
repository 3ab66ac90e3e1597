"""Jinja templates: loading, sandbox, limits, filters, checks."""
