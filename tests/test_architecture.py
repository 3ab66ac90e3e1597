"""The layout is the architecture: imports point downward, and service and client share no wire code."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "runner"

# From top to bottom. A room may import from rooms below it, and from itself.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"__init__"},
    {"listener"},
    {"api", "client"},
    {"views"},
    {"report"},
    {"operations"},
    {"evaluation"},
    {"executor"},
    {"reconciler"},
    {"outputs"},
    {"context"},
    {"providers"},
    {"money"},
    {"planner"},
    {"state"},
    {"jobspec"},
    {"service"},
    {"http_server"},
    {"base", "errors"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Lower rooms that a room may not import all the same.
FORBIDDEN = {
    "reconciler": {"service"},
    "evaluation": {"executor", "reconciler", "providers", "service"},
    "money": {"planner", "jobspec", "state", "service"},
    "planner": {"service"},
    "jobspec": {"state", "service"},
    "state": {"service", "jobspec"},
}
MAY_IMPORT_SERVICE = {Path("providers/local.py"), Path("providers/__init__.py"), Path("cli/commands/serve.py")}
MAY_IMPORT_HTTP_SERVER = {"service", "listener", "http_server"}
MAX_LINES = 400
MAY_USE_RICH = ("views", "cli/terminal")
MAY_REPEAT = {"apply", "batches", "forget", "job_run", "plan", "presigned", "rate_limit", "render", "serve", "status"} | {
    "git", "listen", "logger", "tokens", "validate", "verify"
}  # fmt: skip
"""Module names that occur twice: in `cli/commands` and in the room that does the work, or in `service` and the client.

`git` is how git runs (`base`) and what reports read with it (`report`).
"""


def room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported_modules(path: Path) -> set[str]:
    """Dotted names that a module imports, also inside functions and under TYPE_CHECKING."""
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imports(path: Path) -> set[str]:
    """Rooms of this package that a module imports."""
    parts = [name.split(".") for name in imported_modules(path)]
    return {name[1] if name[1] in FLOOR else "__init__" for name in parts if name[0] == "runner" and len(name) > 1}


MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def violations(module: Path, found: set[str]) -> list[str]:
    """Return what is wrong with a module's imports."""
    own = room(module)
    wrong = [f"{module} imports {other}, which is above it" for other in found if FLOOR[other] < FLOOR[own]]
    wrong += [f"{module} imports {other}" for other in found & FORBIDDEN.get(own, set())]
    if "service" in found and own != "service" and module not in MAY_IMPORT_SERVICE:
        wrong.append(f"{module} imports the service")
    if "http_server" in found and own not in MAY_IMPORT_HTTP_SERVER and module not in MAY_IMPORT_SERVICE:
        wrong.append(f"{module} imports the HTTP server")
    return wrong


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in MODULES} <= set(FLOOR)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_downward(module: Path) -> None:
    assert not violations(module, imports(PACKAGE / module))


def neighbours(path: Path) -> set[str]:
    """Modules of this package that a module imports, by dotted name."""
    known = {".".join(("runner", *module.with_suffix("").parts)) for module in MODULES}
    return imported_modules(path) & known


def test_no_modules_import_each_other() -> None:
    """Not for a type either, nor within a function."""
    graph = {
        ".".join(("runner", *module.with_suffix("").parts)): neighbours(PACKAGE / module)
        for module in MODULES
        if module.name != "__init__.py"
    }
    assert graph["runner.executor.recover"] >= {"runner.reconciler.observe.observe", "runner.reconciler.plan.overwrite"}
    TopologicalSorter(graph).prepare()


def test_service_and_client_share_no_wire_code() -> None:
    """Neither may hide the other's mistake: the service knows `http_server`, `base` and `errors` only, providers start it and no more."""
    for module in MODULES:
        if room(module) == "service":
            assert imports(PACKAGE / module) <= {"service", "http_server", "base", "errors"}, module
    for module in MODULES:
        if room(module) == "providers":
            for node in nodes_of(PACKAGE / module):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runner.service"):
                    names = {alias.name for alias in node.names}
                    assert names <= {"BackgroundService", "ServiceConfig"}, f"{module} takes {names} from the service"


@pytest.mark.parametrize(
    ("module", "found"),
    [
        pytest.param("planner/render.py", {"executor"}, id="planner imports upward"),
        pytest.param("service/http/routes.py", {"providers"}, id="the service imports the client"),
        pytest.param("providers/wire.py", {"service"}, id="the client's wire imports the service"),
        pytest.param("providers/http.py", {"http_server"}, id="the client imports the server"),
        pytest.param("reconciler/observe/observe.py", {"executor"}, id="observing imports the executor"),
    ],
)
def test_the_rule_catches(module: str, found: set[str]) -> None:
    assert violations(Path(module), found)


def test_planning_does_no_input_or_output() -> None:
    """`reconciler/plan` decides from values: it opens no connection and starts no process."""
    for module in MODULES:
        if module.parts[:2] == ("reconciler", "plan"):
            assert not imports(PACKAGE / module) & {"providers", "service", "context"}, module


def test_only_views_and_the_terminal_draw_for_people() -> None:
    for module in MODULES:
        if not module.as_posix().startswith(MAY_USE_RICH):
            used = {name for name in imported_modules(PACKAGE / module) if name.split(".")[0] == "rich"}
            assert not used, f"{module} draws with {used}"


def test_module_names_are_unique() -> None:
    count = Counter(module.stem for module in MODULES if module.stem != "__init__")
    assert {name for name, number in count.items() if number > 1} <= MAY_REPEAT


@pytest.mark.parametrize("folder", [PACKAGE, Path(__file__).parent], ids=lambda folder: folder.name)
def test_files_are_short(folder: Path) -> None:
    """At most 400 lines: a longer file has more than one topic."""
    count = {path: path.read_text(encoding="utf-8").count("\n") for path in folder.rglob("*.py")}
    assert not {str(path.relative_to(folder)): lines for path, lines in count.items() if lines > MAX_LINES}


def test_only_the_commands_print_or_exit() -> None:
    """The worker of a model is the program of a child process; its native threads allow no other end."""
    for module in MODULES:
        if room(module) in {"cli", "__main__"} or module.name == "smollm_worker.py":
            continue
        for node in nodes_of(PACKAGE / module):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in {"print", "exit", "sys.exit", "os._exit", "sys.stdout.write"}, f"{module}: {name}"


def test_observing_writes_nothing() -> None:
    """Rebuilding an index is a step of its own, and the executor's."""
    for module in MODULES:
        if module.parts[:2] == ("reconciler", "observe"):
            names = {name.rpartition(".")[2] for name in imported_modules(PACKAGE / module)}
            assert not names & {"atomic_write", "write_if_changed", "restore", "save_keys", "Ledger"}, module
