"""What to do about it: decisions from values, without input or output."""
