"""The `batchspec` command, and the one boundary where errors become text and exit codes."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

import typer

from runner.cli import signals
from runner.cli.lazy_group import VERBS, LazyGroup
from runner.cli.terminal.printing import drop_stdout, flush, say, say_error, show_crash
from runner.errors import BatchspecError, disk_error

_EPILOG = (
    "Exit codes: 0 done or nothing to do, 1 error, 2 changes (plan --detailed-exitcode), 3 too many failed requests "
    "(see tolerate), 4 still running, 130 interrupted and resumable."
)

# rich_markup_mode=None: plain help, in half the time.
app = typer.Typer(
    name="batchspec",
    cls=LazyGroup,
    help="Infrastructure-as-code for LLM batch jobs: a YAML spec, a plan, an apply, a lockfile in git.",
    epilog=_EPILOG,
    rich_markup_mode=None,
    add_completion=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True),
    _folder: str = typer.Option("", "-C", metavar="DIR", help="Run in this folder. Must come before the command."),
) -> None:
    if version:
        from importlib.metadata import version as installed  # noqa: PLC0415

        say(f"batchspec {installed('batchspec')}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command and exit the process with its code."""
    # Imports make many objects and no garbage; the default threshold of 700 costs a tenth of a short command.
    gc.set_threshold(50_000, 20, 20)
    sys.excepthook = show_crash
    code = run(sys.argv[1:])
    # At exit Python would collect twice more.
    gc.disable()
    sys.exit(code)


def _in_folder(arguments: list[str]) -> list[str]:
    while arguments[:1] == ["-C"] and len(arguments) > 1:
        try:
            os.chdir(arguments[1])
        except OSError as error:
            raise BatchspecError(f"-C {arguments[1]}: {error.strerror or error}", code="BS802") from error
        arguments = arguments[2:]
    return arguments


def run(arguments: list[str]) -> int:
    """Run the command with `arguments` and return its exit code. Errors are printed to stderr."""
    signals.install()
    try:
        arguments = _in_folder(arguments)
        code = app(arguments or ["--help"], prog_name="batchspec", standalone_mode=False)
        if code == signals.CODE and not signals.reported():  # typer turns KeyboardInterrupt into a code
            signals.report(again=arguments[:1] == ["apply"])
        flush()
    except BatchspecError as error:
        _say(error, arguments)
        return 1
    except KeyboardInterrupt:
        say_error("Interrupted.")
        return 130
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        # Typer turns a broken pipe into an exit, except during our flush. The reader has gone and the output is
        # incomplete, so the code is 141 (128 + SIGPIPE), as for `git log | head`; `pipefail` scripts expect it.
        drop_stdout()
        return 141
    except OSError as error:
        _say(disk_error(error), arguments)
        return 1
    except typer.Abort as abort:
        # Ctrl-C or Ctrl-D at a question, the abort's context, leaves the line open.
        line_end = "\n" if abort.__context__ is not None else ""
        say_error(f"{line_end}Nothing was done.")
        return 1
    except Exception as error:
        # Usage errors: typer vendors click, whose exceptions are recognised by this method. Our exit code is 1.
        if not hasattr(error, "format_message"):
            raise
        known = VERBS.keys() & arguments[:1]
        hint = f"see `batchspec {arguments[0]} --help`" if known else "`batchspec --help` shows the commands"
        _say(BatchspecError(error.format_message(), hint=hint, code="BS800"), arguments)
        return 1
    return code if isinstance(code, int) else 0


def _say(error: BatchspecError, arguments: list[str]) -> None:
    from runner.cli.terminal.terminal import error_text  # noqa: PLC0415

    say_error(error_text(error), end="")
    if "--json" in arguments:
        from runner.cli.terminal.json_writer import tell_error  # noqa: PLC0415

        tell_error(arguments, error)
