"""What every batch service must do for the executor, whatever dialect it speaks: one suite, all implementations."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.errors import Conflict, NotFound, NotReady, Rejected, Unauthorized
from runner.jobspec.settings import LocalProfile
from runner.providers.digitalocean import DigitalOcean
from runner.providers.local import embedded
from runner.providers.protocol import BatchApi, CreateRequest, FileIntent, RemoteBatch
from runner.service import BackgroundService, ServiceConfig
from tests.providers.stub import KEY, Stub, Told

DEADLINE = 30.0


@dataclass
class World:
    """A service, and what it tells. `slow` makes a job that is not over at once."""

    api: BatchApi
    identity: bool
    stranger: BatchApi | None
    embedded: bool

    def upload(self, path: Path) -> str:
        intent = self.api.create_file(path.name, path.stat().st_size)
        self.api.upload(intent, path)
        return intent.file_id

    def order(self, file_id: str, **more: str) -> CreateRequest:
        metadata = {"project": "p", "job": "j", "shard": "s"}
        return CreateRequest(
            file_id, "openai", "/v1/chat/completions", more.get("request_id", str(uuid.uuid4())), metadata
        )

    def ended(self, batch_id: str) -> RemoteBatch:
        deadline = time.monotonic() + DEADLINE
        while not (batch := self.api.get_batch(batch_id)).ended:
            assert time.monotonic() < deadline, batch
            time.sleep(0.02 if self.embedded else 0.0)
        return batch


@pytest.fixture(scope="module", params=["guide", "openapi", "godo", "service", "local"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    if kind == "local":
        api: BatchApi = embedded(folder, LocalProfile(kind="local", backend="echo"), environ={})
        yield World(api, identity=True, stranger=None, embedded=True)
        api.close()
        return
    running = (
        BackgroundService.start(ServiceConfig(data=folder, tokens=(KEY,))) if kind == "service" else Stub(kind)
    )  # fmt: skip
    with running:
        api, stranger = DigitalOcean(running.url, KEY), DigitalOcean(running.url, "another-key")
        identity = kind == "service" or (isinstance(running, Stub) and running.dialect.identity)
        yield World(api, identity, stranger, embedded=kind == "service")
        api.close()
        stranger.close()


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    messages = [{"role": "user", "content": "Say hello."}]
    lines = [
        {
            "custom_id": f"k-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m-1", "messages": messages},
        }
        for number in range(3)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_from_upload_to_answers(world: World, prompts: Path, tmp_path: Path) -> None:
    batch = world.api.create_batch(world.order(world.upload(prompts)))
    assert not batch.ended
    ended = world.ended(batch.batch_id)
    assert (ended.status, ended.batch_id, ended.file_id) == ("completed", batch.batch_id, batch.file_id)
    assert (ended.counts.total, ended.counts.completed, ended.counts.failed) == (3, 3, 0)
    assert ended.created_at is not None
    assert ended.created_at.tzinfo is not None
    urls = world.api.results(batch.batch_id)
    assert urls.output_url is not None
    assert urls.error_url is None
    moved = Told()
    world.api.download(urls.output_url, tmp_path / "out.jsonl", moved)
    text = (tmp_path / "out.jsonl").read_bytes()
    assert sorted(json.loads(line)["custom_id"] for line in text.splitlines()) == ["k-0", "k-1", "k-2"]
    assert sum(moved) == len(text)


def test_a_download_replaces_what_stands_there(world: World, prompts: Path, tmp_path: Path) -> None:
    batch = world.ended(world.api.create_batch(world.order(world.upload(prompts))).batch_id)
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"old " * 10_000)
    url = world.api.results(batch.batch_id).output_url
    assert url is not None
    world.api.download(url, path)
    assert path.read_bytes().count(b"\n") == 3
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.endswith(".part")] == []


def test_results_come_more_than_once(world: World, prompts: Path) -> None:
    """Each call makes new URLs, so that those that expired can be had again."""
    batch = world.ended(world.api.create_batch(world.order(world.upload(prompts))).batch_id)
    assert world.api.results(batch.batch_id).output_url
    assert world.api.results(batch.batch_id).output_url


def test_the_same_request_id_is_the_same_batch(world: World, prompts: Path) -> None:
    order = world.order(world.upload(prompts))
    first, second = world.api.create_batch(order), world.api.create_batch(order)
    assert first.batch_id == second.batch_id


def test_the_same_request_id_for_another_file_is_a_conflict(world: World, prompts: Path) -> None:
    order = world.order(world.upload(prompts))
    world.api.create_batch(order)
    prompts.write_text(prompts.read_text().replace("k-0", "k-9"))
    with pytest.raises(Conflict):
        world.api.create_batch(world.order(world.upload(prompts), request_id=order.request_id))


def test_the_list_has_every_batch_newest_first(world: World, prompts: Path) -> None:
    file_id = world.upload(prompts)
    made = [world.api.create_batch(world.order(file_id)) for _ in range(3)]
    listed = [batch.batch_id for batch in world.api.list_batches()]
    assert listed[:3] == [batch.batch_id for batch in reversed(made)]
    assert len(listed) == len(set(listed))


def test_the_list_tells_whose_a_batch_is(world: World, prompts: Path) -> None:
    """By `request_id` and metadata. The guide's dialect tells neither: there the file id is what is left."""
    order = world.order(world.upload(prompts))
    world.api.create_batch(order)
    batch = next(world.api.list_batches())
    assert batch.file_id == order.file_id
    if world.identity:
        assert (batch.request_id, batch.metadata) == (order.request_id, order.metadata)
        assert (batch.line_format, batch.endpoint) == ("openai", "/v1/chat/completions")
    else:
        assert (batch.request_id, batch.metadata) == ("", {})


