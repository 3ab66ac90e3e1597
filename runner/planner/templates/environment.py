"""Jinja for prompts: sandboxed, strict, and a pure function of one row.

No state survives a row, `random` and `lipsum` are removed, and only plain JSON values print. A tag alone on its line
leaves no blank line.
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
from runner.planner.templates.filter_costs import check_printable
from runner.planner.templates.filters import FILTERS
from runner.planner.templates.sandbox import LimitedEnvironment, has_loops, is_stateless
from runner.planner.templates.step_limit import MAX_STEPS, MAX_TEXT, RowError, StepLimit

TEMPLATE_BYTES = 1_000_000
"""Largest template file."""
MAX_TEMPLATE_NAMES = 10_000
"""Most template names remembered; a template may request a different missing one for each row."""
_MISSING = "there is no template {name}; paths are relative to the project's root or to templates/"


@dataclass(frozen=True, slots=True)
class LoadedTemplate:
    """A template's text, its path in the project, and the file's SHA-256.

    `problem`: why it could not be loaded; `ignore missing` allows that.
    """

    text: str
    path: str
    digest: str
    problem: str = ""


Render = Callable[[dict[str, Any]], str]
"""Renders one row's namespace, as `Templates.namespace` makes it."""


class Templates:
    """A project's templates, for one job's `variables`.

    Templates in `loaded` replace the files, so that all processes render the same texts. A worker can't check whether
    git ignores a further template; its parent does, in `add_loaded`.
    """

    def __init__(
        self, root: Path, variables: Mapping[str, Any], loaded: Mapping[str, LoadedTemplate] | None = None
    ) -> None:
        self._root = root
        self._variables = dict(variables)
        self._checks_git = loaded is None
        self.loaded: dict[str, LoadedTemplate] = dict(loaded or {})
        self._environment = _environment(jinja2.FunctionLoader(self._load))
        self._globals = dict(self._environment.globals)

    @property
    def used(self) -> dict[str, str]:
        """Return the loaded files with their SHA-256."""
        return {template.path: template.digest for template in self.loaded.values() if not template.problem}

    def add_loaded(self, loaded: Mapping[str, LoadedTemplate]) -> None:
        """Add another process's templates.

        Raises InputError if the file changed meanwhile, or if git ignores it.
        """
        from runner.base.repository_paths import check_ignored  # noqa: PLC0415  as in read_template

        for name, template in loaded.items():
            if name not in self.loaded and not template.problem:
                try:
                    check_ignored(self._root, template.path)
                except TrustError as error:
                    raise InputError(
                        [Problem(template.path, 0, 0, error.message, error.hint, code=error.code)]
                    ) from error
            if self.loaded.setdefault(name, template).digest != template.digest:
                raise InputError(
                    [Problem(template.path or name, 0, 0, "the template changed during rendering", code="BS207")]
                )

    def namespace(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a template's names: the columns, overridden by `row` and `vars`."""
        return {**self._globals, **row, "row": row, "vars": self._variables}

    def compile_text(self, text: str, label: str) -> Render:
        """Compile inline Jinja text. Raises jinja2.TemplateError."""
        with _map_compile_errors(label):
            for error in self._errors(_references(self._environment.parse(text, label, label), label)):
                raise error
            return self._compile(text, label, label)

    def compile_file(self, path: str) -> Render:
        """Compile a template file. Raises jinja2.TemplateError."""
        for error in self._errors([_TemplateReference(path)]):
            raise error
        with _map_compile_errors(path):
            return self._compile(self.loaded[path].text, path, self.loaded[path].path)

    def errors_of_text(self, text: str, label: str) -> Iterator[jinja2.TemplateError]:
        """Yield what prevents inline text, and templates it names, from compiling."""
        try:
            with _map_compile_errors(label):
                references = _references(self._environment.parse(text, label, label), label)
                self._environment.compile(text, label, label)
        except jinja2.TemplateError as error:
            yield error
        else:
            yield from self._errors(references)

    def errors_of_file(self, path: str) -> Iterator[jinja2.TemplateError]:
        """Yield what prevents a file, and templates it names, from compiling."""
        return self._errors([_TemplateReference(path)])

    @property
    def filters(self) -> Iterable[str]:
        """Return all filters' names."""
        return self._environment.filters.keys()

    def _compile(self, text: str, name: str, filename: str) -> Render:
        environment = self._environment
        tree = environment.parse(text, name, filename)
        # This template renders rows and is not included by others, so `vars` is known.
        with environment.with_tree_hook(lambda tree: fold_constants(tree, environment, self._variables)):
            code = environment.compile(text, name, filename)
        template = _Template.from_code(environment, code, dict(environment.globals))
        return self._renderer(template, name, text, bounded=not has_loops(tree), stateless=is_stateless(tree))

    def _errors(self, references: list[_TemplateReference]) -> Iterator[jinja2.TemplateError]:
        """Load templates and those they name, so that errors come before the first row."""
        seen: set[str] = set()
        while references:
            reference = references.pop()
            if reference.name in seen:
                continue
            seen.add(reference.name)
            self._environment.steps.remaining = MAX_STEPS  # checking templates costs no row
            try:
                with _map_compile_errors(reference.name):
                    text, path, _ = self._load(reference.name)
                    references += _references(self._environment.parse(text, reference.name, path), reference.name)
                    self._environment.get_template(reference.name)
            except jinja2.TemplateNotFound as error:
                if not reference.parent:
                    yield error
                elif not reference.optional:
                    yield jinja2.TemplateSyntaxError(
                        str(error.message), reference.line, reference.parent, reference.parent
                    )
            except jinja2.TemplateError as error:
                yield error

    def _load(self, name: str) -> tuple[str, str, Callable[[], bool]]:
        found = self.loaded.get(name)
        if found is None:
            found = read_template(self._root, name, check_git=self._checks_git)
            if not found.problem or len(self.loaded) < MAX_TEMPLATE_NAMES:
                self.loaded[name] = found
        if found.problem:
            raise jinja2.TemplateNotFound(name, found.problem)
        return found.text, found.path, lambda: True

    def _renderer(self, template: jinja2.Template, label: str, text: str, *, bounded: bool, stateless: bool) -> Render:
        # Calling the root function directly gives the same text as Template.render() in less than half the time.
        # The namespace includes the environment's globals.
        environment = self._environment
        root, steps = template.root_render_func, environment.steps
        # Without loops each piece is output once, so the size needs no check.
        join = "".join if bounded else _join_limited

        def fresh(values: dict[str, Any]) -> Context:
            return environment.context_class(environment, values, template.name, template.blocks)

        context = fresh({})

        def render(values: dict[str, Any]) -> str:
            nonlocal context
            steps.remaining = MAX_STEPS
            if stateless:  # nothing writes to the context, so all rows share it
                context.parent = values
            else:
                context = fresh(values)
            try:
                return join(root(context))
            except Exception as error:  # noqa: BLE001  a filter may raise anything; it is the row's error
                sources = (text, *(loaded.text for loaded in self.loaded.values()))
                _raise_row_error(environment, error, label, values["row"], sources)

        return render


def _join_limited(pieces: Iterable[str]) -> str:
    size, texts = 0, []
    for piece in pieces:
        texts.append(piece)
        size += len(piece)
        if size > MAX_TEXT:
            raise RowError(f"the rendered prompt is longer than {MAX_TEXT} characters")
    return "".join(texts)


def read_template(root: Path, name: str, *, check_git: bool = True) -> LoadedTemplate:
    """Return a template by its name in a template or spec; with `problem` set if it can't be loaded.

    With `check_git`, an ignored template is a problem too.
    """
    from runner.base.repository_paths import TooLarge, check_ignored, read_inside, readable  # noqa: PLC0415  workers rarely need it

    for candidate in (name, f"templates/{name}"):
        try:
            if not readable(root, candidate).is_file():
                continue
            if check_git:
                check_ignored(root, candidate)
            data = read_inside(root, candidate, TEMPLATE_BYTES)
        except TrustError as error:
            return LoadedTemplate("", "", "", error.message)
        except TooLarge:
            return LoadedTemplate("", "", "", f"{candidate} is larger than {TEMPLATE_BYTES} bytes")
        except OSError as error:
            return LoadedTemplate("", "", "", f"{candidate} can't be read: {error.strerror or error}")
        if lfs.is_pointer(data):
            return LoadedTemplate("", "", "", lfs.message(candidate))
        try:
            return LoadedTemplate(data.decode("utf-8-sig"), candidate, hashlib.sha256(data).hexdigest())
        except UnicodeDecodeError:
            return LoadedTemplate("", "", "", f"{candidate} is not valid UTF-8")
    return LoadedTemplate("", "", "", _MISSING.format(name=name))


def column_names(row: Mapping[str, Any]) -> str:
    """Return a row's first twenty column names."""
    names = list(row)
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "") if names else "no columns"


