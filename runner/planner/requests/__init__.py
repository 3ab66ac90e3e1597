"""Request bodies: their layout, rendering, and the worker processes."""
