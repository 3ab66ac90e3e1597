"""Sorted key indexes: for each result file where every answer lies, for each shard which keys it holds.

An index is a NumPy file of fixed records sorted by key, with a small JSON file beside it that names the error codes
and says what the files held. Indexes are made from the files and can be made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import TypeAdapter

from runner.base.keys import KEY_BYTES, parse_key
from runner.base.sorted_keys import order_of, plain_keys
from runner.errors import StoreError
from runner.state.atomic import write_if_changed
from runner.state.sorted_file import SortedFile, save_sorted

KEY = np.dtype(f"S{KEY_BYTES}")
ENTRY = np.dtype([("key", KEY), ("offset", "<u8"), ("length", "<u4"), ("code", "<u2"), ("file", "u1")])
"""One result line: its key, where it lies (offset and length in bytes, line end left out) in which file (0 output,
1 errors, 2 rows saved from an output), and its error code: 0 for an answer, n for the n-th code of the index."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")

Entries = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Summary:
    """What the result files of one batch held.

    `answers` and `failures` count distinct keys; `doubled`, `unknown` and `malformed` count lines that were passed
    over. `codes` names the error codes that ENTRY numbers. `output_digest` and `error_digest` are SHA-256 of the raw
    files, empty where there is no file. `models` are those that answered. `tokens` is (input, output, cached).
    `failure` says in words why the whole batch failed, `failure_codes` in codes, and `failure_lines` at which line of
    the uploaded file, from 1, or 0; all empty where it did not. `partial` says that lines may be missing that the
    service had: a file could not be had, or what a crash left was indexed as it lay there.
    `kinds` are the kinds of `codes` (`ErrorKind`). `empty` counts those of `failures` that came as a success and hold
    no answer. `cut` counts lines that end at the token limit, `odd_usage` lines whose usage is not plausible, and
    `repaired` (what, lines) those that only a tolerant read could read. `written` is (all, for an hour) tokens written
    to caches. `reading` is the version of the rules by which the lines were read.
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
        """Distinct keys of which there is a line that came as a success, whether it holds an answer or not."""
        return self.answers + self.empty

    @property
    def lines(self) -> int:
        """Distinct keys of which there is a line."""
        return self.answers + self.failures


PARSER_VERSION = 2
"""The version of the rules by which lines are read. Version 1 took lines without text for answers."""
_STAGING_PREFIX = ".fresh-"
MAX_STAGING_AGE = 86_400.0
"""Seconds after which what was being downloaded is a dead process's."""
_SUMMARY_SUFFIX = ".summary.json"
_SUFFIXES = (".output.jsonl", ".errors.jsonl", ".rows.jsonl")
_LOCKS = 16
"""Batches share locks: one of its own for each would leave as many files behind."""
_SUMMARY = TypeAdapter(Summary)


@dataclass(frozen=True, slots=True)
class ResultIndex:
    """The index of one batch's results. `files` are the raw output and error file, and rows saved from an output."""

    summary: Summary
    entries: SortedFile
    files: tuple[Path, Path, Path]


class CustomIdMap:
    """What a result's `custom_id` stands for: a key of ours as it is, or by the map of an imported batch.

    `sent` are the sorted keys of the batch's shard, where that is known: no other is an answer of this batch.
    """

    def __init__(self, sent: npt.NDArray[np.bytes_] | None = None, imported: Mapping[str, bytes] | None = None) -> None:
        self._sent = sent
        self._imported = imported

    def keys_of(self, ids: Sequence[str]) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bool_]]:
        """The keys for ids, and which of them are known; the key of one that is not is empty."""
        if self._imported is None and (plain := plain_keys(ids)) is not None:
            return plain, np.ones(len(ids), bool)
        key_of: Callable[[str], bytes | None] = parse_key if self._imported is None else self._imported.get
        keys = [key_of(one) for one in ids]
        return np.array([key or b"" for key in keys], f"S{KEY_BYTES}"), np.array([key is not None for key in keys])

    def only_sent(self, entries: Entries) -> tuple[Entries, int]:
        """The entries whose keys were sent, and how many were not."""
        if self._sent is None or not len(entries):
            return entries, 0
        at = np.searchsorted(self._sent, entries["key"])
        at[at == len(self._sent)] = 0
        known = self._sent[at] == entries["key"] if len(self._sent) else np.zeros(len(entries), bool)
        return entries[known], int((~known).sum())


