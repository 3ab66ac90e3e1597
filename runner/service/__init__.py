"""The embedded batch service. Imports nothing of this package but digest and errors."""
