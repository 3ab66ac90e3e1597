"""Which paths a repository may name.

A checkout may be hostile. Resolved paths must be inside the project, not hidden, git's or in batchspec's store. Only
regular files open, without following links. Only the environment's `BATCHSPEC_TRUST_PATHS` allows more.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path, PurePosixPath

from runner.base.git import ignored, tracked
from runner.errors import BatchspecError, TrustError

TRUST_PATHS = "BATCHSPEC_TRUST_PATHS"
"""Paths that may be read although hidden, ignored by git, or outside the project. Separated by commas, absolute or
relative to the project."""
MARKER = "this-is-a-batchspec-store"
"""The file that marks a store. Batchspec may delete its own files there."""
DEFAULT_STORE = ".batchspec"
LOCKFILE_BYTES = 256 << 20
"""The largest lockfile; a batch takes about 500 bytes."""

_GIT = frozenset({".git", ".hg", ".svn"})
_NEVER_A_STORE = frozenset({".github", ".gitlab", ".circleci", ".husky", *_GIT})
_NEVER_AT_THE_TOP = frozenset({"specs", "templates"})
_OWN_NAMES = frozenset({".gitignore", MARKER, "locks", "store", "rendered", "scratch", "realms", "service"})
_NOT_A_FILE = "it is not a file"
_OPEN_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class TooLarge(OSError):
    """The file exceeds the limit; it has at least `size` bytes."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(errno.EFBIG, f"it has {size} bytes; at most {most} are read")
        self.size = size


def resolved(root: Path, relative: str) -> Path:
    """Resolve a path. Raises TrustError outside the project and inside git's folder."""
    top = root.resolve()
    found = _followed(top, relative)
    if not found.is_relative_to(top):
        raise TrustError(f"{relative} leads outside the project", hint="keep specs, templates, input and outputs in it")
    _check_git(relative, found.relative_to(top))
    return found


def readable(root: Path, relative: str) -> Path:
    """Resolve a path to read. Raises TrustError."""
    top = root.resolve()
    found = _followed(top, relative)
    trusted = _is_trusted(top, found)
    if not found.is_relative_to(top):
        if trusted:
            return found
        raise TrustError(f"{relative} leads outside the project", hint="keep specs, templates, input and outputs in it")
    inside = found.relative_to(top)
    _check_git(relative, inside)
    if trusted:
        return found
    if any(part.startswith(".") and part not in {".", ".."} for part in (*Path(relative).parts, *inside.parts)):
        raise TrustError(
            f"{relative} is hidden: a part of its path begins with a dot",
            hint=f"name it otherwise; or, if you trust it, set {TRUST_PATHS}={relative}",
            code="BS307",
        )
    if any((folder / MARKER).exists() for folder in found.parents if folder.is_relative_to(top)):
        raise TrustError(f"{relative} is in batchspec's own store", code="BS307")
    return found