class ResultStore:
    """Raw results and indexes of one realm, by batch id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def raw(self, batch_id: str) -> tuple[Path, Path]:
        """Where the output and the error file of a batch lie, or will."""
        name = safe_name(batch_id)
        return self.folder / f"{name}{_SUFFIXES[0]}", self.folder / f"{name}{_SUFFIXES[1]}"

    def rows(self, batch_id: str) -> Path:
        """Where rows of a batch lie that were saved from an output, because its results can't be had any more."""
        return self.folder / f"{safe_name(batch_id)}{_SUFFIXES[2]}"

    def files(self, batch_id: str) -> tuple[Path, Path, Path]:
        """All three, in the order in which ENTRY numbers them."""
        return (*self.raw(batch_id), self.rows(batch_id))

    def imported_ids(self, batch_id: str) -> dict[str, bytes] | None:
        """For an imported batch, what its own ids stand for; None for any other. Raises StoreError."""
        path = self.folder / f"{safe_name(batch_id)}.ids.json"
        try:
            found = orjson.loads(path.read_bytes())
            return {str(name): bytes.fromhex(key) for name, key in found.items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise StoreError(f"{path} is damaged: {error}", hint="remove it, and import the batch again") from error

    def save_imported_ids(self, batch_id: str, mapping: Mapping[str, bytes]) -> None:
        """Keep what an imported batch's own ids stand for."""
        path = self.folder / f"{safe_name(batch_id)}.ids.json"
        write_if_changed(path, orjson.dumps({name: key.hex() for name, key in mapping.items()}))

    def forget_index(self, batch_id: str) -> None:
        """Have the raw results of a batch indexed again."""
        self._summary(batch_id).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, batch_id: str) -> Iterator[None]:
        """Alone with a batch's files among all threads and processes; held for moments. It can't be taken twice."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = zlib.crc32(batch_id.encode()) % _LOCKS
        with (self.folder / f".lock-{number}").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def staging(self, batch_id: str) -> Iterator[tuple[Path, Path]]:
        """Two paths to download to; what stands there at the end is removed. `take` makes it the batch's own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in self.folder.glob(f"{_STAGING_PREFIX}*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > MAX_STAGING_AGE:
                    shutil.rmtree(folder)
        # A folder for each, since a plan and an apply may fetch the same batch at once.
        with tempfile.TemporaryDirectory(
            prefix=f"{_STAGING_PREFIX}{safe_name(batch_id)[:40]}-", dir=self.folder
        ) as name:
            yield Path(name, "output.jsonl"), Path(name, "errors.jsonl")

    def commit_download(
        self, batch_id: str, staged: tuple[Path, Path], entries: Entries, summary: Summary
    ) -> ResultIndex:
        """Make downloaded files, which hold all that stands here, the batch's own, with their index. Call it `locked`.

        The summary goes first and comes last: with it all is there. In between each file is the old one or the new one,
        and what a kill leaves is indexed as it lies there.
        """
        self._summary(batch_id).unlink(missing_ok=True)
        for path, target in zip(staged, self.raw(batch_id), strict=True):
            if path.exists():
                path.replace(target)
            else:
                target.unlink(missing_ok=True)
        return self.save(batch_id, entries, summary)

    def save(self, batch_id: str, entries: Entries, summary: Summary) -> ResultIndex:
        """Write the index of a batch whose files are there already."""
        saved = save_sorted(self.folder / f"{safe_name(batch_id)}.index.npy", entries)
        write_if_changed(self._summary(batch_id), orjson.dumps(asdict(summary)))
        return ResultIndex(summary, saved, self.files(batch_id))

    def _summary(self, batch_id: str) -> Path:
        return self.folder / f"{safe_name(batch_id)}{_SUMMARY_SUFFIX}"

    def indexed(self) -> frozenset[str]:
        """The names of batches that have an index here, as `safe_name` gives them."""
        return frozenset(path.name.removesuffix(_SUMMARY_SUFFIX) for path in self.folder.glob(f"*{_SUMMARY_SUFFIX}"))

    def with_files(self) -> frozenset[str]:
        """The names of batches of which lines lie here, with an index or without."""
        return frozenset(path.name.removesuffix(end) for end in _SUFFIXES for path in self.folder.glob(f"*{end}"))

    def load(self, batch_id: str, *, any_reading: bool = False) -> ResultIndex | None:
        """The index of a batch; None where it is not here whole. Raises StoreError where it is damaged.

        One that an earlier version read by other rules counts only with `any_reading`; else the files are read again.
        """
        name = safe_name(batch_id)
        summary_path = self._summary(batch_id)
        try:
            fields = orjson.loads(summary_path.read_bytes())
            entries = SortedFile.open(self.folder / f"{name}.index.npy", ENTRY)
            summary = _SUMMARY.validate_python(fields)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(
                f"{summary_path} is damaged: {error}", hint="remove it; the results are read again"
            ) from error
        files = self.files(batch_id)
        if (summary.output_digest and not files[0].exists()) or (summary.error_digest and not files[1].exists()):
            return None
        if summary.reading < PARSER_VERSION and any(path.exists() for path in files) and not any_reading:
            return None
        return ResultIndex(summary, entries, files)


def save_keys(path: Path, keys: npt.NDArray[np.bytes_]) -> SortedFile:
    """Write a shard's sorted keys."""
    return save_sorted(path, keys)


def load_keys(path: Path) -> SortedFile | None:
    """A shard's sorted keys; None where they are not here."""
    try:
        return SortedFile.open(path, KEY)
    except (FileNotFoundError, ValueError):
        return None


def entries_of(records: Entries) -> Entries:
    """ENTRY records, sorted by key, each key once.

    Of several lines for one key an answer beats an error, and then the first line wins.
    """
    answers_first = np.argsort(records["code"] > 0, kind="stable")
    array = records[answers_first]
    array = array[order_of(array["key"])]
    keep = np.ones(len(array), bool)
    keep[1:] = array["key"][1:] != array["key"][:-1]
    return array[keep]


def safe_name(batch_id: str) -> str:
    """A batch id as a file name. Ids come from the network: anything unusual is written as a digest."""
    if _PLAIN_NAME.fullmatch(batch_id):
        return batch_id
    from runner.base.digest import sha256_hex  # noqa: PLC0415

    return f"id-{sha256_hex(batch_id.encode())[:40]}"
