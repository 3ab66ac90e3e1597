"""Jinja sandbox with step and size limits: planning an untrusted pull request always terminates.

The sandbox hides Python's internals; `step_limit` bounds time and memory. This module overrides private members of
Jinja; tests/planner/templates/test_jinja_internals.py names them.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.lexer import Token, TokenStream
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from runner.planner.templates.filter_costs import (
    charge_comparison,
    charge_format,
    charge_slice,
    check_printable,
    metered,
    metered_test,
)
from runner.planner.templates.method_costs import charge_builtin, charge_method
from runner.planner.templates.step_limit import MAX_STEPS, MAX_TEXT, RowError, StepLimit

_MAX_INTEGER_BITS = 4_096
"""Longest integer that arithmetic may produce."""
MAX_TOKENS = 30_000
"""Jinja tokens in one template: compiling takes a second for about 20,000 of them."""
_FOLDING_STEPS = MAX_STEPS // 100
"""Steps for constant folding at compile time, since results stay in memory. Rows evaluate costlier expressions."""
_COUNTED, _COMPARED, _SLICED, _METHOD = "__counted", "__compared", "__sliced", "__method"
"""Names of the internal filters around loop iterables, compared values and keys, sliced values, and the objects of
called methods.
"""
_FORMATS = frozenset({"format", "format_map"})
_REPEATING_NODES = (
    nodes.For,
    nodes.Call,
    nodes.CallBlock,
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Extends,
    nodes.FilterBlock,
)
_STATELESS_NODES = (nodes.Template, nodes.Output, nodes.If, nodes.For, nodes.Expr, nodes.Helper)
_ROW_TYPES = (str, int, float, bool, type(None), list, dict)
"""The types of values in rows."""


class _Generator(CodeGenerator):
    """Jinja's compiler, with `~` metered and a fast path for printing text."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802  Jinja's name
        self.write("environment.join_parts((")
        for item in node.nodes:
            self.visit(item, frame)
            self.write(", ")
        self.write("))")

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        if _escapes_output(frame):
            super()._output_child_pre(node, frame, finalize)
        else:
            # Fast path: text needs no check.
            self.write("(t_out if type(t_out := ")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        if _escapes_output(frame):
            super()._output_child_post(node, frame, finalize)
        else:
            self.write(") is str else str(environment.finalize(t_out)))")


