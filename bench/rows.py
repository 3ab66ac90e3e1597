"""Made-up input: product reviews of about 470 bytes a row, the same for the same numbers."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import orjson

_TEXT = """the kettle boils quickly but its lid leaks after two weeks I wrote to support and they sent another one which
works so far colour is nice cable too short for my kitchen would buy again if price were lower café größe très
"quoted" parcel late box torn manual missing battery lasts screen bright speakers quiet"""
_WORDS = _TEXT.split()


def write_rows(path: Path, count: int, *, seed: int = 1) -> None:
    """Write `count` rows to a jsonl file."""
    pick = random.Random(seed)
    texts = [" ".join(pick.choices(_WORDS, k=64)) for _ in range(4096)]
    with path.open("wb") as file:
        for number in range(count):
            row = {
                "review_id": f"r-{number:08d}",
                "product": f"{pick.choice(_WORDS)} {number % 997}",
                "stars": number % 5 + 1,
                "language": "en",
                "verified": number % 3 == 0,
                "text": f"{texts[pick.randrange(4096)]} {number}",
            }
            file.write(orjson.dumps(row) + b"\n")


if __name__ == "__main__":
    write_rows(Path(sys.argv[1]), int(sys.argv[2]))
