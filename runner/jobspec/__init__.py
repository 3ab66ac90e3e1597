"""What people write: YAML with positions, checked into frozen models."""
