"""Webhooks go to public addresses and to what the operator allows: by literal, by name, by redirect, by proxy."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from runner.errors import ServiceError
from runner.http_server.addresses import is_public
from runner.service import ServiceConfig
from runner.service.webhooks.pinned_sender import NotPermitted, Sender
from runner.service.webhooks.targets import Targets, is_this_machine
from tests.service.conftest import Caller, Serve, chat
from tests.service.receiver import Receiver, serve_receiver
from tests.service.test_webhooks import SECRET, hook, settled

NOT_PUBLIC = [
    pytest.param("127.0.0.1", id="loopback"),
    pytest.param("127.8.9.10", id="loopback-other"),
    pytest.param("::1", id="loopback6"),
    pytest.param("0.0.0.0", id="unspecified"),
    pytest.param("0.1.2.3", id="this-network"),
    pytest.param("::", id="unspecified6"),
    pytest.param("10.0.0.1", id="private-a"),
    pytest.param("172.16.0.1", id="private-b"),
    pytest.param("192.168.1.1", id="private-c"),
    pytest.param("fc00::1", id="unique-local"),
    pytest.param("fec0::1", id="site-local"),
    pytest.param("169.254.169.254", id="metadata"),
    pytest.param("fe80::1", id="link-local6"),
    pytest.param("100.64.0.1", id="cgnat"),
    pytest.param("192.0.0.8", id="protocol-assignments"),
    pytest.param("192.0.2.1", id="documentation"),
    pytest.param("198.18.0.1", id="benchmark"),
    pytest.param("192.88.99.1", id="6to4-relay"),
    pytest.param("224.0.1.1", id="multicast"),
    pytest.param("ff0e::1", id="multicast6"),
    pytest.param("240.0.0.1", id="reserved"),
    pytest.param("255.255.255.255", id="broadcast"),
    pytest.param("::ffff:127.0.0.1", id="mapped"),
    pytest.param("::ffff:8.8.8.8", id="mapped-public"),
    pytest.param("::127.0.0.1", id="compatible"),
    pytest.param("2002:7f00:1::1", id="6to4"),
    pytest.param("64:ff9b::7f00:1", id="nat64"),
    pytest.param("64:ff9b:1::7f00:1", id="nat64-local"),
    pytest.param("2001:0:7f00:1::1", id="teredo"),
    pytest.param("2001:db8::1", id="documentation6"),
    pytest.param("3fff::1", id="documentation6-new"),
    pytest.param("5f00::1", id="segment-routing"),
]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A service as `serve` starts it: no webhook address is allowed."""
    from runner.service import BackgroundService

    with BackgroundService.start(ServiceConfig(data=tmp_path_factory.mktemp("strict"))) as service:
        caller = Caller(service.url)
        yield caller
        caller.close()


@pytest.fixture(scope="module")
def uploaded(strict: Caller) -> str:
    return strict.upload([chat("a")])


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_literal_address_that_is_not_public_is_refused_at_create(strict: Caller, uploaded: str, address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    reply = strict.create(uploaded, webhook={"url": f"http://{host}:81/x", "secret": SECRET})
    assert reply.status_code == 422
    assert "webhook.url" in reply.json()["message"]
    assert "is not a public address" in reply.json()["message"]
    assert not Targets().permits("name.example", ipaddress.ip_address(address)), "nor is it where a name leads there"


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "a.localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0", "127.0.0.1."],
)
def test_other_spellings_of_this_machine_are_refused_at_create(strict: Caller, uploaded: str, host: str) -> None:
    reply = strict.create(uploaded, webhook={"url": f"http://{host}/", "secret": SECRET})
    assert reply.status_code == 422
    assert "webhook.url" in reply.json()["message"]


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1"])
def test_public_addresses_need_no_permission(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    assert Targets().permits("hooks.example", ipaddress.ip_address(address))
    assert not Targets().refusal(address)


def test_this_machine_is_recognised_by_any_address_of_it() -> None:
    """Its public address leads past its own firewall."""
    assert is_this_machine(ipaddress.ip_address("127.0.0.1"))
    assert not is_this_machine(ipaddress.ip_address("192.0.2.1"))


@pytest.mark.parametrize(
    ("allow", "host", "address", "permitted"),
    [
        ("loopback", "localhost", "127.0.0.1", True),
        ("loopback", "localhost", "::ffff:127.0.0.1", True),
        ("loopback", "x.example", "10.0.0.1", False),
        ("loopback", "x.example", "169.254.169.254", False),
        ("private", "x.example", "192.168.7.7", True),
        ("private", "x.example", "fd00::1", True),
        ("private", "x.example", "127.0.0.1", False),
        ("private", "x.example", "100.64.0.1", False),
        ("10.1.0.0/16", "x.example", "10.1.2.3", True),
        ("10.1.0.0/16", "x.example", "10.2.0.1", False),
        ("10.1.2.3", "x.example", "10.1.2.3", True),
        ("64:ff9b::/96", "x.example", "64:ff9b::808:808", True),
        ("Hooks.Internal.", "hooks.internal", "10.1.2.3", True),
        ("hooks.internal", "x.hooks.internal", "10.1.2.3", False),
    ],
)
def test_what_the_operator_allows(allow: str, host: str, address: str, permitted: bool) -> None:
    assert Targets((allow,)).permits(host, ipaddress.ip_address(address)) is permitted


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "10.0.0", "a b", "http://x", "*.example", "x:80"])
def test_an_allowance_that_is_written_wrong_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ServiceError, match="is no host, address or network"):
        ServiceConfig(data=tmp_path, webhook_allow=(text,))


