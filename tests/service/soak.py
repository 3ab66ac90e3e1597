"""A long run with everything against the service: random kills, clients that leave, every fault by turns.

At the end every request that was accepted has exactly one answer or one error, in the files of the service itself.
`make soak` runs it with 2,000 jobs; the suite runs a small sample. It never takes longer than its time.
"""

from __future__ import annotations

import argparse
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from runner.service.db.batches import TERMINAL, Batch, Batches
from runner.service.db.database import Database
from runner.service.faults.faults import KINDS
from tests.service.conftest import chat, jsonl
from tests.service.receiver import Receiver, serve_receiver

TOKEN = "soak"
FAULTS_AT_ONCE = 3
DETAILS = {"slow": ":0.3", "stuck-validating": ":1", "webhook-late": ":1"}
"""Where the usual detail would only take time."""

Json = dict[str, Any]


class Trouble(Exception):
    """A call that has to be made again."""


@dataclass
class Service:
    """The service as a process that is killed now and then and started again, each time with other faults."""

    data: Path
    numbers: random.Random
    url: str = ""
    kills: int = 0
    turns: list[str] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def start(self, *, faults: bool = True) -> None:
        options = ["--fault=" + fault for fault in self._faults()] if faults else []
        delay = self.numbers.choice(["0s", "0.002s", "0.02s"])
        command = [
            *(sys.executable, "-m", "runner", "serve", "--data", str(self.data), "--token", TOKEN),
            *("--webhook-allow", "loopback"),
            *("--rate-limit", "off", "--completion-window", "30s", "--answer-delay", delay),
            *("--seed", str(self.kills), *options),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, f"the service did not start: {' '.join(command)}"

    def _faults(self) -> list[str]:
        """The next ones in turn, so that each one has its time."""
        names = list(KINDS)
        first = self.kills * FAULTS_AT_ONCE
        chosen = [names[(first + number) % len(names)] for number in range(FAULTS_AT_ONCE)]
        self.turns += chosen
        return [f"{name}=20%{DETAILS.get(name, '')}" for name in chosen]

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.kills += 1


class Client:
    """Does one job at a time, with no regard for manners: calls are repeated, cut short and left alone."""

    def __init__(self, service: Service, receiver: Receiver, seed: int, deadline: float) -> None:
        self._service = service
        self._receiver = receiver
        self._numbers = random.Random(seed)
        self._deadline = deadline
        headers = {"authorization": f"Bearer {TOKEN}"}
        self._http = httpx.Client(headers=headers, timeout=5)
        self._plain = httpx.Client(timeout=5)

    def close(self) -> None:
        self._http.close()
        self._plain.close()

    def run(self, name: str, requests: list[str]) -> list[str]:
        """Submit, in as many jobs as it takes until each request has an answer or an error; the ids of the jobs."""
        jobs = []
        missing, attempt = requests, 0
        while missing:
            attempt += 1
            request_id = f"{name}-{attempt}"
            content = jsonl([chat(request, f"Say {request}.") for request in missing])
            batch = self._submitted(request_id, content)
            jobs.append(batch["id"])
            self._ended(batch["id"])
            settled = Settled(self._service.data, batch["id"])
            missing = [request for request in missing if request not in settled.counts]
        return jobs

    def _submitted(self, request_id: str, content: bytes) -> Json:
        hook = (
            {"url": f"{self._receiver.url}/{request_id}", "secret": "secret"} if self._numbers.random() < 0.3 else None
        )
        file_id = None
        while True:
            try:
                file_id = file_id or self._uploaded(content)
                order = {"file_id": file_id, "completion_window": "24h", "request_id": request_id}
                reply = self._call("POST", "/v1/batches", {**order, **({"webhook": hook} if hook else {})})
            except Trouble:
                continue
            if reply.status_code == 201:
                batch: Json = reply.json()
                assert batch["request_id"] == request_id
                return batch
            # The file may have been lost to a kill before it was complete; then it is uploaded again.
            assert reply.status_code in {400, 404}, reply.text
            file_id = None

    def _uploaded(self, content: bytes) -> str:
        intent = self._call("POST", "/v1/batches/files", {"file_name": "in.jsonl"}).json()
        if self._numbers.random() < 0.1:
            self._leave(intent["upload_url"], content)
        try:
            reply = self._plain.put(intent["upload_url"], content=content)
        except httpx.TransportError as error:
            raise Trouble from error
        if reply.status_code != 200:
            raise Trouble
        return str(intent["file_id"])

    def _leave(self, upload_url: str, content: bytes) -> None:
        """Begin an upload and go away."""
        url = httpx.URL(upload_url)
        head = f"PUT {url.raw_path.decode()} HTTP/1.1\r\nhost: {url.host}:{url.port}\r\n"
        with suppress(OSError), socket.create_connection((url.host, url.port or 0), timeout=5) as connection:
            connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content[: len(content) // 2])

    def _ended(self, batch_id: str) -> None:
        while True:
            with suppress(Trouble):
                reply = self._call("GET", f"/v1/batches/{batch_id}")
                assert reply.status_code == 200, f"{batch_id} is lost: {reply.text}"
                if reply.json()["status"] in TERMINAL:
                    break
                if self._numbers.random() < 0.03:
                    self._call("POST", f"/v1/batches/{batch_id}/cancel")
            time.sleep(self._numbers.uniform(0.01, 0.1))
        with suppress(Trouble):
            self._look_at_results(batch_id)

    def _look_at_results(self, batch_id: str) -> None:
        """Download, and now and then leave in the middle of it."""
        reply = self._call("GET", f"/v1/batches/{batch_id}/results")
        if reply.status_code == 200 and (url := reply.json()["output_url"]):
            with suppress(httpx.TransportError), self._plain.stream("GET", url) as download:
                if self._numbers.random() < 0.5:
                    download.read()

    def _call(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        """Raises Trouble where there is no answer, or one of those that pass."""
        assert time.monotonic() < self._deadline, "the soak's time is up"
        try:
            reply = self._http.request(method, self._service.url + path, json=body)
        except httpx.TransportError as error:
            time.sleep(0.05)
            raise Trouble from error
        if reply.status_code == 429 or reply.status_code >= 500:
            raise Trouble
        return reply


class Settled:
    """What the service's own files say about a job: each request with an answer or an error, and how often."""

    def __init__(self, data: Path, batch_id: str) -> None:
        self.counts: Counter[str] = Counter()
        self.answers = self.errors = 0
        for path in (data / "jobs" / batch_id / "output.jsonl", data / "jobs" / batch_id / "errors.jsonl"):
            lines = path.read_bytes().splitlines() if path.exists() else []
            self.counts.update(orjson.loads(line)["custom_id"] for line in lines)
            if path.name == "output.jsonl":
                self.answers = len(lines)
            else:
                self.errors = len(lines)


@dataclass(frozen=True)
class Report:
    """What came of a soak."""

    jobs: int
    requests: int
    kills: int
    faults: int
    webhooks: int
    ends: dict[str, int]
    seconds: float


def soak(jobs: int, *, seed: int, seconds: float, data: Path, clients: int = 12) -> Report:
    """Run it. Raises AssertionError where something was lost or doubled, or the time was not enough."""
    began = time.monotonic()
    numbers = random.Random(seed)
    service = Service(data, random.Random(seed + 1))
    asked = {f"job-{job}": [f"r-{job}-{number}" for number in range(numbers.randint(1, 30))] for job in range(jobs)}
    made: dict[str, list[str]] = {}
    over = threading.Event()

    def kill_now_and_then() -> None:
        while not over.wait(numbers.uniform(0.3, 3.0)):
            service.kill()
            service.start()

    with serve_receiver() as receiver:
        service.start()
        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        workers = [Client(service, receiver, seed + 10 + number, began + seconds) for number in range(clients)]
        free = list(workers)

        def work(name: str) -> None:
            client = free.pop()
            try:
                made[name] = client.run(name, asked[name])
            finally:
                free.append(client)

        try:
            with ThreadPoolExecutor(clients) as pool:
                for future in [pool.submit(work, name) for name in asked]:
                    future.result()
        finally:
            over.set()
            killer.join()
            service.kill()
            for worker in workers:
                worker.close()
        service.start(faults=False)
        try:
            batches = _all_ended(data, began + seconds)
            _check_downloads(service.url, data, batches)
            hooked = _check_webhooks(receiver, batches, began + seconds)
        finally:
            service.kill()
    _check(data, asked, made, batches)
    return Report(
        jobs=len(batches),
        requests=sum(map(len, asked.values())),
        kills=service.kills,
        faults=len(set(service.turns)),
        webhooks=hooked,
        ends=dict(Counter(batch.status for batch in batches.values())),
        seconds=time.monotonic() - began,
    )


def _all_ended(data: Path, deadline: float) -> dict[str, Batch]:
    """Every job by its id, once none is at work any more: some were cancelled or their clients did not hear of them."""
    while True:
        with closing(Database(data / "service.db")) as db:
            ids = [row["id"] for row in db.connection.execute("SELECT id FROM batches")]
            found = {batch_id: Batches(db).get(batch_id) for batch_id in ids}
        batches = {batch_id: batch for batch_id, batch in found.items() if batch}
        if all(batch.ended for batch in batches.values()):
            return batches
        assert time.monotonic() < deadline, "jobs are left that do not end"
        time.sleep(0.2)


def _check_downloads(url: str, data: Path, batches: dict[str, Batch]) -> None:
    """What is handed out is what the files hold, wherever no fault has spoiled it on purpose."""
    about_lines = {name for name in KINDS if name.endswith("-lines") or name == "results-gone"}
    with httpx.Client(headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) as http, httpx.Client() as plain:
        for batch in batches.values():
            if about_lines & set(batch.active_faults):
                continue
            results = http.get(f"{url}/v1/batches/{batch.id}/results").json()
            for name, file in (("output_url", "output.jsonl"), ("error_url", "errors.jsonl")):
                if results[name]:
                    assert plain.get(results[name]).content == (data / "jobs" / batch.id / file).read_bytes()


def _check_webhooks(receiver: Receiver, batches: dict[str, Batch], deadline: float) -> int:
    """Every job that has a webhook has told of its end, with the status that it ended in."""
    expected = {batch.id: batch.status for batch in batches.values() if batch.webhook}
    while True:
        # A kill in the middle of a delivery leaves half of one; it comes again.
        whole = [
            one.event["data"] for one in [*receiver.received] if len(one.content) == int(one.headers["content-length"])
        ]
        told = {batch["id"]: batch["status"] for batch in whole}
        if expected.items() <= told.items():
            return len(expected)
        assert time.monotonic() < deadline, f"webhooks are missing: {expected.items() - told.items()}"
        time.sleep(0.2)


def _check(data: Path, asked: dict[str, list[str]], made: dict[str, list[str]], batches: dict[str, Batch]) -> None:
    """The promises: no accepted job lost, none doubled, exactly one answer or one error for each request."""
    assert Counter(batch.request_id for batch in batches.values()).most_common(1)[0][1] == 1
    accepted = [batch_id for ids in made.values() for batch_id in ids]
    assert set(accepted) == set(batches), "a job is known to one side only"
    for name, ids in made.items():
        total: Counter[str] = Counter()
        for batch_id in ids:
            batch, settled = batches[batch_id], Settled(data, batch_id)
            assert (batch.completed, batch.failed) == (settled.answers, settled.errors), batch
            assert batch.status != "completed" or batch.completed + batch.failed == batch.total, batch
            total += settled.counts
        assert total == Counter(asked[name]), f"{name}: {total - Counter(asked[name])} doubled or strange"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(soak(options.jobs, seed=options.seed, seconds=options.minutes * 60, data=Path(folder) / "data"))


if __name__ == "__main__":
    main()
