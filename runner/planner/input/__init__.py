"""Input rows, from byte streams to samples."""
