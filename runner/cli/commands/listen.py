"""`batchspec listen`: receive webhooks and continue their jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from runner.cli.options import Jobs, LogFormat, NoColor, Verbose
from runner.cli.terminal.printing import say


class _LogWatcher:
    """A watcher that logs events. A process that runs for months shows no progress."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def event(self, name: str, **fields: object) -> None:
        self._log.info(name, **fields)

    def progress(self, what: str, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Show nothing."""


def listen(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 lets the system pick one.")] = 0,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="Serve https with this certificate: a PEM file with its chain.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", help="The certificate's key, if it is in a separate file.")
    ] = None,
    jobs: Jobs = None,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    log_format: LogFormat = "console",
) -> None:
    """Receive webhooks and continue the jobs they are about: download, retry, submit remaining shards, write.

    It submits only what the last apply of a job allowed, and starts nothing. Prints a URL for each provider on stdout
    once it accepts connections; logs go to stderr. It runs until SIGTERM.
    """
    from runner.cli.terminal.terminal import configure_logs  # noqa: PLC0415
    from runner.jobspec.loader import find_root  # noqa: PLC0415
    from runner.listener.listen import ListenConfig, run  # noqa: PLC0415

    log = configure_logs(verbose, log_format, no_color)

    def ready(urls: tuple[str, ...]) -> None:
        for url in urls:
            say(url)

    run(ListenConfig(find_root(Path.cwd()), host, port, tls_cert, tls_key, jobs), ready, _LogWatcher(log))
