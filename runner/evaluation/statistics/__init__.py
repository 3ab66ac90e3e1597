"""Pure statistics on arrays: intervals, tests, agreement. docs/explanation/statistics.md gives sources."""