def is_constant(text: str) -> bool:
    """Return whether inline text contains no Jinja."""
    return not any(mark in text for mark in ("{{", "{%", "{#"))


@contextmanager
def _map_compile_errors(label: str) -> Iterator[None]:
    try:
        yield
    except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError) as error:
        what = "blocks, brackets or operators are nested too deep, or it is too long"
        raise jinja2.TemplateSyntaxError(f"it can't be compiled: {what}", 1, label, label) from error


class _Template(jinja2.Template):
    """Builds its module for each import: nothing set in it survives a row."""

    def _get_default_module(self, ctx: Any = None) -> Any:  # noqa: ARG002  Jinja's name
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
    environment.finalize = partial(_to_printable, environment.steps)
    return environment


def _to_printable(steps: StepLimit, value: Any) -> Any:
    if isinstance(value, (list, dict)):
        steps.spend_nested(value)
        return value
    if value is None or isinstance(value, (str, int, float, bool)):
        if isinstance(value, float) and not math.isfinite(value):
            raise RowError("an infinite or undefined number cannot be printed")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
            raise RowError("a whole number beyond 64 bits cannot be printed")
        return value
    if isinstance(value, tuple):
        steps.spend_nested(value)
        return list(value)
    check_printable(value)
    return str(value)  # StrictUndefined raises here


