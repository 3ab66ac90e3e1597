"""What exists now of one job. Reads only."""
