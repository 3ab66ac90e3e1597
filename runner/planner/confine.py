"""Remove a child process's rights to network, programs and memory.

A second line of defence: best effort, and never fails.
"""

from __future__ import annotations

import contextlib
import os
import platform
import struct
import sys
from pathlib import Path

MEMORY_BYTES = 4 << 30
"""Address space limit of a child process."""
FILE_BYTES = 1 << 38
"""Largest file a child process may write. Scratch files are sparse, so this is far above any real size."""
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "BATCHSPEC_TRUST_PATHS")
"""Environment variables passed to a child process. None holds a key."""
_DENIED_NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_DENIED_PROCESSES = ("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "pty.spawn")
_DENIED_CALLS = {
    "x86_64": (0xC000003E, (41, 42, 53, 59, 322, 425)),
    "aarch64": (0xC00000B7, (198, 203, 199, 221, 281, 425)),
}
"""Per machine: the kernel's architecture number, and the denied system calls.

These are socket, connect, socketpair, execve, execveat and io_uring_setup (linux/audit.h, asm/unistd.h).
"""


def environment() -> dict[str, str]:
    """Return a child process's environment, without keys."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}


def import_path() -> list[str]:
    """Return `sys.path` without the working directory."""
    package = str(Path(__file__).resolve().parents[2])
    return [package, *(entry for entry in sys.path if entry and Path(entry).is_absolute() and entry != package)]


def confine(*, memory: int = MEMORY_BYTES, file_bytes: int = FILE_BYTES, seconds: int | None = None) -> None:
    """Drop rights; `seconds` limits CPU time.

    Call it before reading untrusted data and starting threads.
    """
    with contextlib.suppress(ImportError):  # not on every platform
        import resource  # noqa: PLC0415

        limits = {"RLIMIT_CORE": 0, "RLIMIT_AS": memory, "RLIMIT_FSIZE": file_bytes, "RLIMIT_CPU": seconds}
        for name, value in limits.items():
            if value is None or not hasattr(resource, name):
                continue
            kind = getattr(resource, name)
            with contextlib.suppress(OSError, ValueError):
                hard = resource.getrlimit(kind)[1]
                limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(kind, (limit, limit))
    sys.addaudithook(_audit)
    with contextlib.suppress(Exception):  # best effort, whatever the platform lacks
        _install_seccomp_filter()


def _audit(event: str, _arguments: object) -> None:
    if event in _DENIED_NETWORK or event in _DENIED_PROCESSES:
        raise PermissionError(f"this process works on untrusted input; {event} is denied")


def _install_seccomp_filter() -> None:
    """Deny sockets and programs, also from native code (Linux, seccomp(2))."""
    import ctypes  # noqa: PLC0415  only here

    if sys.platform != "linux" or platform.machine() not in _DENIED_CALLS or struct.calcsize("P") != 8:
        return
    architecture, denied = _DENIED_CALLS[platform.machine()]
    load, equal, return_ = 0x20, 0x15, 0x06  # BPF: load a word, jump if equal, return
    refuse, allow = 0x00050000 | 1, 0x7FFF0000  # fail with EPERM; or allow
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (return_, 0, 0, refuse), (load, 0, 0, 0)]
    for number, call in enumerate(denied):
        program.append((equal, len(denied) - number, 0, call))
    program += [(return_, 0, 0, allow), (return_, 0, 0, refuse)]
    packed = b"".join(struct.pack("<HBBI", *line) for line in program)
    library = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(code))
    library.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if library.prctl(38, 1, 0, 0, 0) == 0:  # PR_SET_NO_NEW_PRIVS
        buffer = ctypes.create_string_buffer(header, len(header))
        library.prctl(22, 2, ctypes.addressof(buffer), 0, 0)  # PR_SET_SECCOMP, a filter
