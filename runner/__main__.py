"""`python -m runner` is `batchspec`."""

from runner.cli.main import main

main()
