"""Upload, submit, wait, fetch, write: the only place with effects on the service."""