def test_a_file_is_used_by_several_batches(world: World, prompts: Path) -> None:
    file_id = world.upload(prompts)
    first, second = (world.api.create_batch(world.order(file_id)) for _ in range(2))
    assert first.batch_id != second.batch_id


def test_an_upload_url_is_used_twice(world: World, prompts: Path) -> None:
    intent = world.api.create_file("again.jsonl", prompts.stat().st_size)
    world.api.upload(intent, prompts)
    world.api.upload(intent, prompts)
    batch = world.api.create_batch(world.order(intent.file_id))
    assert world.ended(batch.batch_id).counts.completed == 3


def test_cancel(world: World, prompts: Path) -> None:
    """Cancelling at once, cancelled later; or it was quicker and has ended, which is a conflict."""
    batch = world.api.create_batch(world.order(world.upload(prompts)))
    try:
        cancelled = world.api.cancel_batch(batch.batch_id)
    except Conflict:
        assert world.embedded  # its jobs are over, or not begun, within milliseconds
        assert world.ended(batch.batch_id).status == "completed"
        return
    assert cancelled.status in {"cancelling", "cancelled"}
    assert world.ended(batch.batch_id).status in {"cancelled", "completed"}


def test_cancel_of_an_ended_batch(world: World, prompts: Path) -> None:
    batch = world.ended(world.api.create_batch(world.order(world.upload(prompts))).batch_id)
    with pytest.raises(Conflict):
        world.api.cancel_batch(batch.batch_id)


@pytest.mark.parametrize("batch_id", ["no-such-batch", "../files", "a b", "", "batch?x=1", "ä"])
def test_no_such_batch(world: World, batch_id: str) -> None:
    for call in (world.api.get_batch, world.api.results, world.api.cancel_batch):
        with pytest.raises(NotFound):
            call(batch_id)


def test_a_batch_of_no_file(world: World) -> None:
    with pytest.raises((NotFound, Rejected)):
        world.api.create_batch(world.order("no-such-file"))


def test_a_batch_of_a_file_that_was_not_uploaded(world: World) -> None:
    intent = world.api.create_file("never.jsonl", 10)
    with pytest.raises((NotFound, Rejected)):
        world.api.create_batch(world.order(intent.file_id))


def test_a_file_name_must_end_in_jsonl(world: World) -> None:
    with pytest.raises(Rejected):
        world.api.create_file("prompts.txt", 10)


def test_results_before_the_end(world: World, prompts: Path) -> None:
    batch = world.api.create_batch(world.order(world.upload(prompts)))
    try:
        world.api.results(batch.batch_id)
    except NotReady:
        return
    assert world.embedded  # its jobs may be over by now
    assert world.api.get_batch(batch.batch_id).ended


def test_a_spoiled_url_is_not_good(world: World, prompts: Path, tmp_path: Path) -> None:
    """A signature that does not fit is Unauthorized, which asks for a new URL."""
    intent = world.api.create_file("spoiled.jsonl", prompts.stat().st_size)
    spoiled = FileIntent(intent.file_id, intent.upload_url[:-4] + "beef", intent.expires_at)
    with pytest.raises(Unauthorized):
        world.api.upload(spoiled, prompts)
    batch = world.ended(world.api.create_batch(world.order(world.upload(prompts))).batch_id)
    url = world.api.results(batch.batch_id).output_url
    assert url is not None
    with pytest.raises(Unauthorized):
        world.api.download(url[:-4] + "beef", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_another_key_sees_nothing(world: World, prompts: Path) -> None:
    if world.stranger is None:
        pytest.skip("the embedded service's key is its own")
    with pytest.raises(Unauthorized) as caught:
        list(world.stranger.list_batches())
    assert "another-key" not in str(caught.value)


def test_nothing_shows_a_secret(world: World, prompts: Path) -> None:
    intent = world.api.create_file("shown.jsonl", prompts.stat().st_size)
    assert KEY not in repr(world.api)
    assert intent.upload_url not in repr(intent)
