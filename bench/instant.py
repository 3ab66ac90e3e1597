"""A service in this process that completes each batch as it is created. For measuring everything but the service."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from runner.errors import NotFound
from runner.providers.protocol import Counts, CreateRequest, FileIntent, Progress, RemoteBatch, Renew, ResultUrls

_KEY_AT = len(b'{"custom_id":"')
_ANSWER = (
    b'","response":{"status_code":200,"request_id":"r","body":{"id":"chatcmpl-1","object":"chat.completion",'
    b'"created":1764000000,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"The customer likes it, but for the cable; positive.","refusal":null},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":148,"completion_tokens":11,"total_tokens":159,'
    b'"prompt_tokens_details":{"cached_tokens":0}},"system_fingerprint":"fp_1"}},"error":null}\n'
)
"""About what one chat completion takes in a result file."""


def answer_file(requests: Path, results: Path) -> int:
    """Write a result line for each request line, in order; returns how many."""
    count = 0
    with requests.open("rb") as lines, results.open("wb") as out:
        for count, line in enumerate(lines, 1):  # noqa: B007  counted over the loop's end
            end = line.index(b'"', _KEY_AT)
            out.write(b'{"id":"batch_req_1","custom_id":"' + line[_KEY_AT:end] + _ANSWER)
    return count


class Instant:
    """A BatchApi whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = 0
        self._batches: dict[str, RemoteBatch] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def create_file(self, name: str, size: int) -> FileIntent:
        """Return a place in the folder."""
        del name, size
        self._files += 1
        return FileIntent(f"file-{self._files:06d}", str(self._folder / f"file-{self._files:06d}"), None)

    def upload(self, intent: FileIntent, path: Path, progress: Progress | None = None) -> None:
        """Answer the requests at once; they are not kept."""
        del progress
        count = answer_file(path, Path(intent.upload_url + ".answers"))
        Path(intent.upload_url).write_text(str(count), encoding="utf-8")

    def create_batch(self, order: CreateRequest) -> RemoteBatch:
        """Return a batch that has completed."""
        count = int((self._folder / order.file_id).read_text(encoding="utf-8"))
        now = datetime.now(UTC)
        batch = RemoteBatch(
            f"batch-{len(self._batches):06d}",
            "completed",
            order.file_id,
            order.line_format,
            order.endpoint,
            order.request_id,
            order.metadata,
            Counts(count, count, 0),
            None,
            (),
            now,
            now,
            None,
        )
        self._batches[batch.batch_id] = batch
        return batch

    def get_batch(self, batch_id: str) -> RemoteBatch:
        """Return the batch."""
        try:
            return self._batches[batch_id]
        except KeyError:
            raise NotFound(f"there is no batch {batch_id}", status=404) from None

    def list_batches(self) -> Iterator[RemoteBatch]:
        """All batches, newest first."""
        yield from reversed(list(self._batches.values()))

    def results(self, batch_id: str) -> ResultUrls:
        """Return the file of answers."""
        return ResultUrls(str(self._folder / f"{self.get_batch(batch_id).file_id}.answers"), None)

    def download(self, url: str, path: Path, progress: Progress | None = None, renew: Renew | None = None) -> None:
        """Copy the answers."""
        del progress, renew
        shutil.copyfile(url, path)

    def cancel_batch(self, batch_id: str) -> RemoteBatch:
        """Too late, always."""
        return self.get_batch(batch_id)

    def close(self) -> None:
        """Nothing is open."""
