"""`batchspec serve`: the embedded batch service on its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from runner.cli.options import LogFormat, NoColor, Verbose


def _show_faults(wanted: bool) -> None:
    if wanted:
        from runner.service.faults import table  # noqa: PLC0415

        sys.stdout.write(f"{table()}\n")
        raise typer.Exit


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 lets the system pick one.")] = 0,
    data: Annotated[Path, typer.Option("--data", help="Where files and jobs are kept.")] = Path(".batchspec/serve"),
    token: Annotated[
        list[str] | None,
        typer.Option("--token", envvar="BATCHSPEC_SERVE_TOKEN", help="Bearer token of an account; repeatable."),
    ] = None,
    backend: Annotated[
        Literal["echo", "smollm", "openai"], typer.Option("--backend", help="What answers the requests.")
    ] = "echo",
    upstream: Annotated[
        str | None, typer.Option("--base-url", help="For backend openai: the server that answers, up to and with /v1.")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option("--key-env", help="For backend openai: the variable that holds its key.")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Requests answered at once.")] = 8,
    result_shape: Annotated[
        Literal["guide", "openai", "anthropic"], typer.Option("--result-shape", help="Shape of result lines.")
    ] = "guide",
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="Speak https with this certificate: a PEM file with its chain.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", help="The certificate's key, where it stands in a file of its own.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="NAME[=WHEN[:DETAIL]]",
            help="Make trouble; repeatable. See --list-faults.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="What the trouble by chance depends on.")] = 0,
    time_scale: Annotated[
        float,
        typer.Option("--time-scale", help="Let time run so many times as fast: at 3600, 24 hours pass in 24 seconds."),
    ] = 1.0,
    _list_faults: Annotated[
        bool,
        typer.Option("--list-faults", callback=_show_faults, is_eager=True, help="Show all faults and leave."),
    ] = False,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    log_format: LogFormat = "console",
) -> None:
    """Run the batch API on this machine. Prints its URL on stdout once it accepts connections; logs go to stderr."""
    from runner.cli.console import configure_logs  # noqa: PLC0415
    from runner.service import ServiceConfig, run  # noqa: PLC0415

    configure_logs(verbose, log_format, no_color)

    def ready(url: str) -> None:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    run(
        ServiceConfig(
            data=data,
            host=host,
            port=port,
            tokens=tuple(token or ()),
            backend=backend,
            base_url=upstream or "",
            key_env=key_env or "",
            concurrency=concurrency,
            result_shape=result_shape,
            tls_cert=tls_cert,
            tls_key=tls_key,
            faults=tuple(fault or ()),
            seed=seed,
            time_scale=time_scale,
        ),
        ready,
    )
