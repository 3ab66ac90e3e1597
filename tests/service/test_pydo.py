"""The vendor's own Python client does the whole round: over https, for it keeps its key from plain http."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.service import BackgroundService, ServiceConfig
from tests.service.certificates import Certificate

PROGRAM = Path(__file__).with_name("pydo_round.py")


@pytest.mark.skipif(importlib.util.find_spec("pydo") is None, reason="pydo is not installed")
def test_the_vendors_client_does_the_whole_round(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    config = ServiceConfig(
        data=tmp_path / "data",
        tokens=("key",),
        tls_cert=certificate.cert,
        tls_key=certificate.key,
        answer_delay=0.02,
    )
    trust = str(certificate.authority)
    with BackgroundService.start(config) as service:
        environment = {
            **os.environ,
            "SERVICE_URL": service.url,
            "MODEL_ACCESS_KEY": "key",
            "SSL_CERT_FILE": trust,
            "REQUESTS_CA_BUNDLE": trust,
        }
        done = subprocess.run(
            [sys.executable, str(PROGRAM)], check=False, capture_output=True, text=True, env=environment, timeout=120
        )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    batch_id, same_id, status, metadata = seen["created"]
    assert batch_id == same_id
    assert (status, metadata) == ("validating", {"team": "a"})
    assert seen["counts"] == {"total": 5, "completed": 5, "failed": 0}
    assert seen["result_available"] is True
    assert seen["by_file"] == seen["by_batch"]
    lines = [json.loads(line) for line in seen["by_batch"].splitlines()]
    answers = {line["custom_id"]: line["response"]["choices"][0]["message"]["content"] for line in lines}
    assert answers == {f"r{number}": f"Prompt {number}" for number in range(5)}
    assert seen["again"] is True
    assert seen["cancelled"] == ["cancelling", "cancelled"]
    assert seen["list"] == [True, True, True, False]
    assert seen["unknown"] == "not_found"
