"""Jinja's sandbox with a meter: planning a stranger's pull request reaches nothing, and ends, in little memory.

The sandbox keeps templates from reaching what they should not; the meter (`runner.planner.meter`) from running on.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.planner.costs import formatting, metered, method
from runner.planner.meter import STEPS, TEXT, Meter, RowError

_BITS = 4_096
"""The longest whole number that arithmetic may make."""
_FOLDING = STEPS // 100
"""What may be worked out while a template is compiled, and is then held with it; what is beyond waits for a row."""
_COUNTED = "__counted"
_LOOPING = (
    nodes.For,
    nodes.Call,
    nodes.CallBlock,
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Extends,
    nodes.FilterBlock,
)
_READING = (nodes.Template, nodes.Output, nodes.If, nodes.For, nodes.Expr, nodes.Helper)
_PLAIN = (str, int, float, bool, type(None), list, dict)
"""The types of values that rows have."""


class _Generator(CodeGenerator):
    """Jinja's compiler, with a `~` that is counted, and text that is printed as it is."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802  Jinja's name
        self.write("environment.joined((")
        for item in node.nodes:
            self.visit(item, frame)
            self.write(", ")
        self.write("))")

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        if _escapes(frame):
            super()._output_child_pre(node, frame, finalize)
        else:
            # Most of what is printed is text, of which nothing has to be asked.
            self.write("(t_out if type(t_out := ")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        if _escapes(frame):
            super()._output_child_post(node, frame, finalize)
        else:
            self.write(") is str else str(environment.finalize(t_out)))")


def _escapes(frame: Frame) -> bool:
    return bool(frame.eval_ctx.volatile or frame.eval_ctx.autoescape)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with a meter, whose steps are set anew for each row."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, **options: Any) -> None:
        # A template is compiled once: that takes long, and costs no steps.
        super().__init__(cache_size=-1, **options)
        self.meter = Meter()
        self.concat = self.joined  # type: ignore[method-assign]  # Jinja means it to be replaced
        self.filters = {name: metered(self.meter, name, filter_) for name, filter_ in self.filters.items()}
        self.filters[_COUNTED] = self._counted
        self.globals["range"] = self._range
        self._safe: dict[tuple[type, str], bool] = {}
        self._prepare: Callable[[nodes.Template], None] | None = None

    def add_filters(self, filters: dict[str, Callable[..., Any]]) -> None:
        """Add filters of our own, metered like Jinja's."""
        self.filters |= {name: metered(self.meter, name, filter_) for name, filter_ in filters.items()}

    def joined(self, parts: Iterable[Any]) -> str:
        """Texts joined: what a block gives, and `~`."""
        size, texts = 0, []
        for part in parts:
            if isinstance(part, (list, dict)):
                self.meter.weigh(part)
            texts.append(part if isinstance(part, str) else str(part))
            size += len(texts[-1])
            if size > TEXT:
                self.meter.text(size)
        self.meter.text(size)
        return "".join(texts)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`row.column` without asking first, in vain, for an attribute of that name."""
        if type(obj) is dict and attribute not in _DICT and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """The sandbox's answer, which is remembered for attributes of the types that rows have."""
        if type(obj) not in _PLAIN:
            return super().is_safe_attribute(obj, attr, value)
        known = self._safe.get((type(obj), attr))
        if known is None:
            known = super().is_safe_attribute(obj, attr, value)
            if hasattr(type(obj), attr):
                self._safe[type(obj), attr] = known
        return known

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic whose result can be larger than what goes in."""
        if operator == "%" and isinstance(left, str):
            formatting(self.meter, left, (), {})
        if operator == "**":
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > _BITS:
                raise RowError("this number is too large")
        elif operator in "*+":
            self._growth(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def _growth(self, operator: str, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            if left.bit_length() + right.bit_length() > _BITS:
                raise RowError("this number is too large")
            return
        sizes = [len(side) if isinstance(side, (str, list, tuple)) else None for side in (left, right)]
        if operator == "+":
            if sizes[0] is not None and sizes[1] is not None:
                self.meter.text(sizes[0] + sizes[1])
        elif sizes[0] is not None and isinstance(right, int):
            self.meter.text(sizes[0] * max(0, right))
        elif sizes[1] is not None and isinstance(left, int):
            self.meter.text(sizes[1] * max(0, left))

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Each call costs, and methods of text are looked at, since their result may be long."""
        self.meter.take(1)
        if type(obj) is types.BuiltinMethodType and type(obj.__self__) is str:
            method(self.meter, obj.__self__, obj.__name__, args, kwargs)
            kwargs.pop("_loop_vars", None)
            kwargs.pop("_block_vars", None)
            return obj(*args, **kwargs)  # nothing that Jinja asks of a callable is true of it
        wrapped = getattr(obj, "__wrapped__", obj)  # the sandbox wraps `format`
        owner = getattr(wrapped, "__self__", None)
        if isinstance(owner, str):
            method(self.meter, owner, getattr(wrapped, "__name__", ""), args, kwargs)
        return super().call(context, obj, *args, **kwargs)

    def get_template(self, *args: Any, **kwargs: Any) -> jinja2.Template:
        """Each template that is included or imported costs."""
        self.meter.take(1)
        return super().get_template(*args, **kwargs)

    @contextmanager
    def prepared(self, prepare: Callable[[nodes.Template], None]) -> Iterator[None]:
        """Within this, `prepare` is given each tree before it is compiled."""
        self._prepare = prepare
        try:
            yield
        finally:
            self._prepare = None

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        if self._prepare is not None:
            self._prepare(source)
        for node in list(source.find_all(nodes.For)):
            node.iter = nodes.Filter(node.iter, _COUNTED, [], [], None, None, lineno=node.iter.lineno)
        # Constants are folded while a template is compiled, which may be in the middle of a row.
        left, self.meter.left = self.meter.left, _FOLDING
        try:
            return super()._generate(source, *args, **kwargs)
        finally:
            self.meter.left = left

    @jinja2.pass_context  # so that it is not folded away over constants
    def _counted(self, _context: Any, items: Any) -> Any:
        # A list is known to end; its length is what counts. Anything else is counted as it comes.
        if isinstance(items, (list, tuple, dict, str)):
            self.meter.take(len(items))
            return items
        return items if isinstance(items, jinja2.Undefined) else self.meter.count(items)

    def _range(self, *args: int) -> range:
        found = range(*args)
        self.meter.take(len(found) // 10 + 1)
        if len(found) > STEPS:
            raise RowError(f"range() may give at most {STEPS} numbers")
        return found


_DICT = frozenset(dir(dict))


def loops(tree: nodes.Template) -> bool:
    """Whether a template can give more text than stands in it and in its row."""
    return next(tree.find_all(_LOOPING), None) is not None


def only_reads(tree: nodes.Template) -> bool:
    """Whether a template sets nothing, and defines and takes in no blocks or macros: its context stays as it was."""
    waiting: list[nodes.Node] = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, _READING) or isinstance(node, nodes.NSRef):
            return False
        waiting += node.iter_child_nodes()
    return True
