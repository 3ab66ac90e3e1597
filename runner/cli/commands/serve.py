"""`batchspec serve`: the embedded batch service on its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.models import OptionInfo

from runner.cli.options import LogFormat, NoColor, Verbose
from runner.cli.terminal.printing import say
from runner.errors import ServiceError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MAX_TOKEN_FILE = 65_536
_DURATION = re.compile(r"(\d{1,9}(?:\.\d+)?)([smhd]?)")


def _show_faults(wanted: bool) -> None:
    if wanted:
        from runner.service.faults.faults import table  # noqa: PLC0415

        say(table())
        raise typer.Exit


def _lifetime(name: str, about: str) -> OptionInfo:
    option: OptionInfo = typer.Option(name, metavar="DURATION", help=about)
    return option


def _bound(name: str, about: str) -> OptionInfo:
    option: OptionInfo = typer.Option(name, min=1, help=about)
    return option


def _tokens(path: Path) -> tuple[str, ...]:
    """Return a file's tokens. Raises ServiceError if unreadable or empty."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_TOKEN_FILE + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"the token file {path} cannot be read: {error}", code="BS704") from error
    tokens = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not tokens or len(text) > _MAX_TOKEN_FILE:
        raise ServiceError(
            f"the token file {path} holds no token, or more than {_MAX_TOKEN_FILE} bytes",
            hint="write one token a line, for example from: openssl rand -hex 32",
            code="BS704",
        )
    return tokens


