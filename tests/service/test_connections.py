"""Peers without a token can't starve the service: bounds of headers, times and connections, over real sockets."""

from __future__ import annotations

import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from runner.errors import ServiceError
from runner.http_server.addresses import group
from runner.http_server.bounds import Bounds
from runner.service import ServiceConfig
from tests.sampling import sampled
from tests.service.certificates import Certificate
from tests.service.conftest import Caller, Serve, chat

Connect = Callable[..., socket.socket]

HALF = b"GET /v1/batches HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
WHOLE = b"GET /v1/batches HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open raw connections to a service; all are closed at the end."""
    with ExitStack() as stack:

        def start(api: Caller, sent: bytes = b"", origin: str = "127.0.0.1") -> socket.socket:
            parts = urlsplit(str(api.http.base_url))
            address = (parts.hostname or "", parts.port or 0)
            connection = stack.enter_context(socket.create_connection(address, 10, (origin, 0)))
            connection.sendall(sent)
            return connection

        yield start


def answer(connection: socket.socket) -> bytes:
    """What comes until the service closes the connection."""
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def closed_after(connection: socket.socket, *, trickle: bytes = b"", every: float = 0.05) -> float:
    """Seconds until the service closes a connection over which `trickle` is sent again and again."""
    start = time.monotonic()
    connection.settimeout(every)
    while time.monotonic() < start + 5:
        try:
            if trickle:
                connection.sendall(trickle)
            if not connection.recv(1 << 16):
                return time.monotonic() - start
        except TimeoutError:
            continue
        except ConnectionError:
            return time.monotonic() - start
    pytest.fail("the connection is still open after 5 seconds")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"X: " + b"a" * 300_000, id="one-header"),
        pytest.param(b"".join(b"X-%d: aaaaaaaa\r\n" % number for number in range(20_000)), id="many-headers"),
        pytest.param(b"a" * 300_000 + b": 1", id="one-name"),
        pytest.param(b"".join(b"X-%d: a\r\n" % number for number in range(101)), id="count"),
    ],
)
def test_headers_are_bounded_in_bytes_and_count(api: Caller, connect: Connect, head: bytes) -> None:
    """The service answers 431 in the documented shape, without waiting for the rest."""
    connection = connect(api, b"GET /v1/batches HTTP/1.1\r\nHost: localhost\r\n")
    with suppress(ConnectionError):
        connection.sendall(head)
    top, _, body = answer(connection).partition(b"\r\n\r\n")
    # A peer that still sends when the connection is closed may lose the answer to a reset.
    if top:
        assert top.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert json.loads(body)["id"] == "request_header_fields_too_large"


def test_just_within_the_bounds_is_answered(serve: Serve, connect: Connect) -> None:
    bounds = Bounds(header_bytes=1000, headers=10)
    api = serve(bounds=bounds)
    for fill, expected in ((900, b"200"), (1000, b"431")):
        request = b"GET /v1/batches HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: %s\r\n\r\n" % (b"a" * fill)
        assert answer(connect(api, request)).split()[1] == expected
    for count, expected in ((8, b"200"), (9, b"431")):
        request = b"GET /v1/batches HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n" % (b"X: a\r\n" * count)
        assert answer(connect(api, request)).split()[1] == expected
    request = b"GET /v1/batches?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * 1000)
    assert answer(connect(api, request)).split()[1] == b"431"


