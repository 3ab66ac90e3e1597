"""`batchspec listen` as a command: as docs/how-to/listen.md starts it, until SIGTERM, and with TLS."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from runner.api import load
from runner.errors import ServiceError
from runner.listener.listen import ListenConfig, Listening
from tests.cli_runner import cli_path, run_cli
from tests.conftest import REPOSITORY
from tests.docs.test_pages import blocks
from tests.listener.conftest import SECRET, Scene, eventually
from tests.service.certificates import Certificate


def test_the_commands_of_the_page(scene: Scene) -> None:
    """A listener on a port that the system picks, an apply in another process, and an output without a poll."""
    [block] = [block for block in blocks(REPOSITORY / "docs/how-to/listen.md") if block.kind == "sh"]
    export, listen, apply = [line.partition("#")[0].strip() for line in block.text.splitlines()]
    assert export.startswith('export BATCHSPEC_WEBHOOK_SECRET="whsec_$(')
    environ = {**os.environ, **scene.environ, "BATCHSPEC_WEBHOOK_SECRET": SECRET}
    command = re.sub(r"8080", "0", listen).split()
    process = subprocess.Popen(
        [cli_path(), *command[1:]],
        cwd=scene.root,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/webhooks/test", url)
        scene.hook = url
        scene.spec()
        done = run_cli(apply.split()[1:], cwd=scene.root, env=environ)
        assert done.returncode == 0, done.stderr
        eventually((scene.root / "out/job.jsonl").exists)
        eventually(lambda: scene.events_in("done") == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        log = process.stderr.read()
        assert "webhook.received" in log
        assert "output.written" in log
        assert SECRET not in log
        assert "Say one" not in log
    finally:
        process.kill()
        process.communicate()


def test_with_a_certificate_it_serves_https(scene: Scene, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    ready = threading.Event()
    urls: list[str] = []

    def on_ready(found: tuple[str, ...]) -> None:
        urls.extend(found)
        ready.set()

    config = ListenConfig(scene.root, tls_cert=certificate.cert, tls_key=certificate.key, workers=1)
    listening = Listening(config, on_ready, environ=scene.environ)
    thread = threading.Thread(target=listening.serve)
    thread.start()
    try:
        assert ready.wait(20)
        assert urls[0].startswith("https://127.0.0.1:")
        with httpx.Client(verify=certificate.trust) as client:
            assert client.post(urls[0]).status_code == 401
    finally:
        listening.stop()
        thread.join(20)


def test_a_key_needs_its_certificate(scene: Scene) -> None:
    with pytest.raises(ServiceError) as caught:
        Listening(ListenConfig(scene.root, tls_key=Path("key.pem")), lambda _: None, environ=scene.environ).serve()
    assert caught.value.code == "BS704"


def test_the_first_command_of_a_project_may_be_listen(scene: Scene) -> None:
    """It marks its store, so the specs still load."""
    settings = json.loads((scene.root / "batchspec.yaml").read_text())
    scene.write("batchspec.yaml", json.dumps({**settings, "store": "mystore"}))
    with scene.listening():
        assert load(root=scene.root, environ=scene.environ).jobs
    assert (scene.root / "mystore/.gitignore").read_text() == "*\n"