def open_inside(root: Path, relative: str) -> BufferedReader:
    """Open a file that a repository names. Raises TrustError, OSError."""
    path = readable(root, relative)
    top = root.resolve()
    if not path.is_relative_to(top):
        return open_named(path)
    folder = os.open(top, _OPEN_FOLDER)
    try:
        *folders, name = path.relative_to(top).parts or (".",)
        for part in folders:
            inner = os.open(part, _OPEN_FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        return _regular(os.open(name, _OPEN_FILE, dir_fd=folder), path)
    finally:
        os.close(folder)


def read_inside(root: Path, relative: str, most: int) -> bytes:
    """Like `open_inside`. Also raises TooLarge."""
    with open_inside(root, relative) as file:
        return _bounded(file, most)


def open_named(path: Path) -> BufferedReader:
    """Open a regular file that the user names. Raises OSError."""
    return _regular(os.open(path, _OPEN_FILE & ~os.O_NOFOLLOW), path)


def read_named(path: Path, most: int) -> bytes:
    """Like `open_named`. Also raises TooLarge."""
    with open_named(path) as file:
        return _bounded(file, most)


def check_ignored(root: Path, relative: str) -> None:
    """Raise TrustError for an ignored file: it may be private."""
    found = readable(root, relative)
    top = root.resolve()
    if _is_trusted(top, found):
        return
    try:
        is_ignored = ignored(top, found.relative_to(top).as_posix())
    except BatchspecError as error:
        raise TrustError(f"git can't say whether it ignores {relative}: {error.message}", code="BS307") from error
    if is_ignored:
        raise TrustError(
            f"{relative} is ignored by git, so it may be private",
            hint=f"commit it; or, if you trust it, set {TRUST_PATHS}={relative}",
            code="BS307",
        )


def writable(root: Path, relative: str) -> Path:
    """Resolve a path to write: follow links among its folders, none in its place.

    Raises TrustError if it, or an existing link, is outside the project or git's.
    """
    resolved(root, relative)
    path = Path(relative)
    return resolved(root, path.parent.as_posix()) / path.name


def check_store(root: Path, relative: str) -> None:
    """Raise TrustError unless `relative` can be a project's store.

    A store is absent, empty or made by batchspec: with the marker, or (0.1.0) the default one or with batchspec's names
    only. It has no links and no tracked files.
    """
    top = root.resolve()
    folder = resolved(root, relative)
    inside = folder.relative_to(top)
    folded = [[part.casefold() for part in parts] for parts in (PurePosixPath(relative).parts, inside.parts)]
    if folder == top or any(parts and parts[0] in _NEVER_AT_THE_TOP for parts in folded):
        raise _no_store(relative, "batchspec deletes old files in its store")
    if _NEVER_A_STORE.intersection(*map(set, folded)) or any(_NEVER_A_STORE.intersection(parts) for parts in folded):
        raise _no_store(relative, "batchspec deletes old files in its store")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise _no_store(relative, "it is not a folder")
    names = {entry.name: entry for entry in os.scandir(folder)}
    marked = MARKER in names and names[MARKER].is_file(follow_symlinks=False)
    legacy = inside == Path(DEFAULT_STORE) or all(name in _OWN_NAMES or name.startswith("ledger.db") for name in names)
    if not (marked or legacy):
        raise _no_store(relative, "it is there already, and batchspec did not make it")
    realms = os.scandir(folder / "realms") if (folder / "realms").is_dir() else ()
    inner = [entry for realm in realms if realm.is_dir() for entry in (realm, *os.scandir(realm.path))]
    link = next((entry.path for entry in (*names.values(), *inner) if entry.is_symlink()), None)
    if link is not None:
        raise _no_store(relative, f"{Path(link).relative_to(folder)} in it is a link")
    if names and tracked(top, dict.fromkeys([relative, inside.as_posix()])):
        raise _no_store(relative, "git tracks files in it")


def _no_store(relative: str, why: str) -> TrustError:
    return TrustError(
        f"{relative} can't be the store: {why}",
        hint=f"name a folder that is not there yet, such as {DEFAULT_STORE}",
        code="BS308",
    )


def _followed(top: Path, relative: str) -> Path:
    if "\0" in relative:
        raise TrustError("a path can't hold a zero byte")
    if Path(relative).is_absolute():
        raise TrustError(f"{relative} is an absolute path", hint="write it relative to the project's root")
    try:
        return (top / relative).resolve()
    except (OSError, RuntimeError) as error:
        raise TrustError(f"{relative} can't be resolved: {error}") from error


def _check_git(relative: str, inside: Path) -> None:
    if any(part.casefold() in _GIT for part in (*Path(relative).parts, *inside.parts)):
        raise TrustError(f"{relative} is git's own", hint="it may hold credentials; nothing is read or written there")


def _is_trusted(top: Path, path: Path) -> bool:
    named = (part.strip() for part in os.environ.get(TRUST_PATHS, "").split(","))
    return any(path.is_relative_to((top / name).resolve()) for name in named if name)


def _regular(handle: int, path: Path) -> BufferedReader:
    regular = stat.S_ISREG(os.fstat(handle).st_mode)
    if not regular:
        os.close(handle)
        raise OSError(errno.EINVAL, _NOT_A_FILE, str(path))
    return os.fdopen(handle, "rb")


def _bounded(file: BufferedReader, most: int) -> bytes:
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise TooLarge(size, most)
    data = file.read(most + 1)
    if len(data) > most:
        raise TooLarge(len(data), most)
    return data
