"""What an apply is killed in: each scene is a project at a service, what happened before, and how it must end.

The service is the embedded one in a process of its own, forked so that it needs no time to start, and every case has
one for itself: what was paid for is read from its books.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from runner.api import Session, load, open_project
from runner.operations.imports import import_batch
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.plan import Fetch, Submit
from tests.executor.forked_service import TOKEN, forked_service
from tests.executor.kill import Killer, Point
from tests.executor.story import Books, Clock

LOSSES = ("ledger", "store", "lockfile")


@dataclass(frozen=True)
class Scene:
    """One scene. `files` are there from the start; `before` is what was done, and what changed, before the killed run.

    `batches` is how many the service must have at the end, `outputs` what must be whole, `does` what the run is, and
    `wrong` says what else is not right then. `losses` is False where what a loss takes can't be had again; `spare` are
    batches more that there may be.
    """

    name: str
    files: Mapping[str, str]
    batches: int
    outputs: tuple[str, ...]
    options: ApplyOptions = ApplyOptions()  # noqa: RUF009  it is frozen
    losses: bool = True
    spare: int = 0
    service: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[Path, str], None] = lambda _root, _url: None
    does: Callable[[Session, ApplyOptions], int] = lambda opened, options: applied(opened, options)  # noqa: PLW0108  defined below
    wrong: Callable[[Path, str], str] = lambda _root, _url: ""


def rows(*numbers: int) -> str:
    return "".join(json.dumps({"id": number, "text": f"number {number}"}) + "\n" for number in numbers)


def spec(name: str, *more: str, path: str = "data/rows.jsonl", say: str = "Say") -> str:
    lines = [
        "version: 1",
        f"name: {name}",
        "provider: test",
        "model: gpt-4o-mini",
        f"input: {{path: {path}, id: id}}",
        f"prompt: {{user: '{say} {{{{ text }}}}.'}}",
        f"output: {{path: out/{name}.jsonl}}",
        *more,
    ]
    return "\n".join(lines) + "\n"


def write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def applied(opened: Session, options: ApplyOptions, *, waiting: bool = True) -> int:
    """Apply, and look once more: the exit code, 75 where something is left to do."""
    jobs = opened.context.project.jobs
    planned = opened.plan(jobs, options)
    outcomes = opened.apply(planned, options, wait=waiting)
    good = {"succeeded"} if waiting else {"succeeded", "running"}
    if planned.plan.errors or not {outcome.end for outcome in outcomes} <= good:
        os.write(2, f"{planned.plan.errors}\n{outcomes}\n".encode())
        return 1
    return 75 if waiting and opened.plan(jobs).plan.changes else 0


def _run(root: Path, does: Callable[[Session, ApplyOptions], int], options: ApplyOptions) -> int:
    environ = {**os.environ, "BATCHSPEC_CRASH_KEY": TOKEN}
    clock = Clock(nap=0.05)
    with open_project(load(root=root, environ=environ), environ=environ, jobs=1, now=clock.now) as opened:
        opened.context.sleep = clock.sleep
        return does(opened, options)


def in_fork(
    root: Path,
    does: Callable[[Session, ApplyOptions], int],
    options: ApplyOptions,
    point: Point | None = None,
    counts: Path | None = None,
) -> int:
    """Do it in a forked process; its exit code, negative for the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 70
    try:
        killer = Killer(point)
        killer.install()
        code = _run(root, does, options)
        if counts is not None:
            counts.write_text(json.dumps(killer.counts))
    except BaseException as error:  # noqa: BLE001  a fork must not go on into its parent's code
        os.write(2, f"{error!r}\n".encode())
    finally:
        os._exit(code)


@contextmanager
def stage(scene: Scene, folder: Path) -> Iterator[tuple[Path, str]]:
    """The scene's project and its service, up to the moment before the run that is killed."""
    root = folder / "project"
    with forked_service(folder / "service", scene.service) as url:
        profile = {"kind": "digitalocean", "base_url": url, "key": {"env": "BATCHSPEC_CRASH_KEY"}}
        settings = {"version": 1, "project": "crash", "providers": {"test": profile}}
        write(root, {"batchspec.yaml": json.dumps(settings), **scene.files})
        scene.before(root, url)
        yield root, url
    shutil.rmtree(folder)


def lose(root: Path, losses: tuple[str, ...], locks: Mapping[Path, bytes]) -> None:
    """Throw away what a machine can lose; lockfiles go back to what they were before the run."""
    base = root / ".batchspec"
    if "ledger" in losses:
        for path in base.glob("ledger.db*"):
            path.unlink()
    if "store" in losses:
        shutil.rmtree(base / "store", ignore_errors=True)
    if "lockfile" in losses:
        for path in root.glob("specs/*.lock"):
            path.unlink()
        for path, data in locks.items():
            path.write_bytes(data)


def lockfiles(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.glob("specs/*.lock")}


