"""What a job's `vars` make of a template before the first row: what is the same for every row is worked out once.

A name that leads to a small plain value becomes that value in the tree, and Jinja's own optimizer works out what
follows from it, such as `vars.labels | join(", ")`. The text that comes out is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

MAX_FOLDED_CHARACTERS = 100_000
"""How many characters, about, such values may add to a template. Beyond, names stay names."""
_NAME = "vars"
_UNSAFE_NODES = (nodes.Extends, nodes.NSRef, nodes.EvalContextModifier)
"""A parent may set names for blocks; `autoescape` escapes what is printed, but not always what is worked out before."""


def fold_constants(tree: nodes.Template, environment: jinja2.Environment, variables: Mapping[str, Any]) -> None:
    """Put values in the place of names in `vars`, in a template that rows are rendered with.

    Not one that others include or import: what `vars` is there is for them to say.
    """
    if not _vars_may_be_shadowed(tree):
        _Folder(environment, variables).visit(tree)


def _vars_may_be_shadowed(tree: nodes.Template) -> bool:
    """Whether `vars` may be something else than the job's somewhere in the template, or be asked for its identity."""
    return (
        _NAME in _assigned_names(tree)
        or any(test.name == "sameas" for test in tree.find_all(nodes.Test))
        or next(tree.find_all(_UNSAFE_NODES), None) is not None
    )


def _assigned_names(tree: nodes.Template) -> Iterator[str]:
    """The names that a template itself gives to something."""
    yield from (name.name for name in tree.find_all(nodes.Name) if name.ctx != "load")
    yield from (macro.name for macro in tree.find_all(nodes.Macro))
    yield from (node.target for node in tree.find_all(nodes.Import))
    for node in tree.find_all(nodes.FromImport):
        yield from (name if isinstance(name, str) else name[1] for name in node.names)


class _Folder(NodeTransformer):
    def __init__(self, environment: jinja2.Environment, variables: Mapping[str, Any]) -> None:
        self._environment = environment
        self._variables = variables
        self._remaining = MAX_FOLDED_CHARACTERS

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802  Jinja's name
        return self._folded(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802  Jinja's name
        return self._folded(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  Jinja's name
        return node  # Jinja would join values that may not be printed

    def _folded(self, node: nodes.Getattr | nodes.Getitem) -> nodes.Node:
        try:
            value = self._value(node)
        except (LookupError, jinja2.UndefinedError):
            return self.generic_visit(node)
        size = _size(value)
        if size is None or size > self._remaining:
            return node
        self._remaining -= size
        # A list of its own: a filter may change what it is given before it fails.
        copy = list(value) if type(value) is list else value
        return nodes.Const(copy, lineno=node.lineno, environment=self._environment)

    def _value(self, node: nodes.Expr) -> Any:
        """What a chain of names leads to. Raises LookupError where it is not one, or does not start at `vars`."""
        match node:
            case nodes.Name(name=name) if name == _NAME:
                return self._variables
            case nodes.Getattr(node=owner, attr=attr, ctx="load"):
                return self._environment.getattr(self._value(owner), attr)
            case nodes.Getitem(node=owner, arg=nodes.Const(value=key), ctx="load"):
                return self._environment.getitem(self._value(owner), key)
        raise LookupError


def _size(value: Any) -> int | None:
    """About how many characters a plain value takes in a template's code; None for what is not plain and small."""
    kind = type(value)
    if kind is list:
        sizes = [_scalar_size(item) for item in value]
        return None if None in sizes else 2 + sum(size + 2 for size in sizes if size is not None)
    return _scalar_size(value)


def _scalar_size(value: Any) -> int | None:
    kind = type(value)
    if kind is str:
        return len(value) + 2
    if kind is float and not math.isfinite(value):
        return None
    return 24 if kind in {int, float, bool, type(None)} and (kind is not int or value.bit_length() <= 64) else None