@dataclass(frozen=True, slots=True)
class _TemplateReference:
    name: str
    parent: str = ""
    line: int = 0
    optional: bool = False


def _references(tree: nodes.Template, parent: str) -> list[_TemplateReference]:
    """Return the templates `tree` names literally; rows load computed names."""
    references = []
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        name = getattr(node, "template", None)
        if isinstance(name, nodes.Const) and isinstance(name.value, str):
            references.append(
                _TemplateReference(name.value, parent, node.lineno, getattr(node, "ignore_missing", False))
            )
    return references


def _raise_row_error(
    environment: LimitedEnvironment, error: Exception, label: str, row: Mapping[str, Any], sources: Iterable[str]
) -> NoReturn:
    place, line = label, 0
    environment.steps.remaining = MAX_STEPS  # Jinja copies the context for each frame, which takes steps
    try:
        environment.handle_exception()
    except Exception as rewritten:  # noqa: BLE001  it re-raises the current exception with template frames
        frame = rewritten.__traceback__
        while frame is not None:
            if "__jinja_exception__" in frame.tb_frame.f_globals:
                place, line = frame.tb_frame.f_code.co_filename, frame.tb_lineno
            frame = frame.tb_next
    location = f"{place}:{line}" if line else place
    if isinstance(error, RowError):  # the step limit, and limits of filters
        raise RowError(f"{location}: {error}", f"{location}: {error.public}") from error
    if isinstance(error, RecursionError):
        raise RowError(f"{location}: the template includes or calls itself without end") from error
    message = str(error) or type(error).__name__
    public = type(error).__name__  # the message may quote the row
    if isinstance(error, jinja2.UndefinedError):
        public = message if _quotes_only_sources(sources, message) else public
        message += f"; the row has: {column_names(row)}"
    raise RowError(f"{location}: {message}", f"{location}: {public}") from error


def _quotes_only_sources(sources: Iterable[str], message: str) -> bool:
    """Return whether a message quotes only templates' names, not a row's content."""
    known = "\n".join((*sources, "dict object", "None"))
    return all(name in known for name in re.findall(r"'([^']*)'", message))
