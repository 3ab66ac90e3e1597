"""Clients of batch services behind one Protocol, `runner.providers.api.BatchApi`."""
