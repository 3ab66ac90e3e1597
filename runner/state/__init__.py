"""Files on disk: the lockfile in git, and the ledger, shards, results and locks below `.batchspec/`."""
