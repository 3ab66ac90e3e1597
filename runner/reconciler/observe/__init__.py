"""What exists now of one job, read from lockfile, ledger, results, service and outputs."""
