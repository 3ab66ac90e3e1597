"""The bare loop that rendering is measured against: parse, jinja2, orjson, write. No keys, no checks.

python -m bench.bare ROWS.jsonl TEMPLATE.j2 FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import jinja2
import orjson


def bare(rows: Path, template: Path, folder: Path) -> int:
    """Render all rows into files of 50,000 lines; returns how many rows there were."""
    render = jinja2.Template(template.read_text(encoding="utf-8")).render
    labels = {"labels": ["positive", "negative", "mixed"]}
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with rows.open("rb") as lines:
        out = None
        for count, line in enumerate(lines, 1):
            if out is None or count % 50_000 == 1:
                if out is not None:
                    out.close()
                out = (folder / f"{count // 50_000}.jsonl").open("wb")
            row = orjson.loads(line)
            body = {
                "model": "gpt-4o-mini",
                "messages": [
                    {"role": "system", "content": "You label product reviews. Answer with one word."},
                    {"role": "user", "content": render(row, vars=labels)},
                ],
                "max_tokens": 16,
                "temperature": 0,
            }
            request = {"custom_id": f"row-{count}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            out.write(orjson.dumps(request))
            out.write(b"\n")
        if out is not None:
            out.close()
    return count


if __name__ == "__main__":
    bare(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
