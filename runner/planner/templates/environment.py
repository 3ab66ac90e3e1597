"""Jinja for prompts: sandboxed, strict, and a pure function of one row.

No template state survives a row, `random` and `lipsum` don't exist, and only strings, numbers, booleans, null, lists
and dicts print. `trim_blocks` and `lstrip_blocks` are on: a tag that stands alone on its line leaves no blank line.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context

from runner.base import lfs
from runner.errors import InputError, Problem, TrustError
from runner.planner.templates.constant_folding import fold_constants
from runner.planner.templates.filter_costs import printed
from runner.planner.templates.filters import FILTERS
from runner.planner.templates.sandbox import LimitedEnvironment, has_loops, is_stateless
from runner.planner.templates.step_limit import MAX_STEPS, MAX_TEXT, RowError, StepLimit

TEMPLATE_BYTES = 1_000_000
"""The largest template file."""
MOST_NAMES = 10_000
"""Names that are remembered; a template may ask for another one with each row, in vain."""
_MISSING = "there is no template {name}; paths are relative to the project's root or to templates/"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A template's text as it was read, from which file of the project, and the SHA-256 of that file.

    `problem` says why there is none; a template may ask for it and go on without (`ignore missing`).
    """

    text: str
    path: str
    digest: str
    problem: str = ""


Render = Callable[[dict[str, Any]], str]
"""Renders one row's namespace, as `Templates.namespace` makes it."""


