"""Jinja templates: loading, the sandbox and its limits, filters, checks."""
