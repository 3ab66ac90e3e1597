"""A listener that ends by SIGKILL at a step: `python -m tests.listener.killed ROOT KIND NUMBER WHEN`."""

from __future__ import annotations

import sys
from pathlib import Path

from runner.context import NullWatcher
from runner.listener.listen import ListenConfig, run
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW
from tests.executor.kill import Killer, Point


def main(root: str, kind: str, number: str, when: str) -> None:
    CONSISTENCY_WINDOW["digitalocean"] = 0.0
    Killer(Point(kind, int(number), when)).install()
    run(ListenConfig(Path(root), workers=1), lambda urls: print(urls[0], flush=True), NullWatcher())


if __name__ == "__main__":
    main(*sys.argv[1:])
