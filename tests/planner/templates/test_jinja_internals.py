"""Members of Jinja without a stability promise, which the sandbox overrides or calls."""

import importlib.metadata
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import jinja2
import pytest
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.planner.templates import environment, sandbox

OVERRIDDEN: list[Any] = [
    pytest.param(sandbox._Generator, CodeGenerator, name, id=name)
    for name in ("visit_Concat", "_output_child_pre", "_output_child_post")
] + [
    pytest.param(sandbox.LimitedEnvironment, ImmutableSandboxedEnvironment, "_tokenize", id="_tokenize"),
    pytest.param(sandbox.LimitedEnvironment, ImmutableSandboxedEnvironment, "_generate", id="_generate"),
    pytest.param(sandbox._Context, Context, "get_all", id="get_all"),
    pytest.param(environment._Template, jinja2.Template, "_get_default_module", id="_get_default_module"),
]


@pytest.mark.parametrize(("ours", "base", "name"), OVERRIDDEN)
def test_an_overridden_private_member_exists_in_the_installed_jinja(ours: type, base: type, name: str) -> None:
    """An override of a member that Jinja no longer has would silently remove a limit."""
    assert name in vars(ours)
    assert callable(inspect.getattr_static(base, name))


def test_no_other_private_member_is_overridden() -> None:
    """Each private member that we override is in the table above."""
    known = {param.values[2] for param in OVERRIDDEN}
    pairs = {(param.values[0], param.values[1]) for param in OVERRIDDEN}
    found = {
        name
        for ours, base in pairs
        for name in vars(ours)
        if name.startswith("_") and not name.startswith("__") and hasattr(base, name)
    }
    assert found <= known


def test_the_other_internals_exist() -> None:
    """The sandbox also uses these; a missing one would change how templates print."""
    assert hasattr(CodeGenerator, "_FinalizeInfo")
    frame = Frame(jinja2.nodes.EvalContext(jinja2.Environment()))
    assert (frame.eval_ctx.volatile, frame.eval_ctx.autoescape) == (False, False)
    assert callable(jinja2.Environment().from_string("").root_render_func)


def test_the_next_minor_version_of_jinja_is_excluded() -> None:
    """A minor version of Jinja may change these members, so the requirement has an upper bound."""
    project = Path(__file__).parents[3] / "pyproject.toml"
    [requirement] = [text for text in tomllib.loads(project.read_text())["project"]["dependencies"] if "jinja2" in text]
    assert re.search(r"<3\.2$", requirement)
    assert importlib.metadata.version("jinja2").startswith("3.1.")