def outputs(scene: Scene, root: Path) -> dict[str, bytes]:
    """The outputs' bytes without the field that may differ."""
    found = {}
    for name in scene.outputs:
        lines = [json.loads(line) for line in (root / f"out/{name}.jsonl").read_bytes().splitlines()]
        found[name] = b"".join(json.dumps({k: v for k, v in one.items() if k != "batch"}).encode() for one in lines)
    return found


def check(scene: Scene, root: Path, url: str, want: Mapping[str, bytes], kills: int = 1) -> str:
    """One batch a shard at the service, each answer paid once, and the outputs of an undisturbed run; else what not.

    Each of the `kills` may have taken a canary's mark with it.
    """
    books = Books.of(root.parent / "service")
    if not 0 <= books.batches - scene.batches <= scene.spare * kills:
        return f"the service has {books.batches} batches instead of {scene.batches}"
    if books.twice:
        return f"paid for twice: {', '.join(sorted(books.twice))}"
    for name, data in outputs(scene, root).items():
        if data != want[name]:
            return f"the output of {name} differs: {data!r}"
    return scene.wrong(root, url)


def _must(code: int) -> None:
    if code:
        raise RuntimeError(f"what comes before the scene ended with {code}")


def _leave(root: Path, _url: str) -> None:
    """`old` gets another name and one row more; `gone` leaves the specs while it runs."""
    _must(in_fork(root, lambda opened, options: applied(opened, options, waiting=False), ApplyOptions()))
    (root / "specs/gone.yaml").unlink()
    (root / "specs/old.yaml").unlink()
    write(root, {"specs/new.yaml": spec("new", "moved: {from: old}"), "data/rows.jsonl": rows(0, 1, 2, 3)})


def _left(root: Path, url: str) -> str:
    """What ran of the job that left has been ended."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        batches = client.get("/v1/batches", params={"limit": "100"}).json()["data"]
    states = [batch["status"] for batch in batches if batch["metadata"]["job"] == "gone"]
    if states != ["cancelled"]:
        return f"the batch of the job that left is {states}"
    lock = (root / "specs/gone.lock").read_text()
    return "" if '"state":"cancelled"' in lock else "the lockfile does not say how the job that left has ended"


def _forget(root: Path, _url: str) -> None:
    """Answers stand in the output alone: no store, and the service has dropped the results; a row goes, one comes."""
    _must(in_fork(root, applied, ApplyOptions()))
    shutil.rmtree(root / ".batchspec")
    write(root, {"data/rows.jsonl": rows(0, 2, 3)})


def _without_old_results(opened: Session, options: ApplyOptions) -> int:
    """Apply at a service that has dropped the results of what the lockfile says has ended."""
    old = {
        line.batch
        for path in opened.context.lock_paths()
        for line in opened.context.lockfile(path).batches.values()
        if line.requests == 3
    }
    send = httpx.Client.send

    def forgetful(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        parts = request.url.path.split("/")
        if parts[-1] == "results" and parts[-2] in old:
            return httpx.Response(404, json={"id": "not_found", "message": "gone"}, request=request)
        return send(self, request, **options)

    httpx.Client.send = forgetful  # type: ignore[method-assign]
    return applied(opened, options)


def _brought_back(root: Path, _url: str) -> str:
    """The row that went comes back, and its answer is still there."""
    write(root, {"data/rows.jsonl": rows(0, 1, 2, 3)})
    code = in_fork(root, _without_old_results, ApplyOptions())
    return f"with the row back, apply ended with {code}" if code else _paid(root, 4)


def _paid(root: Path, requests: int) -> str:
    paid = sum(Books.of(root.parent / "service").answers.values())
    return "" if paid == requests else f"{paid} requests were paid for instead of {requests}"


def _made_elsewhere(root: Path, url: str) -> None:
    """Two requests, one of them of no use to the job, in a batch with ids of its own."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say number 1."}]}
    other = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say nothing."}]}
    lines = [
        {"custom_id": f"mine-{n}", "method": "POST", "url": "/v1/chat/completions", "body": one}
        for n, one in enumerate((body, other))
    ]
    write(root, {"sent.jsonl": "".join(json.dumps(line) + "\n" for line in lines)})
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        intent = client.post("/v1/batches/files", json={"file_name": "sent.jsonl"}).json()
        httpx.put(intent["upload_url"], content=(root / "sent.jsonl").read_bytes()).raise_for_status()
        made = client.post("/v1/batches", json={"file_id": intent["file_id"], "completion_window": "24h"}).json()
    write(root, {"batch": made["batch_id"]})


def _import_and_apply(opened: Session, options: ApplyOptions) -> int:
    batch = (opened.context.project.root / "batch").read_text()
    job = opened.context.project.jobs[0]
    if batch not in opened.context.lockfile(job.lock_path).batches:
        import_batch(opened.context, job, batch, opened.context.project.root / "sent.jsonl")
    return applied(opened, options)


