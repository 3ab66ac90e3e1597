"""Results by batch, with sorted key indexes (NumPy and JSON) that result files can rebuild."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import TypeAdapter

from runner.base.keys import KEY_BYTES, parse_key
from runner.base.sorted_keys import order_of, plain_keys
from runner.errors import StoreError
from runner.state.atomic import private_folder, write_if_changed
from runner.state.folder_names import FolderNames
from runner.state.sorted_file import SortedFile, SortedFileCache, Stamp, file_stamp, save_sorted

KEY = np.dtype(f"S{KEY_BYTES}")
ENTRY = np.dtype([("key", KEY), ("offset", "<u8"), ("length", "<u4"), ("code", "<u2"), ("file", "u1")])
"""One result line: its key, offset and length in bytes without the line end, file (0 output, 1 errors, 2 rows recovered
from an output), and error code: 0 for an answer, n for the index's n-th code."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")

Entries = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Summary:
    """Facts of one batch's result files.

    `answers` and `failures` count keys, `empty` successes without an answer; others count lines: `cut` at the token
    limit, `odd_usage` implausible, `repaired` by the tolerant parser. Digests are SHA-256. `tokens` is (input, output,
    cached), `written` is (all, one hour) tokens written to caches. `failure_lines` count from 1; 0 is unknown. If
    `partial`, lines may be missing.
    """

    answers: int
    failures: int
    duplicates: int
    unknown: int
    malformed: int
    codes: tuple[str, ...]
    output_digest: str
    error_digest: str
    models: tuple[str, ...]
    tokens: tuple[int, int, int]
    failure: tuple[str, ...] = ()
    failure_codes: tuple[str, ...] = ()
    failure_lines: tuple[int, ...] = ()
    partial: bool = False
    kinds: tuple[int, ...] = ()
    empty: int = 0
    cut: int = 0
    odd_usage: int = 0
    repaired: tuple[tuple[str, int], ...] = ()
    written: tuple[int, int] = (0, 0)
    reading: int = 1

    @property
    def delivered(self) -> int:
        """Return how many keys succeeded."""
        return self.answers + self.empty

    @property
    def lines(self) -> int:
        """Return how many keys have a line."""
        return self.answers + self.failures


PARSER_VERSION = 2
"""Version of the rules for reading lines. Version 1 counted lines without text as answers."""
_STAGING_PREFIX = ".fresh-"
MAX_STAGING_AGE = 86_400.0
"""Seconds after which a staged download belongs to a dead process."""
_SUMMARY_SUFFIX = ".summary.json"
_SUFFIXES = (".output.jsonl", ".errors.jsonl", ".rows.jsonl")
_LOCKS = 16
"""Batches share locks, because a lock file for each batch would stay forever."""
_SUMMARY = TypeAdapter(Summary)


@dataclass(frozen=True, slots=True)
class ResultIndex:
    """One batch's index. ENTRY numbers the `files`."""

    summary: Summary
    entries: SortedFile
    files: tuple[Path, Path, Path]


class CustomIdMap:
    """Maps `custom_id` to batchspec's or an imported batch's key.

    `sent`: the shard's sorted keys, if known.
    """

    def __init__(self, sent: npt.NDArray[np.bytes_] | None = None, imported: Mapping[str, bytes] | None = None) -> None:
        self._sent = sent
        self._imported = imported

    def keys_of(self, ids: Sequence[str]) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bool_]]:
        """Return keys, empty for unknown ids, and which are known."""
        if self._imported is None and (plain := plain_keys(ids)) is not None:
            return plain, np.ones(len(ids), bool)
        key_of: Callable[[str], bytes | None] = parse_key if self._imported is None else self._imported.get
        keys = [key_of(one) for one in ids]
        return np.array([key or b"" for key in keys], f"S{KEY_BYTES}"), np.array([key is not None for key in keys])

    def only_sent(self, entries: Entries) -> tuple[Entries, int]:
        """Return entries with sent keys, and how many others."""
        if self._sent is None or not len(entries):
            return entries, 0
        at = np.searchsorted(self._sent, entries["key"])
        at[at == len(self._sent)] = 0
        known = self._sent[at] == entries["key"] if len(self._sent) else np.zeros(len(entries), bool)
        return entries[known], int((~known).sum())


