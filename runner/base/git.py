"""The one place that starts git. A checkout may be hostile, so git reads and runs nothing that the checkout configures.

Git gets no key, no network, no hook, no monitor, no filter, no pager and no prompt. It never uses a bare repository
that is a folder of the checkout. Time and output are bounded.
"""

from __future__ import annotations

import io
import os
import selectors
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from runner.errors import BatchspecError

SECONDS = 120.0
"""The longest that one call of git may take."""
OUTPUT_BYTES = 256 << 20
"""The most that one call of git may print into memory."""
COPY_BYTES = 20 << 30
"""The largest file that is copied out of git's history."""
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
"""`safe.directory` lets git read a checkout of another user, as in a container: nothing that it configures runs."""
_PASSED = ("PATH", "HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "TMPDIR")
"""What git gets of the environment: where it and the user's own settings are, and no key."""
_BARE = ("HEAD", "objects", "refs")


class GitUnusable(BatchspecError):
    """Git can't say anything about the folder: it is in no repository, git is missing, or git fails."""

    code = "BS803"


def top_of(folder: Path) -> Path:
    """Return the top folder of the work tree that holds `folder`. Raises GitUnusable if there is none.

    Raises BatchspecError if a folder on the way looks like a bare repository: git before 2.38 would use it.
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
    """Return what git prints for `arguments` in `folder`.

    Raises GitUnusable. Raises BatchspecError if git is refused, takes longer than `seconds` or prints more than `most`
    bytes.
    """
    into = io.BytesIO()
    _run(folder, arguments, into, seconds, most)
    return into.getvalue()


def copy_blob(folder: Path, revision: str, into: BinaryIO) -> None:
    """Write a file's bytes as they are in git, in pieces. Raises as `run_git` does."""
    _run(folder, ("cat-file", "blob", revision), into, SECONDS * 5, COPY_BYTES)


def commit_of(folder: Path) -> str:
    """Return the commit that is checked out, with `+` if tracked files differ from it; empty outside git.

    No filter of a `.gitattributes` runs: a file that a filter changes counts as changed once its time stamp does.
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
    """Return the files that git tracks at `paths` (files or folders, relative to `folder`), in any case of letters.

    Empty where git can't be used. Raises BatchspecError if it is refused or takes too long.
    """
    asked = [f":(icase,literal){path}" for path in paths]
    try:
        found = run_git(folder, "ls-files", "-z", "--cached", "--", *asked, seconds=seconds) if asked else b""
    except GitUnusable:
        return frozenset()
    return frozenset(name for name in found.decode(errors="surrogateescape").split("\0") if name)


def ignored(folder: Path, path: str) -> bool:
    """Return whether git ignores an untracked file at a path relative to `folder`; False where git can't be used.

    Raises BatchspecError if git is refused or takes too long.
    """
    try:
        run_git(folder, "check-ignore", "--quiet", "--", path, seconds=10)
    except GitUnusable:  # it also fails for a file that is not ignored
        return False
    return True


def _without_filters(folder: Path) -> list[str]:
    """Return settings that empty each filter that any configuration defines."""
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


def _run(folder: Path, arguments: tuple[str, ...], into: BinaryIO | io.BytesIO, seconds: float, most: int) -> None:
    top = top_of(folder)
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    command = ["git", "--no-pager", "-C", str(folder.resolve()), *settings, *arguments]
    what = next(part for part in arguments if not part.startswith("-") and "=" not in part)
    try:
        process = subprocess.Popen(  # noqa: S603  no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(top),
        )
    except FileNotFoundError as error:
        raise GitUnusable("git is not installed here", hint="install git, and run it again") from error
    except OSError as error:
        raise BatchspecError(f"git can't be started: {error.strerror or error}", code="BS803") from error
    with process:
        try:
            said = _take(process, into, time.monotonic() + seconds, most)
            code = process.wait(timeout=seconds)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise BatchspecError(f"git {what} took longer than {seconds:.0f} seconds", code="BS803") from error
        except OverflowError as error:
            raise BatchspecError(f"git {what} printed more than {most:,} bytes", code="BS803") from error
        finally:
            process.kill()
    if code:
        raise GitUnusable(
            f"git {what} failed: {said.decode(errors='replace').strip() or f'exit code {code}'}",
            hint="history is read from git; run it inside the project's repository",
        )


def _take(process: subprocess.Popen[bytes], into: BinaryIO | io.BytesIO, until: float, most: int) -> bytes:
    """Write stdout to `into` and return the beginning of stderr. Raises TimeoutError and OverflowError."""
    assert process.stdout is not None
    assert process.stderr is not None
    said, size = b"", 0
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
                    said = (said + data)[:_ERROR_BYTES]
    return said
