"""A program: run `batchspec` in each folder and with each arguments in a JSON file; write down what the process does.

Python's audit hook sees every program that is started, every connection, and every file that is opened for writing,
renamed or removed. Python worker processes have no hook; `test_checkout.py` compares the files before and after.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

SOCKETS = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"}
PROGRAMS = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.forkpty", "pty.spawn"}
CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}


def _absolute(path: str, folder: object) -> str:
    """Return where a name really is; `folder` is the descriptor that it is relative to, or -1."""
    if not isinstance(folder, int) or folder < 0:
        return str(Path(path).parent.resolve() / Path(path).name)
    known = Path(f"/proc/self/fd/{folder}")
    return f"{known.readlink()}/{path}" if known.is_symlink() else os.devnull


def main() -> None:
    """Run the commands of the file `argv[1]` and write a report to `argv[2]`."""
    seen: list[tuple[str, str]] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int):
            if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not isinstance(arguments[0], int):
                seen.append((event, str(Path(os.fsdecode(arguments[0])).resolve())))
        elif event in PROGRAMS:
            seen.append((event, os.fsdecode(arguments[0]) if arguments else ""))
        elif event in SOCKETS:
            seen.append((event, repr(arguments[1:])))
        elif event in CHANGES:
            folder = arguments[{"os.rename": 2, "os.mkdir": 2, "os.remove": 1, "os.rmdir": 1}.get(event, 0)]
            path = _absolute(os.fsdecode(arguments[0]), folder)
            if event != "os.mkdir" or not Path(path).is_dir():  # making a folder that is there changes nothing
                seen.append((event, path))

    from runner.cli.main import run  # imports are not what is watched

    commands = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.addaudithook(hook)
    codes, begun = [], time.monotonic()
    for folder, arguments in commands:
        print("$", *arguments, flush=True)
        os.chdir(folder)
        codes.append(run(arguments))
    took = time.monotonic() - begun
    found = list(seen)
    usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    report = {"seen": found, "codes": codes, "seconds": took, "memory": max(usage) << 10}
    Path(sys.argv[2]).write_text(json.dumps(report), encoding="utf-8")


main()
