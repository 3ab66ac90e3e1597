"""Injected faults, for tests of clients."""
