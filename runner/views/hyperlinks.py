"""Links to files in a terminal (OSC 8)."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from urllib.parse import quote


def links_work() -> bool:
    """Return whether stdout is an interactive terminal. Those without links ignore the codes."""
    plain = os.environ.get("TERM", "dumb") == "dumb" or bool(os.environ.get("NO_COLOR")) or "CI" in os.environ
    return sys.stdout.isatty() and not plain


def file_url(path: Path) -> str:
    """Return a file's URL with the machine's name: no other opens it."""
    return f"file://{socket.gethostname()}{quote(str(path.resolve()))}"