def _seconds(option: str, text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ServiceError(
            f"{option} {text}: not a duration",
            hint="write a number and its unit, as 30s, 15m, 24h or 30d",
            code="BS704",
        )
    return float(match[1]) * _UNITS[match[2] or "s"]


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 lets the system pick one.")] = 0,
    data: Annotated[Path, typer.Option("--data", help="Folder for files and jobs.")] = Path(".batchspec/serve"),
    token: Annotated[
        list[str] | None,
        typer.Option(
            "--token",
            envvar="BATCHSPEC_SERVE_TOKEN",
            help="Bearer token of an account; repeatable. Other users of this machine can read it in the list of"
            " processes: prefer --token-file or the environment variable.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            envvar="BATCHSPEC_SERVE_TOKEN_FILE",
            help="File of bearer tokens, one a line; each is an account.",
        ),
    ] = None,
    backend: Annotated[
        Literal["echo", "smollm", "openai"], typer.Option("--backend", help="What answers the requests.")
    ] = "echo",
    upstream: Annotated[
        str | None, typer.Option("--base-url", help="For backend openai: URL of the server, including /v1.")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option("--key-env", help="For backend openai: environment variable with its key.")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Requests processed at the same time.")] = 8,
    upstream_timeout: Annotated[
        str, _lifetime("--upstream-timeout", "For backend openai: time limit for one answer, such as 10m.")
    ] = "10m",
    result_shape: Annotated[
        Literal["guide", "openai", "anthropic"], typer.Option("--result-shape", help="Shape of result lines.")
    ] = "guide",
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="Serve https with this certificate: a PEM file with its chain.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", help="The certificate's key, if it is in a separate file.")
    ] = None,
    rate_limit: Annotated[
        str, typer.Option("--rate-limit", help="Calls per account, such as 250/minute,5000/hour, or off.")
    ] = "250/minute,5000/hour",
    guesses: Annotated[
        str, typer.Option("--guesses", help="Wrong tokens accepted from one address, or off.")
    ] = "10/minute,100/hour",
    max_connections: Annotated[
        int, _bound("--max-connections", "Maximum open connections. Fewer if the limit of open files is low.")
    ] = 256,
    max_connections_per_address: Annotated[
        int, _bound("--max-connections-per-address", "Maximum open connections per IPv4 address or IPv6 /64 network.")
    ] = 128,
    max_headers: Annotated[int, _bound("--max-headers", "Maximum headers in a request.")] = 100,
    max_header_bytes: Annotated[
        int, _bound("--max-header-bytes", "Maximum bytes in a request's first line and headers.")
    ] = 32_768,
    max_json_bytes: Annotated[int, _bound("--max-json-bytes", "Maximum bytes in a JSON body.")] = 1_000_000,
    max_upload_bytes: Annotated[int, _bound("--max-upload-bytes", "Maximum bytes in an uploaded file.")] = 200_000_000,
    header_time: Annotated[
        str, _lifetime("--header-time", "Time limit for a TLS handshake, and for a request's headers.")
    ] = "10s",
    idle_time: Annotated[str, _lifetime("--idle-time", "How long a connection may be idle between requests.")] = "15s",
    body_time: Annotated[str, _lifetime("--body-time", "How long a transfer may be slower than --min-rate.")] = "30s",
    min_rate: Annotated[
        int, _bound("--min-rate", "Minimum bytes per second in request bodies and responses.")
    ] = 10_000,
    webhook_allow: Annotated[
        list[str] | None,
        typer.Option(
            "--webhook-allow",
            metavar="HOST|CIDR|loopback|private",
            help="Also send webhooks there. Repeatable. Default: public addresses only.",
        ),
    ] = None,
    url_ttl: Annotated[str, _lifetime("--url-ttl", "Lifetime of upload and download URLs, such as 15m.")] = "15m",
    file_ttl: Annotated[str, _lifetime("--file-ttl", "How long uploaded files are kept, such as 30d.")] = "30d",
    result_ttl: Annotated[str, _lifetime("--result-ttl", "How long results are kept, such as 30d.")] = "30d",
    completion_window: Annotated[
        str, _lifetime("--completion-window", "Time until a job expires. The API always reports 24h.")
    ] = "24h",
    answer_delay: Annotated[
        str, _lifetime("--answer-delay", "For backend echo: how long each request takes, such as 0.5s.")
    ] = "0s",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="NAME[=WHEN[:DETAIL]]",
            help="Inject a fault. Repeatable. See --list-faults.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed for random faults.")] = 0,
    time_scale: Annotated[
        float,
        typer.Option("--time-scale", help="Speed up time by this factor: at 3600, 24 hours pass in 24 seconds."),
    ] = 1.0,
    _list_faults: Annotated[
        bool,
        typer.Option("--list-faults", callback=_show_faults, is_eager=True, help="List all faults and exit."),
    ] = False,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    log_format: LogFormat = "console",
) -> None:
    """Run the batch API on this machine. Prints its URL on stdout once it accepts connections; logs go to stderr."""
    from runner.cli.terminal.terminal import configure_logs  # noqa: PLC0415
    from runner.http_server.bounds import Bounds  # noqa: PLC0415
    from runner.service import ServiceConfig, run  # noqa: PLC0415
    from runner.service.http.rate_limit import parse  # noqa: PLC0415

    configure_logs(verbose, log_format, no_color)

    def ready(url: str) -> None:
        say(url)

    run(
        ServiceConfig(
            data=data,
            host=host,
            port=port,
            tokens=(*(token or ()), *(_tokens(token_file) if token_file else ())),
            backend=backend,
            base_url=upstream or "",
            key_env=key_env or "",
            concurrency=concurrency,
            upstream_timeout=_seconds("--upstream-timeout", upstream_timeout),
            result_shape=result_shape,
            tls_cert=tls_cert,
            tls_key=tls_key,
            rate_limits=parse(rate_limit),
            guess_limits=parse(guesses),
            webhook_allow=tuple(webhook_allow or ()),
            max_json_bytes=max_json_bytes,
            max_upload_bytes=max_upload_bytes,
            bounds=Bounds(
                header_bytes=max_header_bytes,
                headers=max_headers,
                header_time=_seconds("--header-time", header_time),
                idle_time=_seconds("--idle-time", idle_time),
                body_time=_seconds("--body-time", body_time),
                min_rate=min_rate,
                connections=max_connections,
                per_address=max_connections_per_address,
            ),
            url_ttl=_seconds("--url-ttl", url_ttl),
            file_ttl=_seconds("--file-ttl", file_ttl),
            result_ttl=_seconds("--result-ttl", result_ttl),
            completion_window=_seconds("--completion-window", completion_window),
            answer_delay=_seconds("--answer-delay", answer_delay),
            faults=tuple(fault or ()),
            seed=seed,
            time_scale=time_scale,
        ),
        ready,
    )
