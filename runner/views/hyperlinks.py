"""Links in a terminal (OSC 8), for files a person may want to open; only where they work."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from urllib.parse import quote


def links_work() -> bool:
    """Whether stdout is a terminal that a person sits at. Those that know no links leave them out by themselves."""
    plain = os.environ.get("TERM", "dumb") == "dumb" or bool(os.environ.get("NO_COLOR")) or "CI" in os.environ
    return sys.stdout.isatty() and not plain


def file_url(path: Path) -> str:
    """Return a file's URL as terminals want it: with the machine's name, so that none opens it on another one."""
    return f"file://{socket.gethostname()}{quote(str(path.resolve()))}"