def _ask(root: Path, _url: str) -> None:
    """One job is asked; another is written afterwards."""
    _must(in_fork(root, lambda opened, options: applied(opened, options, waiting=False), ApplyOptions()))
    write(root, {"specs/fresh.yaml": spec("fresh", say="Tell")})


def _finished(opened: Session, options: ApplyOptions) -> int:
    """Apply with `--no-new`: what was asked is finished, what was not is left."""
    jobs = opened.context.project.jobs
    ends = {outcome.address: outcome.end for outcome in opened.apply(opened.plan(jobs, options), options)}
    if ends != {"asked": "succeeded", "fresh": "skipped"}:
        os.write(2, f"{ends}\n".encode())
        return 1
    return (
        75
        if any(isinstance(a, (Submit, Fetch)) for job in opened.plan(jobs, options).plan.jobs for a in job.actions)
        else 0
    )


def _change_the_template(opened: Session, word: ApplyOptions) -> int:
    """Submit a partition, change its template, and finish it: fetch, retry what failed, write."""
    code = applied(opened, word, waiting=False)
    (opened.context.project.root / "templates/ask.j2").write_text("Tell {{ text }}.")
    return code or applied(opened, word)


def _asked_as_it_started(root: Path, _url: str) -> str:
    lines = (root / "out/2026-11-23.jsonl").read_text().splitlines()
    wrong = [line for line in lines if not json.loads(line)["text"].startswith("Say ")]
    return f"answers of another template: {wrong}" if wrong else _paid(root, 5)


_SHARDS = "shards: {max_requests: 3}"
_DAY = spec("day", "partition: date", 'vars: {date: "2026-11-23"}', _SHARDS)
SCENES = {
    scene.name: scene
    for scene in (
        # Three shards that go out beside each other.
        Scene(
            "shards",
            {"specs/crash.yaml": spec("crash", _SHARDS), "data/rows.jsonl": rows(*range(7))},
            batches=3,
            outputs=("crash",),
        ),
        # Two jobs in one file; a batch of the first expires half done, so there is a second round; the other has a canary.
        Scene(
            "rounds",
            {
                "specs/two.yaml": f"{spec('one', _SHARDS)}---\n{spec('two', 'canary: {requests: 1}', say='Tell')}",
                "data/rows.jsonl": rows(*range(5)),
            },
            batches=5,
            outputs=("one", "two"),
            spare=1,  # a canary whose mark is lost, or was not written yet, is followed by another
            service={"faults": ("expire-half=1",)},
        ),
        # A job is renamed while it runs, and another that runs has left the specs and is pruned.
        Scene(
            "left",
            {
                "specs/old.yaml": spec("old"),
                "specs/gone.yaml": spec("gone", path="data/many.jsonl", say="Tell"),
                "data/rows.jsonl": rows(0, 1, 2),
                "data/many.jsonl": rows(*range(4_000)),
            },
            batches=3,
            outputs=("new",),
            options=ApplyOptions(prune=True),
            service={"answer_delay": 0.1, "drain": 0.1},
            before=_leave,
            wrong=_left,
        ),
        # Answers that stand in the output alone are saved before it is rewritten.
        Scene(
            "salvage",
            {"specs/job.yaml": spec("job"), "data/rows.jsonl": rows(0, 1, 2)},
            batches=2,
            outputs=("job",),
            losses=False,
            before=_forget,
            does=_without_old_results,
            wrong=_brought_back,
        ),
        # Nothing new: two batches are fetched, half of one is asked again, and a job that was never asked stays so.
        Scene(
            "no-new",
            {"specs/asked.yaml": spec("asked", _SHARDS), "data/rows.jsonl": rows(*range(5))},
            batches=3,
            outputs=("asked",),
            options=ApplyOptions(no_new=True),
            service={"faults": ("expire-half=1",)},
            before=_ask,
            does=_finished,
        ),
        # A partition whose template changes between create, failure, retry and write.
        Scene(
            "partition",
            {
                "specs/day.yaml": _DAY.replace("user: 'Say {{ text }}.'", "user: {template: ask.j2}").replace(
                    "out/day.jsonl", "'out/{{ vars.date }}.jsonl'"
                ),
                "templates/ask.j2": "Say {{ text }}.",
                "data/rows.jsonl": rows(*range(5)),
            },
            batches=3,
            outputs=("2026-11-23",),
            losses=False,
            service={"faults": ("expire-half=1",)},
            does=_change_the_template,
            wrong=_asked_as_it_started,
        ),
        # A batch that was made elsewhere is imported, and the rest asked.
        Scene(
            "import",
            {"specs/job.yaml": spec("job"), "data/rows.jsonl": rows(0, 1, 2)},
            batches=2,
            outputs=("job",),
            losses=False,
            before=_made_elsewhere,
            does=_import_and_apply,
            wrong=lambda root, _url: _paid(root, 4),
        ),
    )
}