def _escapes_output(frame: Frame) -> bool:
    return bool(frame.eval_ctx.volatile or frame.eval_ctx.autoescape)


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with a step limit, reset for each row."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, **options: Any) -> None:
        # Compile each template once: it is slow, and costs no steps.
        super().__init__(cache_size=-1, **options)
        self.steps = StepLimit()
        self.concat = self.join_parts  # type: ignore[method-assign]  # an extension point of Jinja
        self.filters = {name: metered(self.steps, name, filter_) for name, filter_ in self.filters.items()}
        self.filters[_COUNTED] = self._counted
        self.filters[_COMPARED] = partial(charge_comparison, self.steps)
        self.filters[_METHOD] = self._method
        self.filters[_SLICED] = partial(charge_slice, self.steps)
        self.tests = {name: metered_test(self.steps, name, test) for name, test in self.tests.items()}
        self.context_class = _Context
        self.globals["range"] = self._range
        self.globals["namespace"] = self._namespace
        self._safe_attributes: dict[tuple[type, str], bool] = {}
        self._tree_hook: Callable[[nodes.Template], None] | None = None

    def add_filters(self, filters: dict[str, Callable[..., Any]]) -> None:
        """Add our own filters, metered like Jinja's."""
        self.filters |= {name: metered(self.steps, name, filter_) for name, filter_ in filters.items()}

    def join_parts(self, parts: Iterable[Any]) -> str:
        """Join a block's output, or the operands of `~`."""
        size, texts = 0, []
        for part in parts:
            if isinstance(part, (list, dict, tuple)):
                self.steps.spend_nested(part)
            else:
                check_printable(part)
            texts.append(part if isinstance(part, str) else str(part))
            size += len(texts[-1])
            if size > MAX_TEXT:
                self.steps.spend_text(size)
        self.steps.spend_text(size)
        return "".join(texts)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Prefer a column over a dict method; `row.items()` is the method."""
        if type(obj) is dict and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return the sandbox's answer, cached for the types in rows."""
        if type(obj) not in _ROW_TYPES:
            return super().is_safe_attribute(obj, attr, value)
        is_safe = self._safe_attributes.get((type(obj), attr))
        if is_safe is None:
            is_safe = super().is_safe_attribute(obj, attr, value)
            if hasattr(type(obj), attr):
                self._safe_attributes[type(obj), attr] = is_safe
        return is_safe

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Charge arithmetic with results larger than its operands."""
        if operator == "%" and isinstance(left, str):
            charge_format(self.steps, left, (right,), {})
        if operator == "**":
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > _MAX_INTEGER_BITS:
                raise RowError("this number is too large")
        elif operator in "*+":
            self._charge_growth(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def _charge_growth(self, operator: str, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            if left.bit_length() + right.bit_length() > _MAX_INTEGER_BITS:
                raise RowError("this number is too large")
            return
        sizes = [len(side) if isinstance(side, (str, list, tuple)) else None for side in (left, right)]
        if operator == "+":
            if sizes[0] is not None and sizes[1] is not None:
                self._charge_result(left, sizes[0] + sizes[1])
        elif sizes[0] is not None and isinstance(right, int):
            self._charge_result(left, sizes[0] * max(0, right))
        elif sizes[1] is not None and isinstance(left, int):
            self._charge_result(right, sizes[1] * max(0, left))

    def _charge_result(self, operand: Any, size: int) -> None:
        if isinstance(operand, str):
            self.steps.spend_text(size)
        else:
            self.steps.spend_entries(size)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Charge each call, and methods of text by their possible result."""
        self.steps.spend(1)
        if type(obj) is types.BuiltinMethodType and type(obj.__self__) is str and obj.__name__ not in _FORMATS:
            args = charge_method(self.steps, obj.__self__, obj.__name__, args, kwargs)
            kwargs.pop("_loop_vars", None)
            kwargs.pop("_block_vars", None)
            return obj(*args, **kwargs)  # Jinja's checks on callables don't apply to it
        wrapped = getattr(obj, "__wrapped__", obj)  # the sandbox wraps `format`
        owner = getattr(wrapped, "__self__", None)
        if isinstance(owner, str):
            args = charge_method(self.steps, owner, getattr(wrapped, "__name__", ""), args, kwargs)
        elif isinstance(obj, (types.BuiltinMethodType, type)):
            charge_builtin(self.steps, obj, args, kwargs)
        else:  # usually a macro
            self.steps.spend(4 + len(args) // 10 + len(kwargs))
            if isinstance(obj, LoopContext):  # a recursive loop
                args = (self._counted(context, args[0]), *args[1:]) if args else args
            elif isinstance(owner, LoopContext):  # `loop.changed` compares
                args = tuple(charge_comparison(self.steps, value) for value in args)
        return super().call(context, obj, *args, **kwargs)

    def get_template(self, *args: Any, **kwargs: Any) -> jinja2.Template:
        """Charge each included or imported template."""
        self.steps.spend(10)
        found = super().get_template(*args, **kwargs)
        self.steps.spend(len(found.blocks) // 10)
        return found

    def _tokenize(self, *args: Any, **kwargs: Any) -> TokenStream:
        stream = super()._tokenize(*args, **kwargs)
        return TokenStream(_limit_tokens(stream), stream.name, stream.filename)

    @contextmanager
    def with_tree_hook(self, tree_hook: Callable[[nodes.Template], None]) -> Iterator[None]:
        """Call `tree_hook` with each tree before compilation."""
        self._tree_hook = tree_hook
        try:
            yield
        finally:
            self._tree_hook = None

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        _mark_methods(source)
        if self._tree_hook is not None:
            self._tree_hook(source)
        for node in list(source.find_all(nodes.For)):
            node.iter = _wrap_in_filter(node.iter, _COUNTED)
        _mark_comparisons(source)
        # A template may be compiled, and its constants folded, while a row renders.
        saved, self.steps.remaining = self.steps.remaining, _FOLDING_STEPS
        try:
            return super()._generate(source, *args, **kwargs)
        finally:
            self.steps.remaining = saved

    @jinja2.pass_context  # prevents constant folding
    def _counted(self, _context: Any, items: Any) -> Any:
        # A list costs its length. Generators are counted entry by entry.
        if isinstance(items, (list, tuple, dict, str)):
            self.steps.spend(len(items))
            return items
        return items if isinstance(items, jinja2.Undefined) else self.steps.spend_each(items)

    @jinja2.pass_context  # prevents constant folding
    def _method(self, _context: Any, obj: Any, name: str) -> Any:
        """Return the method, even if a column has its name."""
        return super().getattr(obj, name)

    def _namespace(self, *args: Any, **kwargs: Any) -> Namespace:
        charge_builtin(self.steps, dict, args, kwargs)
        return _Namespace(self.steps, *args, **kwargs)

    def _range(self, *args: int) -> range:
        found = range(*args)
        self.steps.spend(len(found) // 10 + 1)
        if len(found) > MAX_STEPS:
            raise RowError(f"range() may give at most {MAX_STEPS} numbers")
        return found


class _Context(Context):
    """Charges the copy of all columns for an included template."""

    def get_all(self) -> dict[str, Any]:
        environment = self.environment
        assert isinstance(environment, LimitedEnvironment)
        environment.steps.spend((len(self.parent) + len(self.vars)) // 50)
        return super().get_all()


class _Namespace(Namespace):
    """Charges assignment: loops build values in a namespace."""

    def __init__(self, steps: StepLimit, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        object.__setattr__(self, "_steps", steps)  # invisible to templates

    def __setitem__(self, name: str, value: Any) -> None:
        steps: StepLimit = object.__getattribute__(self, "_steps")
        # Python's garbage collector scans nested lists repeatedly while they grow.
        steps.spend(19 if isinstance(value, (list, tuple, dict)) else 4)
        super().__setitem__(name, value)


_DICT_METHODS = frozenset(name for name in dir(dict) if not name.startswith("_"))


def _mark_methods(source: nodes.Template) -> None:
    """Mark calls of dict methods: `row.items()` is the method, `row.items` the column."""
    for call in list(source.find_all(nodes.Call)):
        if isinstance(call.node, nodes.Getattr) and call.node.attr in _DICT_METHODS:
            name = nodes.Const(call.node.attr, lineno=call.node.lineno)
            call.node = nodes.Filter(call.node.node, _METHOD, [name], [], None, None, lineno=call.node.lineno)


def _wrap_in_filter(node: Any, name: str) -> nodes.Expr:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _mark_comparisons(source: nodes.Template) -> None:
    """Wrap what Python would compare or hash entry by entry.

    Comparing with a constant is cheap, except for searching it in a container.
    """
    for compare in list(source.find_all(nodes.Compare)):
        sides = [compare.expr, *(operand.expr for operand in compare.ops)]
        both = sum(not isinstance(side, nodes.Const) for side in sides) > 1
        if both and not isinstance(compare.expr, nodes.Const):
            compare.expr = _wrap_in_filter(compare.expr, _COMPARED)
        for operand in compare.ops:
            if (both or operand.op in {"in", "notin"}) and not isinstance(operand.expr, nodes.Const):
                operand.expr = _wrap_in_filter(operand.expr, _COMPARED)
    for item in list(source.find_all(nodes.Getitem)):
        if isinstance(item.arg, nodes.Slice):
            item.node = _wrap_in_filter(item.node, _SLICED)
        elif not isinstance(item.arg, nodes.Const):
            item.arg = _wrap_in_filter(item.arg, _COMPARED)
    for pair in list(source.find_all(nodes.Pair)):
        if not isinstance(pair.key, nodes.Const):
            pair.key = _wrap_in_filter(pair.key, _COMPARED)


def _limit_tokens(stream: TokenStream) -> Iterator[Token]:
    """Yield a template's tokens. Raises TemplateSyntaxError beyond MAX_TOKENS."""
    for number, token in enumerate(stream):
        if number >= MAX_TOKENS:
            message = (
                f"the template has more than {MAX_TOKENS} names, signs and pieces of text; put data into the input"
            )
            raise jinja2.TemplateSyntaxError(message, token.lineno, stream.name, stream.filename)
        value: Any = token.value
        if type(value) is int and value.bit_length() > _MAX_INTEGER_BITS:
            raise jinja2.TemplateSyntaxError("this number is too large", token.lineno, stream.name, stream.filename)
        yield token


def has_loops(tree: nodes.Template) -> bool:
    """Return whether a template can produce more text than it and its row contain."""
    return next(tree.find_all(_REPEATING_NODES), None) is not None


def is_stateless(tree: nodes.Template) -> bool:
    """Return whether rendering never writes to the context: no assignments, blocks or macros."""
    waiting: list[nodes.Node] = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, _STATELESS_NODES) or isinstance(node, nodes.NSRef):
            return False
        waiting += node.iter_child_nodes()
    return True
