"""How fast the embedded service is, against a bare server and against itself at rest: `make bench-service`.

Three measurements, each a ratio of medians from one run, alternating so that a busy machine slows both sides:

- upload: 200 MB with `curl -T` to a presigned URL, and to a bare Starlette endpoint that writes the stream to a file;
- job: 50,000 requests with the backend echo, from create to completed;
- polls: the same job while 1,000 GETs of it a second are asked for over 50 connections.

Beside each the service's peak memory (VmHWM), from a process that did nothing else. Linux only, needs curl.
"""

from __future__ import annotations

import argparse
import asyncio
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

listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
app = Starlette(routes=[Route("/file", put, methods=["PUT"])])
config = uvicorn.Config(app, http="httptools", log_level="error", access_log=False)
asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
"""

CONNECTIONS = 50
RATE = 1000


@contextmanager
def process(command: list[str]) -> Iterator[tuple[str, int]]:
    """A server that says its URL on the first line of its output: that URL and its process id."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip(), running.pid
        finally:
            running.terminate()


def service(data: Path) -> list[str]:
    return [sys.executable, "-m", "runner", "serve", "--data", str(data)]


def call(url: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
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
    """The most memory that a process has had resident, in MB of 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6


def lines(path: Path, count: int) -> None:
    with path.open("wb") as file:
        for index in range(count):
            body = {
                "model": "m",
                "messages": [{"role": "user", "content": f"Classify review {index}. " + "word " * 40}],
            }
            line = {"custom_id": f"r{index}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(line).encode() + b"\n")


def upload(folder: Path, rounds: int) -> None:
    big = folder / "big.jsonl"
    with big.open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(500_000).hex().encode())
    bare_times, times = [], []
    bare = [sys.executable, "-c", BARE, str(folder / "bare")]
    with process(bare) as (bare_url, _), process(service(folder / "upload")) as (url, pid):
        before = peak(pid)
        for number in range(rounds + 1):
            intent = call(url, "POST", "/v1/batches/files", {"file_name": "big.jsonl"})
            pair = put(big, f"{bare_url}/file"), put(big, intent["upload_url"])
            if number:  # the first round warms the caches
                bare_times.append(pair[0])
                times.append(pair[1])
        memory = peak(pid)
    a, b = statistics.median(bare_times), statistics.median(times)
    print(f"upload, 200 MB: {b:.3f} s, bare Starlette {a:.3f} s: {b / a:.2f} times (goal 1.3)")
    print(
        f"  {spread(times)}, bare {spread(bare_times)}; peak memory {memory:.0f} MB, {before:.0f} MB at rest (goal 150)"
    )


def spread(times: list[float]) -> str:
    return f"{min(times):.3f} to {max(times):.3f} s in {len(times)} rounds"


def job(url: str, file_id: str, polls: bool) -> tuple[float, list[float], int]:
    """Create a job and wait for its end: seconds, latencies of the polls and how many were answered."""
    began = time.perf_counter()
    batch_id = call(url, "POST", "/v1/batches", {"file_id": file_id})["id"]
    if polls:
        latencies = asyncio.run(poll(url, batch_id))
        seconds = time.perf_counter() - began
        return seconds, latencies, len(latencies)
    while (batch := call(url, "GET", f"/v1/batches/{batch_id}"))["status"] != "completed":
        assert batch["status"] not in {"failed", "expired", "cancelled"}, batch
        time.sleep(0.1)
    return time.perf_counter() - began, [], 0


async def poll(url: str, batch_id: str) -> list[float]:
    """Ask RATE times a second over CONNECTIONS connections until the job has ended. Latency counts from when due."""
    parts = urlsplit(url)
    request = f"GET /v1/batches/{batch_id} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    latencies: list[float] = []
    ended = asyncio.Event()
    start = time.perf_counter()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        turn = 0
        while not ended.is_set():
            due = start + (number + turn * CONNECTIONS) / RATE
            turn += 1
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(size)
            latencies.append(time.perf_counter() - due)
            if b'"status":"completed"' in body:
                ended.set()
        writer.close()

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    return latencies


def jobs(folder: Path, rounds: int) -> None:
    path = folder / "requests.jsonl"
    lines(path, 50_000)
    quiet, polled, latencies, rates = [], [], [], []
    with process(service(folder / "jobs")) as (url, pid):
        intent = call(url, "POST", "/v1/batches/files", {"file_name": "requests.jsonl"})
        put(path, intent["upload_url"])
        for _ in range(rounds):
            quiet.append(job(url, intent["file_id"], polls=False)[0])
            seconds, waits, answered = job(url, intent["file_id"], polls=True)
            polled.append(seconds)
            latencies += waits
            rates.append(answered / seconds)
        memory = peak(pid)
    a, b = statistics.median(quiet), statistics.median(polled)
    latencies.sort()
    print(f"job, 50,000 requests, echo: {a:.2f} s from create to completed (goal 10)")
    print(f"  {spread(quiet)}; peak memory {memory:.0f} MB (goal 150)")
    print(f"the same with {RATE} polls a second: {b:.2f} s: {b / a:.2f} times")
    print(
        f"  {spread(polled)}; {statistics.median(rates):.0f} a second answered, after"
        f" {latencies[len(latencies) // 2] * 1000:.1f} ms (median), {latencies[len(latencies) * 99 // 100] * 1000:.0f} ms"
        f" (99 of 100)"
    )


def main() -> None:
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
