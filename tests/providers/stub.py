"""A batch service and its storage on real sockets, that can be told to misbehave in the middle of an exchange.

It is `http.server` with wire code of its own: nothing of the product stands on both sides. What it is sent is kept in
`seen`. `keys` says whether a create's `request_id` is honoured, `late` for how many looks a new batch does not show. `on(method, path, *steps)` says what happens to the next calls of that kind instead of the usual; then it is as
usual again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.providers.dialects import DIALECTS, Dialect, Job, Json
from tests.providers.stub_steps import Also, Cut, Hang, Instead, Lost, Raw, Reply, Reset, Seen, Step

KEY = "key-for-the-stub-0123456789"
SIGNATURE = "signature-for-the-stub"
KEPT = 4_000_000
"""Bytes of an upload that are kept; of more, the size and the digest are."""
PIECE = 1 << 16


class Told(list[int]):
    """What a transfer told of its progress: counts of bytes as they moved, and in `expected` how many were to move."""

    expected = 0

    def __call__(self, count: int, expected: int) -> None:
        self.expected += expected
        if count:
            self.append(count)


class Stub:
    """One service, speaking one dialect. A context manager that ends it."""

    def __init__(self, dialect: str = "openapi", *, port: int = 0) -> None:
        self.dialect: Dialect = DIALECTS[dialect]
        self.seen: list[Seen] = []
        self.files: dict[str, Seen | None] = {}
        self.blobs: dict[str, bytes | Path] = {}
        self.blob_headers: dict[str, str] = {}
        self.ranges = True
        self.jobs: list[Job] = []
        self.steps = ["validating", "queued", "in_progress"]
        self.outcome = "completed"
        self.keys = True
        self.late = 0
        self.ended = threading.Event()
        self._script: list[tuple[str, re.Pattern[str], list[Step]]] = []
        self._guard = threading.RLock()
        self._server = _Server(self, port)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the service and its connections. A second time does nothing."""
        if not self.ended.is_set():
            self.ended.set()
            self._server.shutdown()
            self._server.server_close()
            self._server.drop()
            self._thread.join()

    def on(self, method: str, path: str, *steps: Step) -> None:
        """What happens to the next calls of `method` whose path matches, one step a call."""
        self._script.append((method, re.compile(path), list(steps)))

    def calls(self, method: str, path: str = "") -> list[Seen]:
        """The requests of one kind so far."""
        return [seen for seen in self.seen if seen.method == method and re.fullmatch(path or ".*", seen.path)]

    def blob(self, name: str, content: bytes | Path) -> str:
        """A file to download; its presigned URL."""
        self.blobs[name] = content
        return f"{self.url}/download/{name}?signature={SIGNATURE}"

    def intent_url(self, file_id: str = "file-0") -> str:
        """A place to upload to; its presigned URL."""
        self.files.setdefault(file_id, None)
        return f"{self.url}/upload/{file_id}?signature={SIGNATURE}"

    def add_jobs(self, count: int) -> None:
        """Jobs that somebody made before, oldest first."""
        for number in range(count):
            self.jobs.append(Job(f"old-{number:04}", "file-old", {"provider": "openai"}, [], "completed", 1))

    def step_for(self, seen: Seen) -> Step | None:
        with self._guard:
            for method, path, steps in self._script:
                if method == seen.method and path.fullmatch(seen.path) and steps:
                    return steps.pop(0)
        return None

    def answer(self, seen: Seen) -> Reply:
        """The usual answer, with its effect."""
        with self._guard:
            if not seen.path.startswith("/v1/"):
                return self._storage(seen)
            if seen.headers.get("authorization") != f"Bearer {KEY}":
                return _error(401, "unauthorized", "Unable to authenticate you")
            return self._api(seen)

    def _api(self, seen: Seen) -> Reply:
        what = f"{seen.method} {seen.path}"
        if what == "POST /v1/batches/files":
            return self._create_file(seen.json)
        if what == "POST /v1/batches":
            return self._create(seen.json)
        if what == "GET /v1/batches":
            return self._list(seen.query)
        found = re.fullmatch(r"/v1/batches/([^/]+)(/cancel|/results)?", seen.path)
        job = next((job for job in self.jobs if found and job.id == found[1]), None)
        if found is None or job is None or self._hides(job):
            return _error(404, "not_found", "The resource you requested could not be found.")
        match seen.method, found[2]:
            case "GET", None:
                self._move(job)
                return Reply(200, self.dialect.job(job))
            case "POST", "/cancel":
                return self._cancel(job)
            case "GET", "/results":
                return self._results(job)
        return _error(405, "method_not_allowed", "no such method")

    def _create_file(self, body: Json) -> Reply:
        if not re.fullmatch(r"(?i).+\.jsonl", body.get("file_name", "")):
            return _error(422, "unprocessable_entity", "file_name must end in .jsonl")
        file_id = f"file-{len(self.files) + 1}"
        told = {"file_id": file_id, "upload_url": self.intent_url(file_id), "expires_at": "2126-04-01T12:15:00Z"}
        return Reply(201, told)

    def _create(self, order: Json) -> Reply:
        missing = self.dialect.missing(order)
        if missing:
            return _error(422, "unprocessable_entity", f"missing: {missing}")
        file = self.files.get(order["file_id"])
        if file is None:
            return _error(404, "not_found", "file_id: nothing was uploaded")
        for job in self.jobs:
            if self.keys and order.get("request_id") and job.order.get("request_id") == order["request_id"]:
                if job.file_id != order["file_id"]:
                    return _error(409, "conflict", "request_id was used before")
                return Reply(200, self.dialect.job(job))
        steps = [*self.steps[1:], self.outcome]
        lines = [json.loads(line) for line in file.body.splitlines()]
        job = Job(f"batch-{len(self.jobs) + 1}", order["file_id"], order, steps, self.steps[0], len(lines))
        job.hidden = self.late
        job.answers = {line["custom_id"]: _echo(line.get("body", {})) for line in lines}
        self.jobs.append(job)
        return Reply(201, self.dialect.job(job))

    def _list(self, query: dict[str, str]) -> Reply:
        for job in self.jobs:
            self._move(job)
        jobs = [job for job in reversed(self.jobs) if not self._hides(job)]
        if "status" in query:
            jobs = [job for job in jobs if job.status == query["status"]]
        if not self.dialect.pages:
            return Reply(200, self.dialect.page(jobs, more=False))
        if "after" in query:
            places = [n for n, job in enumerate(jobs) if query["after"] in {job.id, f"cursor:{job.id}"}]
            if not places:
                return _error(400, "bad_request", "after: no such cursor")
            jobs = jobs[places[0] + 1 :]
        limit = int(query.get("limit", "20"))
        if not 1 <= limit <= 100:
            return _error(400, "bad_request", "limit: 1..100")
        return Reply(200, self.dialect.page(jobs[:limit], more=len(jobs) > limit))

    def _move(self, job: Job) -> None:
        if job.steps:
            job.status = job.steps.pop(0)

    def _hides(self, job: Job) -> bool:
        """Whether a job does not show yet; each look brings the moment nearer."""
        job.hidden = max(job.hidden - 1, -1)
        return job.hidden >= 0

    def _cancel(self, job: Job) -> Reply:
        if job.ended:
            return _error(409, "conflict", f"the batch is {job.status}")
        job.status, job.steps, job.answers = "cancelling", ["cancelled"], dict(list(job.answers.items())[:1])
        return Reply(200, self.dialect.job(job))

    def _results(self, job: Job) -> Reply:
        if not job.ended:
            status, told = self.dialect.pending(job)
            return Reply(status, told)
        lines: list[Json] = [
            {"custom_id": key, "response": {"choices": [{"message": {"content": text}}]}, "error": None}
            for key, text in job.answers.items()
        ]
        text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        return Reply(200, self.dialect.results(job, self.blob(f"{job.id}.jsonl", text), None))

    def _storage(self, seen: Seen) -> Reply:
        """Object storage: XML errors, one way of permission only, signature-sensitive to the content type."""
        _, kind, name = seen.path.split("/", 2)
        if "authorization" in seen.headers:
            return _xml(400, "InvalidArgument", "Only one auth mechanism allowed")
        if seen.query.get("signature") != SIGNATURE:
            return _xml(403, "SignatureDoesNotMatch", f"{seen.path}?signature={SIGNATURE} does not match")
        if kind == "upload" and seen.method == "PUT" and name in self.files:
            if seen.headers.get("content-type", "application/octet-stream") != "application/octet-stream":
                return _xml(403, "SignatureDoesNotMatch", "content-type was not signed")
            if "content-length" not in seen.headers:
                return _xml(411, "MissingContentLength", "say the length")
            self.files[name] = seen
            return Reply(200, b"", {"etag": f'"{seen.digest[:32]}"'})
        if kind == "download" and seen.method == "GET" and name in self.blobs:
            return self._download(seen, self.blobs[name])
        return _xml(404, "NoSuchKey", "The specified key does not exist.")

    def _download(self, seen: Seen, blob: bytes | Path) -> Reply:
        content = blob if isinstance(blob, bytes) else blob.read_bytes()
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = {"etag": etag, "accept-ranges": "bytes", **self.blob_headers}
        asked = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", ""))
        if asked is None or not self.ranges or seen.headers.get("if-range", etag) != headers["etag"]:
            return Reply(200, content, headers)
        start = int(asked[1])
        if start >= len(content):
            return _xml(416, "InvalidRange", "The requested range is not satisfiable")
        told = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(206, content[start:], {**headers, "content-range": told})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, stub: Stub, port: int) -> None:
        self.stub = stub
        self._open: set[Any] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        request.close()  # without the polite end of the base class, so that a reset is one

    def drop(self) -> None:
        """End the connections that are kept for further calls."""
        for request in tuple(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that goes away is what these tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do(self) -> None:
        stub = self.server.stub
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, query, headers)
        stub.seen.append(seen)
        step = stub.step_for(seen)
        if isinstance(step, Reset):
            seen.body = b"".join(self._body(step.after))
            self._reset()
        elif isinstance(step, Reply) and step.early:
            self._answer_early(step)
        else:
            self._read(seen)
            self._answer(seen, step)

    do_GET = do_PUT = do_POST = do  # noqa: N815

    def _answer_early(self, step: Reply) -> None:
        """Answer before the body is read."""
        self._send(step)
        with contextlib.suppress(OSError):
            self.connection.settimeout(5)
            for _ in self._body(None):
                pass
        self.close_connection = True

    def _answer(self, seen: Seen, step: Step | None) -> None:
        stub = self.server.stub
        match step:
            case None:
                self._send(stub.answer(seen))
            case Reply():
                self._send(step)
            case Instead():
                self._send(step.make(seen))
            case Also():
                usual = stub.answer(seen)
                self._send(Reply(usual.status, usual.body, {**usual.headers, **step.headers}))
            case Lost():
                stub.answer(seen)
                self._reset()
            case Cut():
                self._send(stub.answer(seen), only=step.after)
                self._reset() if step.reset else self._end()
            case Raw():
                self.wfile.write(step.data)
                self._end()
            case Hang():
                stub.ended.wait(30)
                self._end()

    def _body(self, most: int | None) -> Iterator[bytes]:
        left = int(self.headers.get("content-length", "0"))
        left = left if most is None else min(left, most)
        while left:
            piece = self.rfile.read(min(left, PIECE))
            if not piece:
                raise ConnectionError
            left -= len(piece)
            yield piece

    def _read(self, seen: Seen) -> None:
        digest = hashlib.sha256()
        for piece in self._body(None):
            digest.update(piece)
            if seen.size < KEPT:
                seen.body += piece
            seen.size += len(piece)
        seen.digest = digest.hexdigest()

    def _send(self, reply: Reply, only: int | None = None) -> None:
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response_only(reply.status, HTTPStatus(reply.status).phrase)
        for name, value in reply.headers.items():
            self.send_header(name, value)  # `connection: close` is taken in by the base class
        if reply.status != 204 and "content-length" not in {name.lower() for name in reply.headers}:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if only is None else body[:only])
        self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end()

    def _end(self) -> None:
        self.close_connection = True


def _echo(body: Json) -> str:
    messages = body.get("messages") or [{"content": ""}]
    return str(messages[-1]["content"])


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"id": code, "message": message, "request_id": "req-of-the-stub"})


def _xml(status: int, code: str, message: str) -> Reply:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status, text.encode(), {"content-type": "application/xml"})
