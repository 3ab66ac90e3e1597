"""Indexing result files in pieces gives what reading them line by line gives, and its memory is that of the keys."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.base.keys import key_text, parse_key
from runner.base.sorted_keys import plain_keys
from runner.outputs import index as index_module
from runner.outputs.index import index
from runner.outputs.result_lines import answer_of, read_line
from runner.state.results import CustomIdMap
from tests.outputs.test_line_scanner import CHAT, MESSAGE, openai


def lines(count: int, chance: random.Random) -> list[bytes]:
    """Result lines of every kind: answers, errors, keys with ordinals, strangers, doubled and broken ones."""
    digests = [chance.randbytes(20) for _ in range(count // 2)]
    made = []
    for number in range(count):
        key = key_text(chance.choice(digests), chance.choice([0, 0, 0, 1, 70]))
        one: dict[str, Any] = {**openai({**CHAT, "model": f"m{number % 3}"}), "custom_id": key}
        kind = chance.randrange(12)
        if kind == 0:
            one = {"custom_id": key, "response": None, "error": {"code": f"e{number % 4}", "message": "no"}}
        elif kind == 1:
            one = {"custom_id": key, "result": {"type": "succeeded", "message": MESSAGE}}
        elif kind == 2:
            one["custom_id"] = chance.choice([key.upper(), key[:-1], "mine", key + "0", "k1-" + "ü" * 40])
        data = json.dumps(one).encode()
        made.append(data[: chance.randrange(len(data))] if kind == 3 else data)
    ends = [b"\n", b"\n", b"\r\n", b"\n\n", b"\n  \n"]
    return [line + chance.choice(ends) for line in made]


def plainly(files: tuple[Path, Path]) -> tuple[dict[bytes, tuple[int, int, int, str]], list[int]]:
    """For each key its file, offset, length and error; and counts: lines that are unknown, malformed, tokens."""
    found: dict[bytes, tuple[int, int, int, str]] = {}
    unknown = malformed = tokens = 0
    for number, path in enumerate(files):
        offset = 0
        for data in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            line = read_line(data)
            key = parse_key(line.custom_id) if line else None
            if line is None:
                malformed += bool(data.strip())
            elif key is None:
                unknown += 1
            else:
                answer = answer_of(line)
                tokens += answer.input_tokens or 0
                error = answer.error[0] if answer.error else ""
                if key not in found or (found[key][3] and not error):
                    found[key] = (number, offset, len(data.rstrip(b"\r\n")), error)
            offset += len(data)
    return found, [unknown, malformed, tokens]


@pytest.mark.parametrize("block", [1, 700, 1 << 18])
@pytest.mark.parametrize("seed", range(3))
def test_in_pieces_as_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, block: int) -> None:
    monkeypatch.setattr(index_module, "_BLOCK", block)
    chance = random.Random(seed)
    files = tmp_path / "output", tmp_path / "errors"
    for path in files:
        path.write_bytes(b"".join(lines(300, chance)).rstrip())
    entries, summary = index(files, CustomIdMap())
    found, counts = plainly(files)
    codes = ("", *summary.codes)
    assert {
        bytes(entry["key"]).ljust(24, b"\0"): (
            int(entry["file"]), int(entry["offset"]), int(entry["length"]), codes[entry["code"]],
        )
        for entry in entries
    } == found  # fmt: skip
    assert [summary.unknown, summary.malformed, summary.tokens[0]] == counts
    assert summary.answers == sum(not error for *_, error in found.values())
    assert list(entries["key"]) == sorted(entries["key"])
    assert min(counts) > 0


def test_a_foreign_batch_is_read_by_its_map(tmp_path: Path) -> None:
    keys = {"mine-1": bytes(range(24)), "k1-" + "a" * 40: bytes(range(1, 25))}
    text = "".join(json.dumps({**openai(CHAT), "custom_id": one}) + "\n" for one in (*keys, "k1-" + "b" * 40))
    (tmp_path / "output").write_text(text)
    entries, summary = index((tmp_path / "output", tmp_path / "none"), CustomIdMap(None, keys))
    assert list(entries["key"]) == sorted(keys.values())
    assert (summary.answers, summary.unknown, summary.tokens) == (2, 1, (10, 6, 2))


@pytest.mark.slow
def test_names_of_a_stranger_are_bounded(tmp_path: Path) -> None:
    """Each line may name another model and another error; an index holds neither without end."""
    with (tmp_path / "output").open("w") as file:
        for number in range(70_000):
            error = {"code": f"c{number}", "message": ""}
            file.write(json.dumps({"custom_id": key_text(number.to_bytes(20, "big")), "error": error}) + "\n")
        for number in range(50):
            file.write(
                json.dumps({**openai({**CHAT, "model": f"m{number}"}), "custom_id": key_text(b"\xff" * 20, number)})
                + "\n"
            )
    entries, summary = index((tmp_path / "output", tmp_path / "none"), CustomIdMap())
    assert (summary.failures, summary.answers) == (70_000, 50)
    assert len(summary.codes) == 1_001
    assert summary.codes[-1] == "other_error"
    assert int(entries["code"].max()) == 1_001
    assert len(summary.models) == 10


@pytest.mark.parametrize(
    "odd", ["", "k1-" + "A" * 40, "k1-" + "a" * 39, "k2-" + "a" * 40, "k1-" + "é" * 40, "k1-" + "a" * 40 + "-1"]
)
def test_keys_are_read_together_only_where_all_are_plain(odd: str) -> None:
    plain = [key_text(bytes([n]) * 20) for n in range(256)]
    together = plain_keys(plain)
    assert together is not None
    assert [bytes(key).ljust(24, b"\0") for key in together] == [parse_key(text) for text in plain]
    assert plain_keys([*plain, odd]) is None
    assert plain_keys([]) is None


def test_ids_that_are_keys_only_end_to_end_are_none() -> None:
    """Two ids whose letters, one behind the other, are those of two keys."""
    both = key_text(b"\x01" * 20) + key_text(b"\x02" * 20)
    assert plain_keys([both[:42], both[42:]]) is None
    assert plain_keys([both[:44], both[44:]]) is None


MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from runner.outputs.index import index
from runner.state.results import CustomIdMap
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
entries, _ = index((Path(sys.argv[1]), Path(sys.argv[1] + ".none")), CustomIdMap())
print(len(entries), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_memory_is_that_of_the_keys_and_not_of_the_answers(tmp_path: Path) -> None:
    """50,000 answers of 2 KB: 100 MB of text, of which an index holds some tens of bytes a line."""
    line = json.dumps(openai({**CHAT, "else": "x" * 2_000})).encode()
    path = tmp_path / "output"
    with path.open("wb") as file:
        for number in range(50_000):
            key = key_text(np.uint64(number * 11_400_714_819_323_198_485 % (1 << 64)).tobytes() + b"\0" * 12)
            file.write(line.replace(b"k1-" + b"a" * 40, key.encode()) + b"\n")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    answers, kibibytes = map(int, done.stdout.split())
    assert answers == 50_000
    assert path.stat().st_size > 100_000_000
    assert kibibytes < 20_000
