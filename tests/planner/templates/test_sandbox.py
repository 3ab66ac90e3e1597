"""A stranger's template: what others' sandboxes were left by, and what others' renderers hung on or filled the memory with.

Each is rendered in a process that has little memory, and has to end there, in an error that says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.planner.templates.environment import Templates
from runner.planner.templates.step_limit import RowError
from tests.planner.templates.hostile import BOMBS, DOUBLED, ESCAPES, HASHED, THROUGH, TUPLES, lines
from tests.sampling import sampled

MEGABYTES = 1_000
PATIENCE = 120
"""Seconds until a template counts as hung; each takes about one, and no step of the meter depends on it."""
ROW: dict[str, Any] = {"text": "one", "number": 2, "items": [1, 2, 3], "people": [{"name": "Ada"}, {"name": "Bo"}],
                       "nested": {"a": {"b": [None, True, 1.5]}}, "long": "word " * 20_000}  # fmt: skip
PROGRAM = f"""
import json, resource, sys
from pathlib import Path
import jinja2
from runner.planner.templates.step_limit import RowError
from runner.planner.templates.environment import Templates
resource.setrlimit(resource.RLIMIT_AS, ({MEGABYTES} << 20,) * 2)
root = Path(sys.argv[1])
for line in sys.stdin:
    row = json.loads(sys.argv[2])
    try:
        templates = Templates(root, {{"x": [1, 2]}})
        told = "text: " + templates.compile_text(json.loads(line), "t")(templates.namespace(row))[:500]
    except (RowError, jinja2.TemplateError) as error:
        told = "error: " + str(error)
    except BaseException as error:
        told = "broken: " + repr(error)
    print(json.dumps([told, row == json.loads(sys.argv[2])]), flush=True)
"""


class Prison:
    """A process that renders what it is given; another takes its place when it dies or hangs."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", PROGRAM, str(self._root), json.dumps(ROW)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip

    def render(self, text: str) -> str:
        """What came of it, and nothing but `error: …` or `text: …` where all is well."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watch = threading.Timer(PATIENCE, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(json.dumps(text) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not answer:
            self.close()
            self._process = self._start()
            return "broken: the process hung or died"
        told, whole = json.loads(answer)
        return str(told) if whole else "broken: the row was changed"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def prison(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prison]:
    root = tmp_path_factory.mktemp("project")
    for name, text in {
        "self.j2": "{% include 'self.j2' %}{% include 'self.j2' %}", "a.j2": "{% include 'b.j2' %}", "b.j2": "{% include 'a.j2' %}",
        "imports.j2": "{% import 'imports.j2' as y %}", "extends.j2": "{% extends 'extends.j2' %}", "m.j2": "{% set _private = 1 %}",
        ".git/config": "token", "large.j2": "x" * 1_000_001,
    }.items():  # fmt: skip
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    (root / "latin.j2").write_bytes(b"\xe9")
    (root / "zero.j2").symlink_to("/dev/zero")
    (root / "link.j2").symlink_to("/etc/passwd")
    (root / "git.j2").symlink_to(".git/config")
    os.mkfifo(root / "pipe.j2")
    made = Prison(root)
    with contextlib.closing(made):
        yield made


@pytest.mark.parametrize("text", lines(ESCAPES))
def test_known_escapes_reach_nothing(prison: Prison, text: str) -> None:
    assert prison.render(text).startswith("error: ")


@pytest.mark.parametrize("text", sampled(lines(BOMBS), 15))
def test_what_runs_on_or_grows_is_stopped(prison: Prison, text: str) -> None:
    assert prison.render(text).startswith("error: ")


@pytest.mark.parametrize("text", sampled(lines(THROUGH), 6))
def test_lists_that_hold_one_another_are_not_gone_through(prison: Prison, text: str) -> None:
    assert prison.render(DOUBLED + text).startswith("error: ")


@pytest.mark.parametrize("text", sampled(lines(HASHED), 3))
def test_tuples_that_hold_one_another_are_not_hashed(prison: Prison, text: str) -> None:
    assert prison.render(TUPLES + text).startswith("error: ")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", id="brackets"),
        pytest.param("{{ " + "not " * 50_000 + "1 }}", id="operators"),
        pytest.param("{% for i in items %}" * 60 + "{% endfor %}" * 60, id="loops in loops"),
        pytest.param("{% if 1 %}" * 300 + "{% endif %}" * 300, id="conditions in conditions"),
        pytest.param("{{ text" + "|upper" * 20_000 + " }}", id="filters"),
        pytest.param("{{ " + "9" * 5_000 + " }}", id="digits"),
        pytest.param("{{ 0x" + "f" * 450_000 + " // 0x" + "f" * 200_000 + " > 3 }}", id="hexadecimal digits"),
        pytest.param("{{text}}" * 60_000, id="many small things"),
        pytest.param("{{ text" + "|e" * 60_000 + " }}", id="a long chain"),
        pytest.param("".join(f"{{% block a{n} %}}{{% endblock %}}" for n in range(20_000)), id="many blocks"),
    ],
)
def test_what_python_will_not_compile_is_an_error_of_the_template(prison: Prison, text: str) -> None:
    assert prison.render(text).startswith("error: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("{{ 'tags: ' ~ items|map('string') }}", "a generator cannot be printed; add `| list`", id="a generator, joined"),
        pytest.param("{{ items|map('string')|upper }}", "a generator cannot be printed; add `| list`", id="a generator, filtered"),
        pytest.param("{{ [items|map('string')] }}", "that holds a generator can't be printed", id="a generator in a list"),
        pytest.param("{{ '%s'|format(cycler(1)) }}", "that holds a Cycler can't be printed", id="an object, formatted"),
        pytest.param("{{ dict|string }}", "a type cannot be printed", id="a type"),
        pytest.param("{{ 'x'.encode() }}", "bytes are no text", id="bytes"),
        pytest.param("{{ range(10**7)|list }}", "the template exceeds 1000000 steps for one row", id="steps"),
        pytest.param("{{ 'x' * 10**8 }}", "at most 10000000 are allowed", id="length"),
    ],
)  # fmt: skip
def test_the_error_says_what_to_do(prison: Prison, text: str, says: str) -> None:
    """Text that would name an address, and so be another request in each run, is among what is refused."""
    assert says in prison.render(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Dear\n{% for i in range(999999) %}{{ i }}{% endfor %}", "t.j2:2: the template exceeds 1000000 steps"),
        ("one\ntwo\n{{ 'x' * 10**8 }}", "t.j2:3: the template makes a text or list of 100000000 characters"),
        ("{% include 'inner.j2' %}", "templates/inner.j2:3: the template exceeds 1000000 steps"),
    ],
)
def test_a_limit_names_template_and_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "t.j2").write_text(text)
    (tmp_path / "templates/inner.j2").write_text("a\nb\n{% for i in range(999999) %}{{ i }}{% endfor %}")
    templates = Templates(tmp_path, {})
    with pytest.raises(RowError) as caught:
        templates.compile_file("t.j2")(templates.namespace({}))
    assert str(caught.value).startswith(message)
    assert caught.value.public == str(caught.value)
