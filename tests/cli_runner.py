"""Run `batchspec` commands without the start of an interpreter: 0.1 s a command, where a process of its own takes 1.4 s.

`run_cli` replaces `subprocess.run([sys.executable, "-m", "runner", ...])` and returns the same `CompletedProcess`.
One helper process for each pytest process imports everything once and forks for each command. The command is therefore a
process: its folder, environment, signal handlers, loggers, caches and exit code are its own, nothing of it stays in the
process of the tests, and several may run at the same time. They wait 0.05 s between looks at a batch, not 0.2 or 2 s.

`cli_path` is the path of an executable that does the same, for shell scripts and for services that a test starts with
`subprocess.Popen` and ends with `terminate`.

Start a real process where signals, kills, terminals, limits of the process or its start are the point of the test.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import pickle
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_SHIM = """\
#!{python} -IS
import array, json, os, signal, socket, struct, sys
passed_on = signal.SIGINT, signal.SIGTERM
signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
order = json.dumps({{"arguments": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}).encode()
server.sendmsg([struct.pack("!Q", len(order))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
server.sendall(order)
answers = server.makefile("rb")
pid = int(answers.readline())
for number in passed_on:
    signal.signal(number, lambda number, _: os.kill(pid, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
code = int(answers.readline())
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def run_cli(
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 120.0,
    check: bool = False,
    prepare: Callable[[], object] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `batchspec` with `arguments` in folder `cwd` and return its exit code, stdout and stderr.

    `env` is the whole environment, by default that of this process. Nothing is to be read from stdin. Raise
    `subprocess.TimeoutExpired` after `timeout` seconds, and kill the command then. With `check`, raise
    `subprocess.CalledProcessError` where the exit code is not 0. `prepare` is called in the command's process first; it
    is pickled, so it is a function of a module, or a `functools.partial` of one.
    """
    environ = dict(os.environ if env is None else env)
    order = {"arguments": [*arguments], "cwd": str(cwd), "env": environ, "prepare": pickle.dumps(prepare).hex()}
    content = json.dumps(order).encode()
    until = time.monotonic() + timeout
    outputs, ends = zip(os.pipe(), os.pipe(), strict=True)
    try:
        with Path(os.devnull).open("rb") as stdin, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(_server()))
            socket.send_fds(server, [struct.pack("!Q", len(content))], [stdin.fileno(), *ends])
            server.sendall(content)
            _close(ends)
            texts = [text.decode().replace("\r\n", "\n") for text in _read(outputs, until)]
            server.settimeout(max(until - time.monotonic(), 0.001))
            _, code = server.makefile("rb")  # the process id and the exit code, each in a line
    except TimeoutError:  # the helper kills the command where this connection ends
        raise subprocess.TimeoutExpired(["batchspec", *arguments], timeout) from None
    finally:
        _close(outputs)
    done = subprocess.CompletedProcess(["batchspec", *arguments], int(code), *texts)
    if check:
        done.check_returncode()
    return done


@functools.cache
def cli_path() -> str:
    """Return the path of an executable that is `batchspec`. It passes SIGINT and SIGTERM on; its end is the command's.

    Where it is killed, the command is killed a moment later.
    """
    path = _server().with_name("batchspec")
    path.write_text(_SHIM.format(python=sys.executable, address=str(_server())))
    path.chmod(0o755)
    return str(path)


def _close(files: Iterable[int]) -> None:
    for file in files:
        os.close(file)


def _read(files: Sequence[int], until: float) -> list[bytes]:
    """Read pipes to their ends; raise TimeoutError where that is later than `until` of the monotonic clock."""
    found = {file: bytearray() for file in files}
    left = list(files)
    while left:
        ready, _, _ = select.select(left, [], [], max(until - time.monotonic(), 0))
        if not ready:
            raise TimeoutError
        for file in ready:
            piece = os.read(file, 1 << 16)
            found[file] += piece
            if not piece:
                left.remove(file)
    return [bytes(found[file]) for file in files]


@functools.cache
def _server() -> Path:
    """Start the helper of this process, which ends with it; return the path of its socket."""
    folder = Path(tempfile.mkdtemp(prefix="batchspec-cli-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    address = folder / "socket"
    # The helper ends when its stdin does, which is when this process ends, however it ends.
    helper = subprocess.Popen(
        [sys.executable, "-m", "tests.cli_runner", str(address)],
        cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None,
    )  # fmt: skip
    assert helper.stdin is not None
    assert helper.stdout is not None
    atexit.register(_end, helper)
    assert helper.stdout.readline() == b"ready\n"
    return address


def _end(helper: subprocess.Popen[bytes]) -> None:
    assert helper.stdin is not None
    assert helper.stdout is not None
    helper.stdin.close()
    helper.stdout.close()
    helper.wait(10)


def _serve(address: str) -> None:
    """Fork for each connection until stdin ends. The fork waits for the command, which is a fork of its own."""
    from runner.executor import poll
    from tests.warm import warm

    warm()
    poll.MIN_INTERVAL = {"local": 0.05, "digitalocean": 0.05}
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while listener.fileno() in select.select([listener.fileno(), sys.stdin.fileno()], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _handle(connection)
        connection.close()


def _handle(connection: socket.socket) -> NoReturn:
    """Run one command and report its process id and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    (header, files, _, _) = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        order = json.loads(stream.read(struct.unpack("!Q", header)[0]))
    pid = os.fork()
    if pid == 0:
        connection.close()
        _command(order, files)
    connection.sendall(b"%d\n" % pid)
    if hasattr(os, "pidfd_open"):
        side = connection.fileno()
        if side in select.select([os.pidfd_open(pid), side], [], [])[0]:
            os.kill(pid, signal.SIGKILL)  # the other side has gone: it was killed, or its time was over
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _command(order: dict[str, Any], files: list[int]) -> NoReturn:
    """Be `batchspec`: this process becomes what `python -m runner` is at its start, and ends as it does."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    os.chdir(order["cwd"])
    random.seed()
    prepare = pickle.loads(bytes.fromhex(order["prepare"])) if "prepare" in order else None
    if prepare is not None:
        prepare()
    sys.argv = ["batchspec", *order["arguments"]]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    code: object = 0
    try:
        from runner.cli.main import main

        main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001  the end of the process
        traceback.print_exc()
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120  # as Python has it
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve(sys.argv[1])
