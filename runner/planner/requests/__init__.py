"""Request bodies: layout, rendering, worker processes."""
