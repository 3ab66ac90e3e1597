"""The only room with effects on the service."""