class ResultStore:
    """One realm's raw results and indexes. Raises StoreError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = f"{folder}/"
        self._names = FolderNames(folder)
        self._opened = SortedFileCache()
        self._summaries: dict[str, tuple[Stamp, ResultIndex]] = {}

    def raw(self, batch_id: str) -> tuple[Path, Path]:
        """Return a batch's output and error file."""
        name = safe_name(batch_id)
        return self.folder / f"{name}{_SUFFIXES[0]}", self.folder / f"{name}{_SUFFIXES[1]}"

    def _raw_names(self, name: str) -> tuple[str, ...]:
        return tuple(f"{self._prefix}{name}{end}" for end in _SUFFIXES)

    def rows(self, batch_id: str) -> Path:
        """Return the file of recovered rows."""
        return self.folder / f"{safe_name(batch_id)}{_SUFFIXES[2]}"

    def files(self, batch_id: str) -> tuple[Path, Path, Path]:
        """Return all three, as ENTRY numbers them."""
        return (*self.raw(batch_id), self.rows(batch_id))

    def imported_ids(self, batch_id: str) -> dict[str, bytes] | None:
        """Return an imported batch's keys by id."""
        path = self.folder / f"{safe_name(batch_id)}.ids.json"
        try:
            found = orjson.loads(path.read_bytes())
            return {str(name): bytes.fromhex(key) for name, key in found.items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise StoreError(f"{path} is damaged: {error}", hint="remove it, and import the batch again") from error

    def save_imported_ids(self, batch_id: str, mapping: Mapping[str, bytes]) -> None:
        """Save an imported batch's keys."""
        path = self.folder / f"{safe_name(batch_id)}.ids.json"
        write_if_changed(path, orjson.dumps({name: key.hex() for name, key in mapping.items()}))

    def forget_index(self, batch_id: str) -> None:
        """Have a batch indexed again."""
        self._summary(batch_id).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, batch_id: str) -> Iterator[None]:
        """Lock against threads and processes. Not reentrant."""
        private_folder(self.folder)
        number = zlib.crc32(batch_id.encode()) % _LOCKS
        with (self.folder / f".lock-{number}").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def staging(self, batch_id: str) -> Iterator[tuple[Path, Path]]:
        """Yield temporary paths for `commit_download`."""
        private_folder(self.folder)
        for folder in self.folder.glob(f"{_STAGING_PREFIX}*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > MAX_STAGING_AGE:
                    shutil.rmtree(folder)
        # One folder each, because a plan and an apply may fetch the same batch at once.
        with tempfile.TemporaryDirectory(
            prefix=f"{_STAGING_PREFIX}{safe_name(batch_id)[:40]}-", dir=self.folder
        ) as name:
            yield Path(name, "output.jsonl"), Path(name, "errors.jsonl")

    def commit_download(
        self, batch_id: str, staged: tuple[Path, Path], entries: Entries, summary: Summary
    ) -> ResultIndex:
        """Replace a batch's files and index. The caller holds `locked`.

        The download must include every stored line. The summary goes first and comes last: a batch whose process dies
        in between is indexed again.
        """
        self._summary(batch_id).unlink(missing_ok=True)
        for path, target in zip(staged, self.raw(batch_id), strict=True):
            if path.exists():
                path.replace(target)
            else:
                target.unlink(missing_ok=True)
        return self.save(batch_id, entries, summary)

    def save(self, batch_id: str, entries: Entries, summary: Summary) -> ResultIndex:
        """Write an index."""
        saved = save_sorted(self.folder / f"{safe_name(batch_id)}.index.npy", entries)
        write_if_changed(self._summary(batch_id), orjson.dumps(asdict(summary)))
        return ResultIndex(summary, saved, self.files(batch_id))

    def _summary(self, batch_id: str) -> Path:
        return self.folder / f"{safe_name(batch_id)}{_SUMMARY_SUFFIX}"

    def indexed(self) -> frozenset[str]:
        """Return the `safe_name` of each indexed batch."""
        return frozenset(
            name.removesuffix(_SUMMARY_SUFFIX) for name in self._names.now() if name.endswith(_SUMMARY_SUFFIX)
        )

    def with_files(self) -> frozenset[str]:
        """Return the `safe_name` of each batch with results."""
        return frozenset(
            name.removesuffix(end) for name in self._names.now() for end in _SUFFIXES if name.endswith(end)
        )

    def load(self, batch_id: str, *, any_reading: bool = False) -> ResultIndex | None:
        """Return an index; None if incomplete or (without `any_reading`) outdated."""
        name = safe_name(batch_id)
        path = f"{self._prefix}{name}{_SUMMARY_SUFFIX}"
        try:
            stamp = file_stamp(path)
            entries = self._opened.open(f"{self._prefix}{name}.index.npy", ENTRY)
            known = self._summaries.get(name)
            if known is None or known[0] != stamp:
                summary = _SUMMARY.validate_python(orjson.loads(Path(path).read_bytes()))
                known = self._summaries[name] = stamp, ResultIndex(summary, entries, self.files(batch_id))
            elif known[1].entries is not entries:
                known = self._summaries[name] = stamp, replace(known[1], entries=entries)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(
                f"{path} is damaged: {error}", hint="remove it; batchspec then reads the results again"
            ) from error
        index, files = known[1], self._raw_names(name)
        summary = index.summary
        digests = summary.output_digest, summary.error_digest
        if any(digest and not _exists(file) for digest, file in zip(digests, files, strict=False)):
            return None
        if summary.reading < PARSER_VERSION and any(map(_exists, files)) and not any_reading:
            return None
        return index


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110  20,000 times a command


class ShardKeys:
    """The sorted keys of the shards in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened = SortedFileCache()

    def load(self, shard: str) -> SortedFile | None:
        """Return a shard's sorted keys; None without a valid file."""
        try:
            return self._opened.open(f"{self._folder}/{shard}.keys.npy", KEY)
        except (FileNotFoundError, ValueError):
            return None


def save_keys(path: Path, keys: npt.NDArray[np.bytes_]) -> SortedFile:
    """Write a shard's sorted keys."""
    return save_sorted(path, keys)


def entries_of(records: Entries) -> Entries:
    """Sort by key, each once: answers beat errors, then the first wins."""
    answers_first = np.argsort(records["code"] > 0, kind="stable")
    array = records[answers_first]
    array = array[order_of(array["key"])]
    keep = np.ones(len(array), bool)
    keep[1:] = array["key"][1:] != array["key"][:-1]
    return array[keep]


def safe_name(batch_id: str) -> str:
    """Return an untrusted id as a file name."""
    if _PLAIN_NAME.fullmatch(batch_id):
        return batch_id
    from runner.base.digest import sha256_hex  # noqa: PLC0415

    return f"id-{sha256_hex(batch_id.encode())[:40]}"
