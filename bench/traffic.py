"""Uploads and downloads of 200 MB against curl, at a bare Starlette endpoint that does nothing else.

python -m bench.traffic [--megabytes 200] [--rounds 5]

Each round uploads and downloads once with curl and once with the provider, in turns, so that a busy machine meets
both. The times are medians. curl's contain the start of its process, ours don't contain Python's: a command that moves
files has been started long before. Peak memory is that of a process of its own that does nothing but one transfer.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from runner.providers.digitalocean import DigitalOcean
from runner.providers.protocol import FileIntent

MEGABYTE = 1_000_000


def serve(port: int, folder: str) -> None:
    """Serve the bare endpoint: PUT reads and drops the body, GET sends a file of `folder`."""
    import uvicorn  # noqa: PLC0415 - the server's process only
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import FileResponse, Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def put(request: Request) -> Response:
        count = 0
        async for piece in request.stream():
            count += len(piece)
        return Response(str(count))

    async def get(request: Request) -> Response:
        return FileResponse(Path(folder) / request.path_params["name"])

    app = Starlette(routes=[Route("/{name}", put, methods=["PUT"]), Route("/{name}", get, methods=["GET"])])
    uvicorn.run(app, port=port, http="httptools", log_level="critical")


def upload(url: str, path: Path) -> None:
    """Upload once with the provider."""
    api = DigitalOcean(url, "")
    api.upload(FileIntent("file", f"{url}/{path.name}", None), path)
    api.close()


def download(url: str, path: Path) -> None:
    """Download once with the provider, to a file next to `path`."""
    api = DigitalOcean(url, "")
    api.download(f"{url}/{path.name}", path.with_suffix(".down"))
    api.close()


def curl(*arguments: str) -> None:
    """Run curl, quietly, failing on error statuses."""
    subprocess.run(["curl", "--silent", "--fail", *arguments], check=True, stdout=subprocess.DEVNULL)


def compare(url: str, path: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """(curl's, the provider's) median seconds of each transfer."""
    found = {}
    down = str(path.with_suffix(".curl"))
    pairs: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "upload": (lambda: curl("--upload-file", str(path), f"{url}/{path.name}"), lambda: upload(url, path)),
        "download to disk": (lambda: curl("--output", down, f"{url}/{path.name}"), lambda: download(url, path)),
    }
    for what, (theirs, ours) in pairs.items():
        times: tuple[list[float], list[float]] = ([], [])
        for each in range(rounds + 1):
            for call, took in zip((theirs, ours), times, strict=True):
                began = time.perf_counter()
                call()
                if each:  # the first round warms up
                    took.append(time.perf_counter() - began)
        found[what] = median(times[0]), median(times[1])
    wrong = _digest(path.with_suffix(".down")) != _digest(path)
    if wrong:
        raise SystemExit("the file that came back is another one")
    return found


def make(path: Path, megabytes: int) -> None:
    """Write a file as large as asked for, of lines like a shard's."""
    if shutil.which("curl") is None:
        raise SystemExit("curl, the baseline, is not installed")
    line = b'{"custom_id": "k1-' + b"0" * 40 + b'", "body": "' + b"x" * 400 + b'"}\n'
    with path.open("wb") as file:
        for _ in range(megabytes * MEGABYTE // len(line)):
            file.write(line)


def memory(url: str, path: Path) -> None:
    """Print the peak memory of a process that moves one file, over that of one that only imports."""
    for what in ("nothing", "upload", "download"):
        done = subprocess.run(
            [sys.executable, "-m", "bench.traffic", "--only", what, "--url", url, "--file", str(path)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        print(f"peak memory, {what:<10} {int(done.stdout) / MEGABYTE:.1f} MB")


@contextmanager
def endpoint(folder: Path) -> Iterator[str]:
    """Run the bare endpoint in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "bench.traffic", "--serve", str(port), "--folder", str(folder)])
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=["nothing", "upload", "download"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.serve:
        serve(told.serve, told.folder)
        return
    if told.only:
        if told.only != "nothing":
            (upload if told.only == "upload" else download)(told.url, told.file)
        print(_peak())
        return
    with tempfile.TemporaryDirectory(prefix="batchspec-bench-") as folder:
        path = Path(folder) / "shard.jsonl"
        make(path, told.megabytes)
        print(f"{path.stat().st_size / MEGABYTE:.0f} MB over loopback, medians of {told.rounds}")
        with endpoint(Path(folder)) as url:
            for what, (curls, own) in compare(url, path, told.rounds).items():
                print(f"{what:<18} curl {curls:.3f} s   provider {own:.3f} s   ratio {own / curls:.2f}")
            memory(url, path)


def _peak() -> int:
    """Bytes of memory this process has had at most. Linux: rusage would count the parent's before exec."""
    told = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM")) * 1024


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
