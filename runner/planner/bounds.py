"""Bounds on what one row's rendering may cost, so that planning a stranger's pull request ends, and in little memory.

The sandbox keeps templates from reaching what they should not; this keeps them from running on. Each loop turn, call,
loaded template and long text costs steps; a row has `STEPS` of them. No text grows beyond `TEXT` characters. Counting
steps instead of seconds keeps rendering a pure function: it fails at the same place on every machine.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import ImmutableSandboxedEnvironment

STEPS = 1_000_000
"""What one row may cost. A turn of a loop, a call, a filter and a loaded template cost one each, a text one for 1,000
characters."""
TEXT = 10_000_000
"""The longest text, in characters, that a template may make; also the longest list."""
_BITS = 4_096
"""The longest whole number that arithmetic may make."""
_COUNTED = "__counted"
_WIDTHS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_FAR = re.compile(r"\d{4}|\*|\{[^{}]*\{")
"""Widths and precisions of formats that are too large, or that a value gives."""
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


class RowError(Exception):
    """A row could not be rendered; the message names template, line and the columns there are.

    `public` is the message without what stands in the row; the message itself where nothing of a row is in it.
    """

    def __init__(self, message: str, public: str = "") -> None:
        super().__init__(message)
        self.public = public or message


class Meter:
    """What is left of a row's steps."""

    def __init__(self) -> None:
        self.left = STEPS

    def take(self, steps: int) -> None:
        """Take some steps. Raises RowError where there are not so many left."""
        self.left -= steps
        if self.left < 0:
            raise RowError(f"the template runs on: a row may cost {STEPS} steps, such as turns of a loop")

    def text(self, size: int) -> None:
        """Take what a text or list of this size costs, before it is made. Raises RowError."""
        if size > TEXT:
            raise RowError(f"the template makes something of {size} characters or entries; at most {TEXT} may be")
        self.take(1 + size // 1_000)

    def count(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, each for a step."""
        for item in items:
            self.left -= 1
            if self.left < 0:
                self.take(0)
            yield item

    def weigh(self, value: Any) -> None:
        """Take a step for each entry of a list or mapping, however deep, before it is written out."""
        if isinstance(value, (list, tuple, dict)):
            self.take(1 + len(value))
            for item in value.values() if isinstance(value, dict) else value:
                kind = type(item)
                if kind is str and len(item) < 1_000:  # most are
                    self.left -= 1
                elif isinstance(item, (list, tuple, dict)):
                    self.weigh(item)
                elif isinstance(item, jinja2.Undefined):
                    str(item)  # raises, in Jinja's words
                elif isinstance(item, str):
                    self.text(len(item))
            self.take(0)


class _Generator(CodeGenerator):
    """Jinja's compiler, with a `~` that is counted."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802  Jinja's name
        self.write("environment.joined((")
        for item in node.nodes:
            self.visit(item, frame)
            self.write(", ")
        self.write("))")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with a meter. `meter` is set anew for each row."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.meter = Meter()
        self.concat = self.joined  # type: ignore[method-assign]  # Jinja means it to be replaced
        self.filters = {name: _metered(self, name, filter_) for name, filter_ in self.filters.items()}
        self.filters[_COUNTED] = self._counted
        self.globals["range"] = self._range

    def add_filters(self, filters: dict[str, Callable[..., Any]]) -> None:
        """Add filters of our own, metered like Jinja's."""
        self.filters |= {name: _metered(self, name, filter_) for name, filter_ in filters.items()}

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

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic whose result can be larger than what goes in."""
        if operator == "%" and isinstance(left, str):
            _format(self.meter, left, (), {})
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
        method = getattr(obj, "__wrapped__", obj)  # the sandbox wraps `format`
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            _method(self.meter, owner, getattr(method, "__name__", ""), args, kwargs)
        return super().call(context, obj, *args, **kwargs)

    def get_template(self, *args: Any, **kwargs: Any) -> jinja2.Template:
        """Each template that is included or imported costs."""
        self.meter.take(1)
        return super().get_template(*args, **kwargs)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        for node in list(source.find_all(nodes.For)):
            node.iter = nodes.Filter(node.iter, _COUNTED, [], [], None, None, lineno=node.iter.lineno)
        self.meter.left = STEPS  # constants are folded while a template is compiled
        return super()._generate(source, *args, **kwargs)

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


def loops(tree: nodes.Template) -> bool:
    """Whether a template can give more text than stands in it and in its row."""
    return next(tree.find_all(_LOOPING), None) is not None


def _method(meter: Meter, text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if name in {"format", "format_map"}:
        _format(meter, text, args, kwargs)
    elif name in _WIDTHS:
        widths = [value for value in (*args, *kwargs.values()) if isinstance(value, int)]
        meter.text(len(text) * (max(widths, default=8) if name == "expandtabs" else 1) + max(widths, default=0))
    elif name == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
        meter.text(_replaced(text, args[0], args[1]))
    elif name == "join" and args:
        items = list(meter.count(args[0]))
        meter.text(sum(len(item) + len(text) for item in items if isinstance(item, str)))
    elif name == "translate":
        raise RowError("text can't be translated with .translate(); use the filter `replace`")
    else:
        meter.text(len(text))


def _replaced(text: str, old: str, new: str) -> int:
    return len(text) + (text.count(old) if old else len(text) + 1) * max(0, len(new) - len(old))


def _metered(environment: BoundedEnvironment, name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that costs what it takes and gives."""
    before = _BEFORE.get(name)
    first = 1 if getattr(filter_, "jinja_pass_arg", None) is not None else 0

    @functools.wraps(filter_)
    def metered(*args: Any, **kwargs: Any) -> Any:
        meter = environment.meter
        value = args[first] if len(args) > first else None
        if name == "join" and value is not None and not isinstance(value, (str, list, tuple, dict)):
            # What comes one by one has no length to look at before it is joined.
            value = list(meter.count(value))
            args = (*args[:first], value, *args[first + 1 :])
        if before is not None:
            before(meter, value, args[first + 1 :], kwargs)
        elif isinstance(value, (str, list, dict)):
            meter.take(1 + len(value) // 100)
        else:
            meter.take(1)
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            meter.text(len(result))
        return result

    return metered


def _numbers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
    return [abs(value) for value in (*args, *kwargs.values()) if isinstance(value, int)]


def _wide(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Filters that pad: each line may be as much longer as a number or text that is given."""
    meter.weigh(value)
    texts = [len(part) for part in (*args, *kwargs.values()) if isinstance(part, str)]
    grown = max([*_numbers(args, kwargs), *texts], default=4)
    text = value if isinstance(value, str) else ""
    meter.text(len(text) + (text.count("\n") + 1) * grown)


def _wrapped(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    text, width = str(value), max(1, min(_numbers(args, kwargs), default=79))
    ends = [len(part) for part in (*args, *kwargs.values()) if isinstance(part, str)]
    meter.text(len(text) + (len(text) // width + text.count("\n") + 1) * max(ends, default=1))


def _replace(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    old, new = (*args, kwargs.get("old", ""), kwargs.get("new", ""))[:2]
    meter.text(_replaced(str(value), str(old), str(kwargs.get("new", new))))


def _join(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    between = len(str((*args, kwargs.get("d", ""))[0]))
    meter.weigh(value)
    meter.text(sum(len(item) for item in value if isinstance(item, str)) + between * len(value))


def _filled(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    meter.weigh(value)
    meter.text(max(_numbers(args, kwargs), default=0))


def _deep(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Filters that write a value out: `indent` stands before each entry, once for each level."""
    start = meter.left
    meter.weigh(value)
    meter.text((start - meter.left) * max(_numbers(args, kwargs), default=0))


def _format(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    meter.weigh([*args, *kwargs.values()])
    if _FAR.search(str(value)):
        raise RowError("a format's width is at most 999, and stands in the format")


_BEFORE = {
    "batch": _filled,
    "center": _wide,
    "format": _format,
    "indent": _wide,
    "join": _join,
    "pprint": _deep,
    "replace": _replace,
    "round": _filled,
    "slice": _filled,
    "string": _deep,
    "tojson": _deep,
    "wordwrap": _wrapped,
    "xmlattr": _deep,
}
