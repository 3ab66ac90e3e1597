"""What is kept on this machine below `.batchspec/`: ledger, shard and result files, indexes, locks."""
