"""Looking back: reports, the history of a job, and what changed between two versions of its answers. Reads only."""
