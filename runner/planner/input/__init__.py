"""Input rows: byte streams, whole records, rows, samples, and DuckDB in a process of its own."""
