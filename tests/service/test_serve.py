"""Starting and stopping: one service a folder, nothing left behind, errors that say what to do."""

from __future__ import annotations

import inspect
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from runner.cli.commands import serve as command
from runner.errors import ServiceError
from runner.service import BackgroundService, ServiceConfig
from runner.service.http import rate_limit
from runner.service.server.running import running_url
from tests.cli_runner import cli_path
from tests.service.conftest import Serve, chat


def test_one_service_a_folder(tmp_path: Path) -> None:
    """The second is refused with the folder's name and the first one's address, and may start when that has stopped."""
    config = ServiceConfig(data=tmp_path)
    with BackgroundService.start(config) as first:
        assert running_url(tmp_path) == first.url
        with pytest.raises(ServiceError, match=str(tmp_path)) as caught:
            BackgroundService.start(config)
        assert first.url in caught.value.hint
        assert httpx.get(f"{first.url}/v1/batches").status_code == 200
    assert running_url(tmp_path) is None
    with BackgroundService.start(config) as second:
        assert httpx.get(f"{second.url}/v1/batches").status_code == 200


def test_stopping_is_quick_and_leaves_no_thread(serve: Serve) -> None:
    """Also with a job at work, a connection open and an upload under way."""
    before = set(threading.enumerate())
    api = serve(answer_delay=3600.0)
    api.until(api.submit([chat("a")])["id"], lambda batch: batch["status"] == "in_progress")
    url = httpx.URL(api.intent()["upload_url"])
    with socket.create_connection((url.host, url.port or 0)) as connection:
        head = f"PUT {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: 100\r\n\r\nhalf"
        connection.sendall(head.encode())
        time.sleep(0.1)
        began = time.monotonic()
        api.stop()
        assert time.monotonic() - began < 2
    api.until_true(lambda: set(threading.enumerate()) <= before)
    api.stop()


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ServiceError, match=str(taken.getsockname()[1])),
    ):
        BackgroundService.start(ServiceConfig(data=tmp_path, port=taken.getsockname()[1]))
    with pytest.raises(ServiceError, match="70000"):
        BackgroundService.start(ServiceConfig(data=tmp_path, port=70000))
    BackgroundService.start(ServiceConfig(data=tmp_path)).stop()


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="file"):
        BackgroundService.start(ServiceConfig(data=tmp_path / "file"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "service.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(ServiceError, match=r"service\.db"):
        BackgroundService.start(ServiceConfig(data=tmp_path / "data"))


def test_a_newer_database_is_refused_with_a_sentence(serve: Serve, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    serve().stop()
    with closing(sqlite3.connect(tmp_path / "data" / "service.db")) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ServiceError, match="newer batchspec"):
        serve()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"backend": "gpt"}, id="backend"),
        pytest.param({"backend": "openai"}, id="no-base-url"),
        pytest.param({"backend": "openai", "base_url": "ftp://x"}, id="base-url"),
        pytest.param({"concurrency": 0}, id="concurrency"),
        pytest.param({"result_shape": "xml"}, id="shape"),
        pytest.param({"tokens": ("",)}, id="empty-token"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(ServiceError):
        ServiceConfig(data=tmp_path, **settings)  # type: ignore[arg-type]


def test_importing_the_service_is_cheap() -> None:
    """Whoever only wants the names pays for no server, database or log."""
    code = (
        "import sys, runner.service; heavy = {'uvicorn', 'starlette', 'httpx', 'sqlite3', 'structlog', 'xllamacpp',"
        " 'filelock'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_token_stands_in_the_configs_repr(tmp_path: Path) -> None:
    assert "secret-token" not in repr(ServiceConfig(data=tmp_path, tokens=("secret-token",)))


def test_a_service_logs_to_stderr_only(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    api = serve()
    api.run([chat("a")])
    api.run(b"nonsense\n")
    api.stop()
    assert capfd.readouterr().out == ""


def test_the_command_has_the_same_bounds_as_the_service(tmp_path: Path) -> None:
    """`serve --help` prints them; each is written there a second time, so that printing it imports no server."""
    printed = {name: parameter.default for name, parameter in inspect.signature(command.serve).parameters.items()}
    config = ServiceConfig(data=tmp_path)
    assert rate_limit.parse(printed["guesses"]) == config.guess_limits
    for name, value in {
        "max_connections": config.bounds.connections,
        "max_connections_per_address": config.bounds.per_address,
        "max_headers": config.bounds.headers,
        "max_header_bytes": config.bounds.header_bytes,
        "min_rate": config.bounds.min_rate,
        "max_json_bytes": config.max_json_bytes,
        "max_upload_bytes": config.max_upload_bytes,
    }.items():
        assert printed[name] == value, name
    for name in ("header_time", "idle_time", "body_time"):
        assert printed[name] == f"{getattr(config.bounds, name):.0f}s", name


def test_tokens_and_bounds_come_from_the_command_line(tmp_path: Path) -> None:
    """Each line of a token file is an account."""
    file = tmp_path / "tokens"
    file.write_text("first-token\n\n  second-token\n")
    options = ["--token-file", str(file), "--max-header-bytes", "500", "--data", str(tmp_path / "data")]
    with subprocess.Popen([cli_path(), "serve", *options], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        codes = [
            httpx.get(f"{url}/v1/batches", headers={"authorization": f"Bearer {token}", "x": "a" * fill}).status_code
            for token, fill in (("first-token", 1), ("second-token", 1), ("third", 1), ("first-token", 400))
        ]
        running.terminate()
        running.wait()
    assert codes == [200, 200, 401, 431]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "cannot be read", id="missing"),
        pytest.param(b"\n \n", "holds no token", id="empty"),
        pytest.param(b"\xff\xfe", "cannot be read", id="not-text"),
        pytest.param(b"a" * 70_000, "more than 65536 bytes", id="large"),
    ],
)
def test_a_token_file_that_can_not_be_used_starts_no_open_service(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ServiceError, match=message):
        command.serve(data=tmp_path / "data", token_file=file)
    assert not (tmp_path / "data").exists()