class Templates:
    """The templates of one project, for one job's `variables`.

    `loaded` collects each template by the name it was asked for; what is given stands for the files, so that several
    processes render the same texts whatever happens to the files meanwhile. A process that is given templates can't ask
    git whether it ignores another one; the one that learns of it does.
    """

    def __init__(self, root: Path, variables: Mapping[str, Any], loaded: Mapping[str, Loaded] | None = None) -> None:
        self._root = root
        self._variables = dict(variables)
        self._asks_git = loaded is None
        self.loaded: dict[str, Loaded] = dict(loaded or {})
        self._environment = _environment(jinja2.FunctionLoader(self._load))
        self._globals = dict(self._environment.globals)

    @property
    def used(self) -> dict[str, str]:
        """The files that were loaded, with their SHA-256, for the lockfile."""
        return {one.path: one.digest for one in self.loaded.values() if not one.problem}

    def learn(self, loaded: Mapping[str, Loaded]) -> None:
        """Take in templates that another process loaded.

        Raises InputError if the file was changed meanwhile, or if git ignores it.
        """
        from runner.base.repository_paths import check_ignored  # noqa: PLC0415  as in read_template

        for name, one in loaded.items():
            if name not in self.loaded and not one.problem:
                try:
                    check_ignored(self._root, one.path)
                except TrustError as error:
                    raise InputError([Problem(one.path, 0, 0, error.message, error.hint, code=error.code)]) from error
            if self.loaded.setdefault(name, one).digest != one.digest:
                raise InputError(
                    [Problem(one.path or name, 0, 0, "the template was changed while it was rendered", code="BS207")]
                )

    def namespace(self, row: dict[str, Any]) -> dict[str, Any]:
        """What a template sees: the columns by name, then `row` and `vars`, which win over columns of that name."""
        return {**self._globals, **row, "row": row, "vars": self._variables}

    def compile_text(self, text: str, label: str) -> Render:
        """A function of the row's namespace for inline Jinja text. Raises jinja2.TemplateError."""
        with _compiling(label):
            for error in self._errors(_named(self._environment.parse(text, label, label), label)):
                raise error
            return self._compile(text, label, label)

    def compile_file(self, path: str) -> Render:
        """A function of the row's namespace for a template file. Raises jinja2.TemplateError."""
        for error in self._errors([_Named(path)]):
            raise error
        with _compiling(path):
            return self._compile(self.loaded[path].text, path, self.loaded[path].path)

    def errors_of_text(self, text: str, label: str) -> Iterator[jinja2.TemplateError]:
        """All that keeps inline text, and the templates it names, from being compiled."""
        try:
            with _compiling(label):
                named = _named(self._environment.parse(text, label, label), label)
                self._environment.compile(text, label, label)
        except jinja2.TemplateError as error:
            yield error
        else:
            yield from self._errors(named)

    def errors_of_file(self, path: str) -> Iterator[jinja2.TemplateError]:
        """All that keeps a template file, and the templates it names, from being compiled."""
        return self._errors([_Named(path)])

    @property
    def filters(self) -> Iterable[str]:
        """The names of all filters."""
        return self._environment.filters.keys()

    def _compile(self, text: str, name: str, filename: str) -> Render:
        environment = self._environment
        tree = environment.parse(text, name, filename)
        # As a template that rows are rendered with, not one that others include: what `vars` is, is known.
        with environment.prepared(lambda tree: fold_constants(tree, environment, self._variables)):
            code = environment.compile(text, name, filename)
        template = _Template.from_code(environment, code, dict(environment.globals))
        return self._renderer(template, name, text, bounded=not has_loops(tree), same=is_stateless(tree))

    def _errors(self, named: list[_Named]) -> Iterator[jinja2.TemplateError]:
        """Load templates and what they name, so that errors come, and `used` is whole, before the first row."""
        seen: set[str] = set()
        while named:
            asked = named.pop()
            if asked.name in seen:
                continue
            seen.add(asked.name)
            self._environment.meter.left = MAX_STEPS  # looking at templates is no row's cost
            try:
                with _compiling(asked.name):
                    text, path, _ = self._load(asked.name)
                    named += _named(self._environment.parse(text, asked.name, path), asked.name)
                    self._environment.get_template(asked.name)
            except jinja2.TemplateNotFound as error:
                if not asked.by:
                    yield error
                elif not asked.missing_is_fine:
                    yield jinja2.TemplateSyntaxError(str(error.message), asked.line, asked.by, asked.by)
            except jinja2.TemplateError as error:
                yield error

    def _load(self, name: str) -> tuple[str, str, Callable[[], bool]]:
        found = self.loaded.get(name)
        if found is None:
            found = read_template(self._root, name, asks_git=self._asks_git)
            if not found.problem or len(self.loaded) < MOST_NAMES:
                self.loaded[name] = found
        if found.problem:
            raise jinja2.TemplateNotFound(name, found.problem)
        return found.text, found.path, lambda: True

    def _renderer(self, template: jinja2.Template, label: str, text: str, *, bounded: bool, same: bool) -> Render:
        # The root function with a context of our own: the same text as Template.render() in less than half the time.
        # The environment's globals are handed along in the namespace.
        environment = self._environment
        root, meter = template.root_render_func, environment.meter
        # What has no loop gives each of its pieces once, so they need not be counted.
        join = "".join if bounded else _join_bounded

        def fresh(values: dict[str, Any]) -> Context:
            return environment.context_class(environment, values, template.name, template.blocks)

        context = fresh({})

        def render(values: dict[str, Any]) -> str:
            nonlocal context
            meter.left = MAX_STEPS
            if same:  # a context is never written to, so one serves all rows
                context.parent = values
            else:
                context = fresh(values)
            try:
                return join(root(context))
            except Exception as error:  # noqa: BLE001  templates run any filter; whatever it raises is the row's error
                sources = (text, *(one.text for one in self.loaded.values()))
                _explain(environment, error, label, values["row"], sources)

        return render


def _join_bounded(pieces: Iterable[str]) -> str:
    size, texts = 0, []
    for piece in pieces:
        texts.append(piece)
        size += len(piece)
        if size > MAX_TEXT:
            raise RowError(f"the rendered prompt is longer than {MAX_TEXT} characters")
    return "".join(texts)


def read_template(root: Path, name: str, *, asks_git: bool = True) -> Loaded:
    """Return a template by the name that a template or a spec has for it; with a problem if there is none.

    With `asks_git`, one that git ignores is a problem too.
    """
    from runner.base.repository_paths import TooLarge, check_ignored, read_inside, readable  # noqa: PLC0415  workers seldom read one

    for candidate in (name, f"templates/{name}"):
        try:
            if not readable(root, candidate).is_file():
                continue
            if asks_git:
                check_ignored(root, candidate)
            data = read_inside(root, candidate, TEMPLATE_BYTES)
        except TrustError as error:
            return Loaded("", "", "", error.message)
        except TooLarge:
            return Loaded("", "", "", f"{candidate} is larger than {TEMPLATE_BYTES} bytes")
        except OSError as error:
            return Loaded("", "", "", f"{candidate} can't be read: {error.strerror or error}")
        if lfs.is_pointer(data):
            return Loaded("", "", "", lfs.message(candidate))
        try:
            return Loaded(data.decode("utf-8-sig"), candidate, hashlib.sha256(data).hexdigest())
        except UnicodeDecodeError:
            return Loaded("", "", "", f"{candidate} is not valid UTF-8")
    return Loaded("", "", "", _MISSING.format(name=name))