def test_a_header_without_an_end_costs_no_memory(tmp_path: Path) -> None:
    """60 MB of one header on each of three connections: the process grows by less than 30 MB."""
    with Process(tmp_path) as service:
        api = Caller(service.url)
        parts = urlsplit(service.url)
        assert api.http.get("/v1/batches").status_code == 200
        before = service.memory()
        for start in (HALF, b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\n", b"GET /"):
            with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
                try:
                    connection.sendall(start)
                    for _ in range(60):
                        connection.sendall(b"a" * 1_000_000)
                except ConnectionError:
                    pass
                else:
                    pytest.fail("the service took all of it")
        assert service.memory() - before < 30_000_000
        api.close()


def test_trailers_are_bounded_and_do_not_become_headers(serve: Serve, connect: Connect) -> None:
    """Also where the body before them was fine: a token in a trailer counts for nothing."""
    api = serve(tokens=("t",))
    first = b"GET /v1/batches HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t\r\n\r\n"
    chunked = b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    received = answer(connect(api, first + chunked + b"1\r\na\r\n0\r\nAuthorization: Bearer t\r\n\r\n"))
    assert received.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 401" in received
    connection = connect(api, chunked + b"1\r\na\r\n0\r\n")
    assert closed_after(connection, trickle=b"X: " + b"a" * 1000 + b"\r\n", every=0.001) < 2


@pytest.mark.parametrize(
    ("sent", "trickle"),
    sampled(
        [
            pytest.param(b"", b"", id="nothing"),
            pytest.param(HALF, b"a", id="half-a-header"),
            pytest.param(b"", b"\r\n", id="empty-lines"),
            pytest.param(WHOLE, b"", id="idle"),
            pytest.param(WHOLE, b"\r\n", id="idle-with-empty-lines"),
            pytest.param(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n", b"a", id="body"),
            pytest.param(
                b"GET /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n", b"a", id="unread-body"
            ),
            pytest.param(
                b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"1\r\na\r\n",
                id="chunks",
            ),
        ],
        3,
    ),
)
def test_every_wait_for_the_peer_ends(serve: Serve, connect: Connect, sent: bytes, trickle: bytes) -> None:
    """A byte now and then does not make it longer."""
    api = serve(bounds=Bounds(header_time=0.3, idle_time=0.3, body_time=0.3))
    assert 0.1 < closed_after(connect(api, sent), trickle=trickle) < 1.5


def test_a_slow_upload_is_taken_where_it_keeps_the_rate(serve: Serve) -> None:
    api = serve(bounds=Bounds(body_time=0.2, min_rate=1000))

    def pieces() -> Iterator[bytes]:
        for _ in range(8):
            yield b"a" * 100
            time.sleep(0.08)

    assert api.plain.put(api.intent()["upload_url"], content=pieces()).status_code == 200


def test_an_answer_that_nobody_reads_is_given_up(serve: Serve, connect: Connect) -> None:
    """A download of several megabytes over a connection that is never read."""
    api = serve(bounds=Bounds(body_time=0.3, min_rate=100_000_000))
    batch = api.run([chat(f"r{number}", "a" * 100_000) for number in range(80)])
    url = urlsplit(api.http.get(f"/v1/batches/{batch['id']}/results").json()["output_url"])
    connection = connect(api, f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    # A poll that finds an error or the end, without taking a byte of what was sent.
    poll = select.poll()
    poll.register(connection, select.POLLHUP | select.POLLERR)
    assert poll.poll(5000)
    assert len(api.results(batch["id"])[0]) == 80


def test_requests_in_advance_are_bounded(api: Caller, connect: Connect) -> None:
    received = answer(connect(api, WHOLE * 10 + WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
    assert received.count(b"HTTP/1.1 200") == 11
    assert answer(connect(api, WHOLE * 1000)).count(b"HTTP/1.1 ") < 30


@pytest.mark.parametrize("sent", [pytest.param(b"", id="nothing"), pytest.param(HALF, id="half-open")])
def test_connections_of_one_address_are_bounded(serve: Serve, connect: Connect, sent: bytes) -> None:
    """The oldest that waits is closed for a newcomer, which is answered at once; other addresses keep theirs."""
    api = serve(bounds=Bounds(connections=12, per_address=5))
    other = connect(api, HALF, origin="127.0.0.2")
    mine = [connect(api, sent) for _ in range(20)]
    start = time.monotonic()
    assert api.http.get("/v1/batches").status_code == 200
    assert time.monotonic() - start < 2
    assert [is_closed(one) for one in mine] == [True] * 16 + [False] * 4
    assert not is_closed(other)


def test_connections_are_bounded_in_all(serve: Serve, connect: Connect) -> None:
    """An address with one connection keeps it; the address with the most makes room."""
    api = serve(bounds=Bounds(connections=6, per_address=5))
    single = connect(api, HALF, origin="127.0.0.3")
    many = [connect(api, HALF, origin="127.0.0.2") for _ in range(5)]
    assert api.http.get("/v1/batches").status_code == 200
    assert not is_closed(single)
    assert [is_closed(one) for one in many] == [True] + [False] * 4


def test_a_connection_that_is_worked_for_is_not_closed_for_another(serve: Serve, connect: Connect) -> None:
    api = serve(bounds=Bounds(connections=2, per_address=2), faults=("slow=1:1",))
    working = [connect(api, WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))]
    time.sleep(0.1)
    refused = [connect(api, HALF) for _ in range(4)]
    assert answer(working[0]).startswith(b"HTTP/1.1 200")
    assert [is_closed(one) for one in refused] == [True, True, True, False]


def test_half_open_handshakes_do_not_keep_others_out(tmp_path: Path, serve: Serve, connect: Connect) -> None:
    """TLS: they count and time out like any other connection."""
    certificate = Certificate(tmp_path)
    bounds = Bounds(connections=6, per_address=6, header_time=0.4)
    plain = serve(tls_cert=certificate.both, bounds=bounds)
    stuck = [connect(plain, b"\x16\x03\x01") for _ in range(10)]
    with Caller(str(plain.http.base_url), verify=certificate.trust).http as http:
        assert http.get("/v1/batches").status_code == 200
    assert [is_closed(one) for one in stuck[:4]] == [True] * 4
    assert closed_after(stuck[-1]) < 2


@pytest.mark.slow
def test_a_process_with_few_descriptors_serves_on(tmp_path: Path) -> None:
    """300 half-open connections at 128 descriptors: a newcomer is answered within a second."""
    with Process(tmp_path, descriptors=128) as service, ExitStack() as stack:
        parts = urlsplit(service.url)
        for _ in range(300):
            one = stack.enter_context(socket.create_connection((parts.hostname or "", parts.port or 0)))
            one.sendall(HALF)
        start = time.monotonic()
        api = Caller(service.url)
        assert api.run([chat("a")])["status"] == "completed"
        assert time.monotonic() - start < 3
        api.close()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address: str, expected: str) -> None:
    assert group(address) == expected


@pytest.mark.parametrize("name", ["header_bytes", "headers", "header_time", "idle_time", "connections"])
def test_no_bound_can_be_switched_off_by_zero(tmp_path: Path, name: str) -> None:
    with pytest.raises(ServiceError, match="must be above 0"):
        ServiceConfig(data=tmp_path, bounds=Bounds(**{name: 0}))


def is_closed(connection: socket.socket) -> bool:
    """Whether the service has closed a connection on which it had nothing to answer."""
    connection.settimeout(0.05)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


class Process:
    """A service in a process of its own, with a limit of open files."""

    def __init__(self, data: Path, descriptors: int = 256) -> None:
        limit = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
        command = [*limit, sys.executable, "-m", "runner", "serve", "--data", str(data / "data"), "--rate-limit", "off"]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)
