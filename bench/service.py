"""How fast the embedded service is, against a bare server and against itself at rest: `make bench-service`.

Medians from one run, the sides in turns, so that a busy machine slows them alike:

- upload: 200 MB with `curl -T` to a presigned URL, against a bare Starlette endpoint that writes the stream to a file;
- job: 50,000 requests with the backend echo, from create to completed;
- polls: the same job while 1,000 GETs of it a second are asked for over 50 connections, against the same job while the
  same GETs go to another process, a bare Starlette endpoint: that is what the asking alone takes of the machine.

Beside each the service's peak memory (VmHWM), from a process that did nothing else. Linux only, needs curl.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BARE = """
import asyncio, socket, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def put(request):
    with open(sys.argv[1], "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
    return Response()

async def get(request):
    return Response(b"{" + b" " * 1000 + b"}", media_type="application/json")

listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
app = Starlette(routes=[Route("/file", put, methods=["PUT"]), Route("/{path:path}", get)])
config = uvicorn.Config(app, http="httptools", log_level="error", access_log=False)
asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
"""

SERVE = ("-m", "runner", "serve", "--rate-limit", "off", "--data")
REQUESTS = 50_000
CONNECTIONS = 50
RATE = 1000


@contextmanager
def process(*command: str) -> Iterator[tuple[str, int]]:
    """Run a Python program that prints its URL on the first line. Yield that URL and the process id."""
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip(), running.pid
        finally:
            running.terminate()


def call(url: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """One call of the API."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80)
    content = json.dumps(body) if body is not None else None
    connection.request(method, path, content, {"content-type": "application/json"})
    reply = connection.getresponse()
    answer: dict[str, Any] = json.loads(reply.read())
    assert reply.status < 300, answer
    connection.close()
    return answer


def put(path: Path, url: str) -> float:
    """Seconds that `curl -T` takes."""
    began = time.perf_counter()
    subprocess.run(["curl", "--silent", "--show-error", "--fail", "-T", path, url], check=True)
    return time.perf_counter() - began


def peak(pid: int) -> float:
    """Return the most memory that a process has had resident, in MB of 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6


def spread(times: list[float]) -> str:
    """Return the fastest and the slowest as text."""
    return f"{min(times):.2f} to {max(times):.2f} s in {len(times)} rounds"


def upload(folder: Path, rounds: int) -> None:
    """Measure uploads."""
    big = folder / "big.jsonl"
    with big.open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(500_000).hex().encode())
    bare_times, times = [], []
    with (
        process("-c", BARE, str(folder / "bare")) as (bare_url, _),
        process(*SERVE, str(folder / "upload")) as (url, pid),
    ):
        before = peak(pid)
        for number in range(rounds + 1):
            intent = call(url, "POST", "/v1/batches/files", {"file_name": "big.jsonl"})
            pair = put(big, f"{bare_url}/file"), put(big, intent["upload_url"])
            if number:  # the first round warms the caches
                bare_times.append(pair[0])
                times.append(pair[1])
        memory = peak(pid)
    a, b = statistics.median(bare_times), statistics.median(times)
    print(f"upload, 200 MB: {b:.2f} s, bare Starlette {a:.2f} s: {b / a:.2f} times (goal 1.3)")
    print(f"  {spread(times)}, bare {spread(bare_times)}")
    print(f"  peak memory {memory:.0f} MB, {before:.0f} MB before the first (goal 150)")


def lines(path: Path) -> None:
    """Write an input file of chat completions, some 350 bytes each."""
    with path.open("wb") as file:
        for index in range(REQUESTS):
            message = {"role": "user", "content": f"Classify review {index}. " + "word " * 40}
            body = {"model": "m", "messages": [message]}
            line = {"custom_id": f"r{index}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(line).encode() + b"\n")


class Connection:
    """A connection that asks with as little ado as can be, so that the asking takes little of the machine."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(self._url.hostname, self._url.port)

    async def get(self, path: str) -> bytes:
        """Return the body of an answer, which has to be 200."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._url.netloc}\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return await self._reader.readexactly(size)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


def job(url: str, file_id: str, polled: str | None) -> tuple[float, list[float]]:
    """Create a job and wait for its end: the seconds, and the latencies of the polls that go to `polled` meanwhile."""
    began = time.perf_counter()
    batch_id = call(url, "POST", "/v1/batches", {"file_id": file_id})["id"]
    return asyncio.run(_job(url, f"/v1/batches/{batch_id}", polled, began))


async def _job(url: str, path: str, polled: str | None, began: float) -> tuple[float, list[float]]:
    ended = asyncio.Event()
    polls = asyncio.create_task(_poll(polled, path, ended)) if polled else None
    own = Connection(url)
    await own.open()
    while b'"status":"completed"' not in await own.get(path):  # noqa: ASYNC110 - another process makes it true
        await asyncio.sleep(0.05)
    seconds = time.perf_counter() - began
    own.close()
    ended.set()
    return seconds, await polls if polls else []


async def _poll(url: str, path: str, ended: asyncio.Event) -> list[float]:
    """Ask RATE times a second over CONNECTIONS connections; latencies count from when a poll was due."""
    latencies: list[float] = []
    start = time.perf_counter()

    async def client(number: int) -> None:
        connection = Connection(url)
        await connection.open()
        turn = 0
        while not ended.is_set():
            due = start + (number + turn * CONNECTIONS) / RATE
            turn += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), max(due - time.perf_counter(), 0))
            await connection.get(path)
            latencies.append(time.perf_counter() - due)
        connection.close()

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    return latencies


def alone(folder: Path, rounds: int) -> list[float]:
    """Seconds of each job, from create to completed, when nobody polls."""
    path = folder / "requests.jsonl"
    lines(path)
    with process(*SERVE, str(folder / "jobs")) as (url, _):
        intent = call(url, "POST", "/v1/batches/files", {"file_name": "requests.jsonl"})
        put(path, intent["upload_url"])
        return [job(url, intent["file_id"], None)[0] for _ in range(rounds)]


def jobs(folder: Path, rounds: int) -> None:
    """Measure jobs, alone and under polling."""
    path = folder / "requests.jsonl"
    lines(path)
    alone, elsewhere, polled = [], [], []
    latencies: list[float] = []
    with (
        process("-c", BARE, str(folder / "bare")) as (bare_url, _),
        process(*SERVE, str(folder / "jobs")) as (url, pid),
    ):
        intent = call(url, "POST", "/v1/batches/files", {"file_name": "requests.jsonl"})
        put(path, intent["upload_url"])
        for _ in range(rounds):
            alone.append(job(url, intent["file_id"], None)[0])
            elsewhere.append(job(url, intent["file_id"], bare_url)[0])
            seconds, waits = job(url, intent["file_id"], url)
            polled.append(seconds)
            latencies += waits
        memory = peak(pid)
    a, b, c = (statistics.median(times) for times in (alone, elsewhere, polled))
    latencies.sort()
    middle, late = (latencies[len(latencies) * part // 100] * 1000 for part in (50, 99))
    print(f"job, {REQUESTS:,} requests, echo: {a:.2f} s from create to completed (goal 10)")
    print(f"  {spread(alone)}; peak memory {memory:.0f} MB (goal 150)")
    print(
        f"the same under {RATE:,} polls a second: {c:.2f} s, {c / b:.2f} times {b:.2f} s with the polls going elsewhere"
    )
    print(f"  {spread(polled)}, elsewhere {spread(elsewhere)}")
    answered = len(latencies) / sum(polled)
    print(f"  {answered:.0f} polls a second answered, after {middle:.1f} ms (median), {late:.0f} ms (99 of 100)")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["upload", "jobs"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-service-") as name:
        if options.only != "jobs":
            upload(Path(name), options.rounds)
        if options.only != "upload":
            jobs(Path(name), options.rounds)


if __name__ == "__main__":
    main()
