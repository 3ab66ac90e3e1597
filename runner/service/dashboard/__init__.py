"""The read-only web page about jobs."""
