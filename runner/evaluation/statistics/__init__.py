"""Pure statistics on arrays. docs/explanation/statistics.md gives sources."""
