"""A whole round with the vendor's own client. Run as a program: SERVICE_URL and MODEL_ACCESS_KEY say where and who.

Prints what it saw as JSON. Its calls are those of the client's own documentation.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from pydo import Client

client = Client(os.environ["MODEL_ACCESS_KEY"], inference_endpoint=os.environ["SERVICE_URL"])
seen: dict[str, Any] = {}


def line(number: int) -> str:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"Prompt {number}"}], "max_tokens": 64}
    request = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request) + "\n"


def wait(batch_id: str, *statuses: str) -> Any:
    while (batch := client.batches.retrieve(batch_id)).status not in statuses:
        time.sleep(0.05)
    return batch


def create(file_id: str, **more: Any) -> Any:
    return client.batches.create(
        input_file_id=file_id, provider="openai", endpoint="/v1/chat/completions", completion_window="24h", **more
    )


content = "".join(line(number) for number in range(5)).encode()
file = client.files.create(file=("prompts.jsonl", content), purpose="batch")
batch = create(file.id, metadata={"team": "a"})
seen["created"] = [batch.id, batch.batch_id, batch.status, batch.metadata]
batch = wait(batch.id, "completed")
seen["counts"] = batch.request_counts
results = client.batches.results.retrieve(batch.id)
seen["result_available"] = results.result_available
seen["by_batch"] = client.files.content(batch.id).read().decode()
seen["by_file"] = client.files.content(batch.output_file_id).read().decode()

many = client.files.create(file=("many.jsonl", "".join(line(number) for number in range(2000)).encode()))
long = create(many.id, request_id="order-1")
seen["again"] = create(many.id, request_id="order-1").id == long.id
wait(long.id, "in_progress")
seen["cancelled"] = [client.batches.cancel(long.id).status, wait(long.id, "cancelled").status]

page = client.batches.list(limit=1)
rest = client.batches.list(limit=1, after=page.last_id)
seen["list"] = [page.data[0].batch_id == long.id, rest.data[0].batch_id == batch.id, page.has_more, rest.has_more]
# This client hands on a documented error answer as it is.
seen["unknown"] = client.batches.retrieve("00000000-0000-4000-8000-000000000000").id
json.dump(seen, sys.stdout)
