"""The layout is the architecture: imports point downward, and service and client share no wire code."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "runner"

# From the top to the ground. A room may import from rooms below it, and from itself.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"__init__"},
    {"api", "client"},
    {"report"},
    {"executor"},
    {"providers"},
    {"reconciler"},
    {"money"},
    {"planner"},
    {"spec"},
    {"store"},
    {"service"},
    {"differences", "keys", "keysort", "git", "paths"},
    {"digest", "errors", "lfs", "logfields", "model_facts", "numbers", "tokenizer", "visible"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Rooms that may not know of a lower one, though it lies below them.
APART = {
    "reconciler": {"providers", "service", "spec", "executor"},
    "money": {"planner", "spec", "store", "service"},
    "planner": {"service", "store"},
    "spec": {"store", "service"},
    "store": {"service"},
    "service": {"keys"},
}
ONLY_ROOM_OF_SERVICE = {Path("providers/local.py"), Path("providers/__init__.py"), Path("cli/serve.py")}


def room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Rooms of this package that a module imports, also inside functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "runner" and len(parts) > 1:
                found.add(parts[1] if parts[1] in FLOOR else "__init__")
    return found


MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def violations(module: Path, found: set[str]) -> list[str]:
    """What is wrong with a module's imports."""
    own = room(module)
    wrong = [f"{module} imports {other}, which is above it" for other in found if FLOOR[other] < FLOOR[own]]
    wrong += [f"{module} imports {other}" for other in found & APART.get(own, set())]
    if "service" in found and own != "service" and module not in ONLY_ROOM_OF_SERVICE:
        wrong.append(f"{module} imports the service")
    return wrong


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in MODULES} <= set(FLOOR)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_downward(module: Path) -> None:
    assert not violations(module, imports(PACKAGE / module))


def neighbours(path: Path) -> set[str]:
    """Modules of this package that a module imports, by dotted name, wherever it does so."""
    known = {".".join(("runner", *module.with_suffix("").parts)) for module in MODULES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known


def test_no_modules_import_each_other() -> None:
    """Not for a type either, nor within a function."""
    graph = {
        ".".join(("runner", *module.with_suffix("").parts)): neighbours(PACKAGE / module)
        for module in MODULES
        if module.name != "__init__.py"
    }
    assert graph["runner.executor.salvage"] >= {"runner.executor.observe", "runner.executor.fate"}
    TopologicalSorter(graph).prepare()


def test_service_and_client_share_no_wire_code() -> None:
    """Neither may hide the other's mistake: the service knows the ground only, providers start it and no more."""
    for module in MODULES:
        if room(module) == "service":
            assert imports(PACKAGE / module) <= {"service", "digest", "errors", "visible"}, module
    for module in MODULES:
        if room(module) == "providers":
            for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runner.service"):
                    names = {alias.name for alias in node.names}
                    assert names <= {"BackgroundService", "ServiceConfig"}, f"{module} takes {names} from the service"


@pytest.mark.parametrize(
    ("module", "found"),
    [
        pytest.param("planner/render.py", {"executor"}, id="planner imports upward"),
        pytest.param("service/app.py", {"providers"}, id="the service imports the client"),
        pytest.param("providers/wire.py", {"service"}, id="the client's wire imports the service"),
        pytest.param("reconciler/plan.py", {"providers"}, id="the reconciler knows the network"),
    ],
)
def test_the_rule_catches(module: str, found: set[str]) -> None:
    assert violations(Path(module), found)


def test_only_the_commands_print_or_exit() -> None:
    for module in MODULES:
        if room(module) in {"cli", "__main__"}:
            continue
        for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in {"print", "exit", "sys.exit", "os._exit", "sys.stdout.write"}, f"{module}: {name}"
