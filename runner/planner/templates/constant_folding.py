"""Fold a job's `vars` into its templates at compile time, without changing the rendered text.

Jinja's optimizer then evaluates what depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

MAX_FOLDED_CHARACTERS = 100_000
"""Approximate number of characters folding may add to a template; further names stay names."""
_NAME = "vars"
_UNSAFE_NODES = (nodes.Extends, nodes.NSRef, nodes.EvalContextModifier)
"""A parent may set names for blocks. `autoescape` escapes printed values, but not always folded ones."""


def fold_constants(tree: nodes.Template, environment: jinja2.Environment, variables: Mapping[str, Any]) -> None:
    """Replace names in `vars` by their small plain values, in a template that renders rows.

    Not for templates that others include or import: those define what `vars` is.
    """
    if not _vars_may_be_shadowed(tree):
        _Folder(environment, variables).visit(tree)


def _vars_may_be_shadowed(tree: nodes.Template) -> bool:
    return (
        _NAME in _assigned_names(tree)
        or any(test.name == "sameas" for test in tree.find_all(nodes.Test))
        or next(tree.find_all(_UNSAFE_NODES), None) is not None
    )


def _assigned_names(tree: nodes.Template) -> Iterator[str]:
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
        return node  # Jinja would join values that must not be printed

    def _folded(self, node: nodes.Getattr | nodes.Getitem) -> nodes.Node:
        try:
            value = self._value(node)
        except (LookupError, jinja2.UndefinedError):
            return self.generic_visit(node)
        size = _size(value)
        if size is None or size > self._remaining:
            return node
        self._remaining -= size
        # Copy: a filter may change its argument before it fails.
        copy = list(value) if type(value) is list else value
        return nodes.Const(copy, lineno=node.lineno, environment=self._environment)

    def _value(self, node: nodes.Expr) -> Any:
        """Return a chain of names' value. Raises LookupError unless it starts at `vars`."""
        match node:
            case nodes.Name(name=name) if name == _NAME:
                return self._variables
            case nodes.Getattr(node=owner, attr=attr, ctx="load"):
                return self._environment.getattr(self._value(owner), attr)
            case nodes.Getitem(node=owner, arg=nodes.Const(value=key), ctx="load"):
                return self._environment.getitem(self._value(owner), key)
        raise LookupError


def _size(value: Any) -> int | None:
    """Return a plain value's approximate length; None if not plain and small."""
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