def columns(row: Mapping[str, Any]) -> str:
    """The names of a row's columns, for messages; the first twenty."""
    names = list(row)
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "") if names else "no columns"


def is_constant(text: str) -> bool:
    """Whether inline text has no Jinja in it, so that it is the same for every row."""
    return not any(mark in text for mark in ("{{", "{%", "{#"))


@contextmanager
def _compiling(label: str) -> Iterator[None]:
    """Python compiles what Jinja makes of a template, and has limits of its own."""
    try:
        yield
    except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError) as error:
        what = "blocks, brackets or operators stand too deep in each other, or it is too long"
        raise jinja2.TemplateSyntaxError(f"it can't be compiled: {what}", 1, label, label) from error


class _Template(jinja2.Template):
    """A template whose module is made anew for each import, so that nothing set in it survives a row."""

    def _get_default_module(self, ctx: Any = None) -> Any:  # noqa: ARG002  jinja2 calls it so
        return self.make_module()


class _Environment(LimitedEnvironment):
    template_class = _Template


def _environment(loader: jinja2.BaseLoader) -> LimitedEnvironment:
    environment = _Environment(
        undefined=jinja2.StrictUndefined,
        loader=loader,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # prompts are text, not HTML
    )
    environment.globals.pop("lipsum")
    environment.filters.pop("random")
    environment.add_filters(FILTERS)
    environment.finalize = partial(_printable, environment.meter)
    return environment


def _printable(meter: StepLimit, value: Any) -> Any:
    if isinstance(value, (list, dict)):
        meter.spend_nested(value)
        return value
    if value is None or isinstance(value, (str, int, float, bool)):
        if isinstance(value, float) and not math.isfinite(value):
            raise RowError("an infinite or undefined number cannot be printed")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
            raise RowError("a whole number beyond 64 bits cannot be printed")
        return value
    if isinstance(value, tuple):
        meter.spend_nested(value)
        return list(value)
    printed(value)
    return str(value)  # StrictUndefined raises here, with its own words


@dataclass(frozen=True, slots=True)
class _Named:
    """A template's name, and by which template it is named, on which line; the spec names it where `by` is empty."""

    name: str
    by: str = ""
    line: int = 0
    missing_is_fine: bool = False


def _named(tree: nodes.Template, by: str) -> list[_Named]:
    """Templates that `tree` names outright; a name that is computed is loaded when its row comes."""
    named = []
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        name = getattr(node, "template", None)
        if isinstance(name, nodes.Const) and isinstance(name.value, str):
            named.append(_Named(name.value, by, node.lineno, getattr(node, "ignore_missing", False)))
    return named


def _explain(
    environment: LimitedEnvironment, error: Exception, label: str, row: Mapping[str, Any], sources: Iterable[str]
) -> NoReturn:
    place, line = label, 0
    environment.meter.left = MAX_STEPS  # Jinja copies the context for each frame, which takes steps
    try:
        environment.handle_exception()
    except Exception as rewritten:  # noqa: BLE001  it re-raises what is being handled, with template frames
        frame = rewritten.__traceback__
        while frame is not None:
            if "__jinja_exception__" in frame.tb_frame.f_globals:
                place, line = frame.tb_frame.f_code.co_filename, frame.tb_lineno
            frame = frame.tb_next
    where = f"{place}:{line}" if line else place
    if isinstance(error, RowError):  # the step limit, and limits of filters
        raise RowError(f"{where}: {error}", f"{where}: {error.public}") from error
    if isinstance(error, RecursionError):
        raise RowError(f"{where}: the template includes or calls itself without end") from error
    message = str(error) or type(error).__name__
    public = type(error).__name__  # the words may quote the row
    if isinstance(error, jinja2.UndefinedError):
        public = message if _named_by(sources, message) else public
        message += f"; the row has: {columns(row)}"
    raise RowError(f"{where}: {message}", f"{where}: {public}") from error


def _named_by(sources: Iterable[str], message: str) -> bool:
    """Whether each name that a message quotes is the templates' own, so that it comes from no row."""
    known = "\n".join((*sources, "dict object", "None"))
    return all(name in known for name in re.findall(r"'([^']*)'", message))