@pytest.mark.slow
def test_what_was_accepted_before_is_checked_when_it_is_sent(serve: Serve, tmp_path: Path) -> None:
    """The operator takes the permission back: nothing connects, and the attempt shows neither cause nor time."""
    with serve_receiver(lambda _: 500) as receiver:
        api = serve(webhook_backoff=30)
        batch = api.run([chat("a")], webhook=hook(receiver))
        api.until_true(lambda: len(receiver.received) == 1)
        api.stop()
        api = serve(webhook_allow=(), webhook_backoff=0.002)
        missing = api.run([chat("b")], webhook={"url": "http://no-such-host.invalid/", "secret": SECRET})
        shown = [settled(api, tmp_path / "data", missing["id"])[1][0]]
        api.stop()
        # What was put off for 30 seconds is due at once.
        make_due(tmp_path / "data" / "service.db")
        api = serve(webhook_allow=(), webhook_backoff=0.002)
        shown.append(settled(api, tmp_path / "data", batch["id"])[1][-1])
        assert len(receiver.received) == 1
    assert {(one.status, one.error, one.seconds) for one in shown} == {
        (None, "the host has no address that webhooks may be sent to", 0.0)
    }


def test_only_the_owner_of_a_job_sees_what_its_receiver_answered(serve: Serve, tmp_path: Path) -> None:
    """Another account sees neither status nor time, and can't tell the job from one that never was."""
    with serve_receiver(lambda _: 418) as receiver:
        mine = serve(token="a", tokens=("a", "b"), webhook_backoff=0.01)
        batch = mine.run([chat("a")], webhook=hook(receiver))
        settled(mine, tmp_path / "data", batch["id"])
    page = f"/jobs/{batch['id']}"
    assert "answered with 418" in mine.http.get(page).text
    yours = Caller(str(mine.http.base_url), "b")
    other = f"/jobs/{'0' * 8}-0000-4000-8000-{'0' * 12}"
    assert yours.http.get(page).status_code == yours.http.get(other).status_code == 404
    assert yours.http.get(page).text == yours.http.get(other).text
    for path in ("/", "/v1/batches"):
        assert "418" not in yours.http.get(path).text
        assert batch["id"] not in yours.http.get(path).text
    yours.close()


class Resolver:
    """Answers as a DNS server would that an attacker runs: each time with the next of its answers."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        return self._answers[min(len(self.asked), len(self._answers)) - 1]


def post(url: str, resolver: Resolver, *allow: str) -> int:
    async def send() -> int:
        sender = Sender(Targets(allow), timeout=5, max_connections=2, resolve=resolver)
        try:
            return await sender.post(url, b"{}", {"content-type": "application/json"})
        finally:
            await sender.close()

    return asyncio.run(send())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serve_receiver() as receiver:
        yield receiver


def test_a_name_that_resolves_to_a_forbidden_address_is_not_connected_to(receiver: Receiver) -> None:
    port = urlsplit(receiver.url).port
    for answers in (["127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254", "127.0.0.1"], []):
        with pytest.raises(NotPermitted):
            post(f"http://hooks.example:{port}/", Resolver(answers))
    assert receiver.received == []


def test_a_name_is_resolved_once_and_the_connection_goes_to_that_address(receiver: Receiver) -> None:
    """A second answer, to where the first was allowed, is never asked for; the Host header keeps the name."""
    port = urlsplit(receiver.url).port
    resolver = Resolver(["127.0.0.1"], ["169.254.169.254"])
    assert post(f"http://user:pass%20word@Hooks.example:{port}/a?b=c", resolver, "127.0.0.0/30") == 200
    assert resolver.asked == ["hooks.example"]
    (one,) = receiver.received
    assert one.path == "/a?b=c"
    assert one.headers["host"] == f"hooks.example:{port}"
    assert one.headers["authorization"] == "Basic dXNlcjpwYXNzIHdvcmQ="


def test_of_several_addresses_only_the_permitted_ones_are_tried(receiver: Receiver) -> None:
    """And the next where one does not answer."""
    port = urlsplit(receiver.url).port
    assert post(f"http://hooks.example:{port}/", Resolver(["169.254.169.254", "::1", "127.0.0.1"]), "loopback") == 200


def test_no_proxy_of_the_environment_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy resolves names by itself."""
    with serve_receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert post(f"{receiver.url}/", Resolver(["127.0.0.1"]), "loopback") == 200
    assert (len(receiver.received), len(proxy.received)) == (1, 0)


def test_tls_checks_the_name_and_not_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server name is sent, and the certificate has to be for it, whatever address was connected to."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(context)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        resolver = Resolver(["127.0.0.1"])
        assert post(f"https://hooks.example:{server.server_port}/", resolver, "hooks.example") == 202
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            post(f"https://other.example:{server.server_port}/", resolver, "other.example")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert names == ["hooks.example", "other.example"]


def make_due(path: Path) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE deliveries SET due_at = 1 WHERE due_at IS NOT NULL")
