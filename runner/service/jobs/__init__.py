"""Running jobs: scheduling, validation, asking the backend, result lines."""
