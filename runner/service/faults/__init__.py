"""Faults that the service produces on request, for tests of clients."""
