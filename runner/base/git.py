"""Starts git. A checkout may be hostile, so nothing that it configures runs.

Git gets no key, network, hook, monitor, filter, pager or prompt, and never uses a bare repository in the checkout.
Time and output are bounded.
"""

from __future__ import annotations

import io
import os
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO

from runner.errors import BatchspecError

SECONDS = 120.0
"""The longest time of one call."""
OUTPUT_BYTES = 256 << 20
"""The most output of one call in memory."""
COPY_BYTES = 20 << 30
"""The largest file copied from git's history."""
_ERROR_BYTES = 1 << 16
_SETTINGS = (
    "safe.bareRepository=explicit",
    "safe.directory=*",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "core.sshCommand=false",
    "core.askPass=true",
    "core.alternateRefsCommand=true",
    "credential.helper=",
    "log.showSignature=false",
    "protocol.allow=never",
    "submodule.recurse=false",
)
"""`safe.directory` lets git read another user's checkout, as in a container: nothing that it configures runs."""
_PASSED = ("PATH", "HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "TMPDIR")
"""Environment for git: paths of git and of the user's settings, and no key."""
_BARE = ("HEAD", "objects", "refs")


class GitUnusable(BatchspecError):
    """No repository, no git, or git fails."""

    code = "BS803"


def top_of(folder: Path) -> Path:
    """Return the work tree's top folder. Raises GitUnusable.

    Raises BatchspecError for an apparent bare repository: git before 2.38 would use it.
    """
    start = folder.resolve()
    for place in (start, *start.parents):
        if (place / ".git").exists():
            return place
        if all((place / name).exists() for name in _BARE):
            raise BatchspecError(
                f"{place} looks like a bare git repository, which batchspec does not use",
                hint="remove its files HEAD, objects and refs from the project",
                code="BS803",
            )
    raise GitUnusable(
        f"{start} is not in a git repository", hint="history is read from git; run it inside the project's repository"
    )


def run_git(folder: Path, *arguments: str, seconds: float = SECONDS, most: int = OUTPUT_BYTES) -> bytes:
    """Return git's output.

    Raises GitUnusable. Raises BatchspecError after `seconds`, beyond `most` bytes, or if git is refused.
    """
    into = io.BytesIO()
    _run(folder, arguments, into, seconds, most)
    return into.getvalue()


def copy_blob(folder: Path, revision: str, into: BinaryIO) -> None:
    """Write a file's bytes from git. Raises like `run_git`."""
    _run(folder, ("cat-file", "blob", revision), into, SECONDS * 5, COPY_BYTES)


def read_blobs(folder: Path, revisions: Sequence[str], most: int) -> Iterator[bytes | None]:
    """Yield the bytes of each file that a revision names; None if missing. Starts one process.

    Raises GitUnusable; BatchspecError for a file of more than `most` bytes.
    """
    with tempfile.TemporaryFile() as names:
        names.write("".join(f"{name}\n" for name in revisions).encode())
        names.seek(0)
        process = _start(folder, ("cat-file", "--batch"), stdin=names, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        late = threading.Timer(SECONDS * 5, process.kill)
        late.start()
        with process:
            try:
                for _ in revisions:
                    yield _next_blob(process.stdout, most)
            finally:
                late.cancel()
                process.kill()


def _next_blob(file: IO[bytes], most: int) -> bytes | None:
    """Read one answer of `git cat-file --batch`: `HASH TYPE SIZE`, the bytes and a line end; or `NAME missing`."""
    header = file.readline()
    if header.endswith(b" missing\n"):
        return None
    parts = header.split()
    if len(parts) != 3 or not parts[2].isdigit():
        raise GitUnusable("git cat-file ended early or took too long")
    size = int(parts[2])
    if size > most:
        raise BatchspecError(f"a version in git has {size:,} bytes; at most {most:,} are read", code="BS803")
    data = file.read(size + 1)
    if len(data) <= size:
        raise GitUnusable("git cat-file ended early or took too long")
    return data[:-1]


def resolve_commit(folder: Path, revision: str) -> str:
    """Return the full hash that a revision names. Raises BatchspecError if it names none, or outside git."""
    run_git(folder, "rev-parse", "--git-dir")
    try:
        found = run_git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except BatchspecError as error:
        raise BatchspecError(
            f"git knows no commit {revision}", hint="write a branch, a tag, a hash, or HEAD~1", code="BS803"
        ) from error
    return found.decode().strip()


def files_at(folder: Path, commit: str, below: str) -> tuple[str, ...]:
    """Return the files below a folder in a commit."""
    text = run_git(folder, "ls-tree", "-r", "-z", "--name-only", commit, "--", f"./{below}")
    return tuple(name for name in text.decode(errors="replace").split("\0") if name)


def blob_at(folder: Path, commit: str, path: str) -> str | None:
    """Return the object that a path names in a commit; None if the commit lacks it.

    A partial clone may lack the object itself: git fetches nothing for batchspec.
    """
    try:
        found = run_git(folder, "rev-parse", "--verify", "--quiet", f"{commit}:./{path}")
    except BatchspecError:
        return None
    return found.decode().strip()


def copy_at(folder: Path, commit: str, path: str, target: Path) -> bool:
    """Write a file's bytes in a commit to `target`; False if the commit lacks it."""
    name = blob_at(folder, commit, path)
    with target.open("wb") as file:
        if name is not None:
            copy_blob(folder, name, file)
    return name is not None


def commit_of(folder: Path) -> str:
    """Return the commit, with `+` if tracked files differ; empty outside git.

    No filter runs, so a new time stamp makes a filtered file differ.
    """
    try:
        found = run_git(
            folder,
            *_without_filters(folder),
            "status",
            "--porcelain=v2",
            "--branch",
            "--untracked-files=no",
            "--ignore-submodules=dirty",
            seconds=10,
        )
    except BatchspecError:
        return ""
    lines = found.decode(errors="replace").splitlines()
    head = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if head == "(initial)":
        return ""
    return head + ("+" if any(not line.startswith("#") for line in lines) else "")


def tracked(folder: Path, paths: Iterable[str], *, seconds: float = 10) -> frozenset[str]:
    """Return the tracked files at `paths`, ignoring case.

    Empty if git is unusable. Raises BatchspecError if it is refused or slow.
    """
    asked = [f":(icase,literal){path}" for path in paths]
    try:
        found = run_git(folder, "ls-files", "-z", "--cached", "--", *asked, seconds=seconds) if asked else b""
    except GitUnusable:
        return frozenset()
    return frozenset(name for name in found.decode(errors="surrogateescape").split("\0") if name)


def ignored(folder: Path, path: str) -> bool:
    """Return whether git ignores a file; False if unusable. Raises BatchspecError."""
    try:
        run_git(folder, "check-ignore", "--quiet", "--", path, seconds=10)
    except GitUnusable:  # it also fails for a file that is not ignored
        return False
    return True


def _without_filters(folder: Path) -> list[str]:
    try:
        found = run_git(folder, "config", "--null", "--name-only", "--get-regexp", r"^filter\.", seconds=10)
    except BatchspecError:  # git fails if none is there, and anything else shows in the next call
        return []
    names = {name.rpartition(".")[0] for name in found.decode(errors="surrogateescape").split("\0") if name}
    values = ("clean=", "smudge=", "process=", "required=false")
    return [part for name in sorted(names) for value in values for part in ("-c", f"{name}.{value}")]


def _environment(top: Path) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {
        **passed,
        "LANG": "C",
        "LC_ALL": "C",
        "GIT_CEILING_DIRECTORIES": str(top.parent),
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_PAGER": "cat",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": "false",
    }


def _start(folder: Path, arguments: tuple[str, ...], *, stdin: int | IO[bytes], stderr: int) -> subprocess.Popen[bytes]:
    top = top_of(folder)
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    command = ["git", "--no-pager", "-C", str(folder.resolve()), *settings, *arguments]
    try:
        return subprocess.Popen(  # noqa: S603  no shell
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=_environment(top)
        )
    except FileNotFoundError as error:
        raise GitUnusable("git is not installed here", hint="install git, and run it again") from error
    except OSError as error:
        raise BatchspecError(f"git can't be started: {error.strerror or error}", code="BS803") from error


def _run(folder: Path, arguments: tuple[str, ...], into: BinaryIO | io.BytesIO, seconds: float, most: int) -> None:
    what = next(part for part in arguments if not part.startswith("-") and "=" not in part)
    process = _start(folder, arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process:
        try:
            stderr = _read_output(process, into, time.monotonic() + seconds, most)
            code = process.wait(timeout=seconds)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise BatchspecError(f"git {what} took longer than {seconds:.0f} seconds", code="BS803") from error
        except OverflowError as error:
            raise BatchspecError(f"git {what} printed more than {most:,} bytes", code="BS803") from error
        finally:
            process.kill()
    if code:
        raise GitUnusable(
            f"git {what} failed: {stderr.decode(errors='replace').strip() or f'exit code {code}'}",
            hint="history is read from git; run it inside the project's repository",
        )


def _read_output(process: subprocess.Popen[bytes], into: BinaryIO | io.BytesIO, until: float, most: int) -> bytes:
    """Write stdout, return stderr. Raises TimeoutError, OverflowError."""
    assert process.stdout is not None
    assert process.stderr is not None
    stderr, size = b"", 0
    with selectors.DefaultSelector() as waiting:
        for pipe in (process.stdout, process.stderr):
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                if not data:
                    waiting.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    size += len(data)
                    if size > most:
                        raise OverflowError
                    into.write(data)
                else:
                    stderr = (stderr + data)[:_ERROR_BYTES]
    return stderr
