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


ESCAPES = r"""
{{ ''.__class__ }}
{{ ''.__class__.__mro__[1].__subclasses__() }}
{{ ''['__class__'] }}
{{ ''|attr('__class__') }}
{{ ''|attr('__cla' ~ 'ss__') }}
{{ ''|attr('\x5f\x5fclass\x5f\x5f') }}
{{ items|map(attribute='__class__')|list }}
{{ items|map('attr', '__class__')|list }}
{{ people|groupby('__class__') }}
{{ people|sum(attribute='__class__') }}
{{ people|sort(attribute='__class__') }}
{{ people|selectattr('__class__')|list }}
{{ cycler.__init__.__globals__.os.popen('id').read() }}
{{ joiner.__init__.__globals__ }}
{{ namespace.__init__.__globals__ }}
{{ namespace.__self__ }}
{{ namespace.__func__.__globals__ }}
{{ namespace(a=1)['__class__'] }}
{{ namespace()._meter }}
{{ range.__self__.steps }}
{{ cycler(1).reset.__globals__ }}
{{ joiner('x').__call__.__self__ }}
{{ joiner.__class__.__base__ }}
{{ dict.__subclasses__() }}
{{ dict.fromkeys.__self__ }}
{{ dict|attr('__mro__') }}
{{ lipsum() }}
{{ lipsum.__globals__ }}
{{ url_for.__globals__ }}
{{ get_flashed_messages.__globals__ }}
{{ config }}
{{ request.application }}
{{ environment }}
{{ __import__('os') }}
{{ self.__init__.__globals__ }}
{{ self._TemplateReference__context }}
{{ self._TemplateReference__context.environment }}
{{ (items|map('string')).gi_frame }}
{{ (items|select).gi_code }}
{{ (items|map('upper'))|attr('gi_frame') }}
{% for i in items %}{{ loop.__init__.__globals__ }}{% endfor %}
{% macro m() %}{% endmacro %}{{ m.__globals__ }}
{% macro m() %}{% endmacro %}{{ m._func }}
{% macro m() %}{% endmacro %}{{ m._environment }}
{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}
{% macro m() %}{{ varargs.__class__ }}{{ kwargs.__class__ }}{% endmacro %}{{ m() }}
{{ '{0.__class__}'.format(1) }}
{{ '{x.__class__}'.format_map({'x': 1}) }}
{{ ('{0.__cla' ~ 'ss__}').format(1) }}
{{ ('{0.__class__}'|attr('format'))(1) }}
{{ ('{0.__class__}'['format'])(1) }}
{{ ('{x.__class__}'|attr('format_map'))({'x': 1}) }}
{% set f = '{0.__class__}'.format %}{{ f(1) }}
{% set f = [('{0.__class__}').format] %}{{ f[0](1) }}
{{ dict(f='{0.__class__}'.format).f(1) }}
{% macro m(f) %}{{ f(1) }}{% endmacro %}{{ m('{0.__class__}'.format) }}
{{ namespace(f='{0.__class__}'.format).f(1) }}
{% for f in ['{0.__class__}']|map(attribute='format') %}{{ f(1) }}{% endfor %}
{% for f in ['{x.__class__}']|map(attribute='format_map') %}{{ f({'x': 1}) }}{% endfor %}
{% for f in ['{0.__class__}']|map('attr', 'format') %}{{ f(1) }}{% endfor %}
{{ ['{0.__class__}']|map('format', 1)|list }}
{{ '{0.__class__}'.format.__wrapped__(1) }}
{{ '{0.__class__}'.format|attr('__wrapped__') }}
{{ ('{0.__class__}'|safe).format(1) }}
{{ ('{0.__class__}'|escape).format(1) }}
{{ ('{x.__class__}'|safe).format_map({'x': 1}) }}
{{ ('x'|escape).__class__ }}
{{ ('x'|safe).unescape.__globals__ }}
{{ items.append(4) }}
{{ items.sort() }}
{{ items|attr('append')(1) }}
{% set f = items.append %}{{ f(1) }}
{% for f in [items]|map(attribute='append') %}{{ f(5) }}{% endfor %}
{{ nested.update({'a': 1}) }}
{{ nested.pop('a') }}
{{ nested|attr('clear')() }}
{{ vars.update({'x': 1}) }}
{{ people[0].__setitem__('x', 1) }}
{{ nested.__getattribute__('a') }}
{% debug %}
{% do items.append(1) %}
{% from 'os' import popen %}
{% from 'm.j2' import _private %}
{% include '/etc/passwd' %}
{% include '../../../etc/passwd' %}
{% include 'templates/../../../etc/passwd' %}
{% include ['/etc/passwd', '/etc/hostname'] %}
{% include '~/.ssh/id_rsa' %}
{% include '.git/config' %}
{% include 'git.j2' %}
{% include 'link.j2' %}
{% include 'zero.j2' %}
{% include '/dev/zero' %}
{% include 'pipe.j2' %}
{% include 'large.j2' %}
{% include 'latin.j2' %}
{% include '.' %}
{% include '\u0000' %}
{% import '/etc/passwd' as x %}
{% extends '/etc/passwd' %}
{{ text|__counted }}{{ missing }}
{{ [1, 2]|random }}
{{ range.__class__ }}
{{ loop }}{% for i in items %}{{ loop.__init__.__globals__ }}{% endfor %}
{{ (1).__class__.__base__ }}
{{ nested.a.b.append.__self__ }}
{{ items.clear() }}
{{ debug() }}
{{ joined }}
{{ m() }}{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}
{{ ''.encode().__class__ }}
{{ text.encode('idna') }}
{{ (items|first).real.__class__ }}
{{ true.__class__ }}
{{ none.__class__ }}
{{ ''.join.__self__.__class__ }}
{{ range }}
{{ namespace() }}
{{ cycler(1) }}
"""

BOMBS = r"""
{% for x in range(10**9) %}{% endfor %}
{{ range(10**9)|list }}
{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}{% endfor %}{% endfor %}{% endfor %}
{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}
{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}
{% for i in items recursive %}{{ loop(items) }}{{ loop(items) }}{% endfor %}
{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}
{% include 'self.j2' %}
{% include 'a.j2' %}
{% import 'imports.j2' as x %}{{ x }}
{% extends 'extends.j2' %}
{{ 'a' * 10**9 }}
{{ 10**9 * 'a' }}
{{ true * 10**9 * 'x' }}
{{ ('x'|safe) * 10**9 }}
{{ [1] * 10**9 }}
{{ ([1] * 9999999, [1] * 9999999, [1] * 9999999, [1] * 9999999, [1] * 9999999, [1] * 9999999)|length }}
{{ ['😀' * 9999999, '😀' * 9999998, '😀' * 9999997, '😀' * 9999996] * 9999 }}
{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = ns.x + ['😀' * 9999999 ~ i] %}{% endfor %}
{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x, ('xy ' * 3333333).split()] %}{% endfor %}
{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x, ('xy' * 4999999)|list] %}{% endfor %}
{% set l = [1] * 9999999 %}{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x, l[1:]] %}{% endfor %}
{% set ns = namespace(x=[1]) %}{% for i in range(999999) %}{% set ns.x = [ns.x] %}{% endfor %}
{% set ns = namespace(x=[1]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x == ns.x }}
{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}
{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}
{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x|replace('x', ns.x ~ ns.x) %}{% endfor %}
{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('x', ns.x ~ ns.x) %}{% endfor %}
{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}
{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x.join([ns.x, ns.x, ns.x]) %}{% endfor %}
{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}
{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}
{% set ns = namespace(x=7) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}
{{ 9**9**9 }}
{{ 2**(-10**9) }}
{{ (10**1000) * (10**1000) }}
{{ ('f' * 9999999)|int(base=16) > 3 }}
{{ ('f' * 9999999)|int(base=16) // (('f' * 4999999)|int(base=16)) }}
{{ 1.5|round(10**7) }}
{{ 1|round(10**9) }}
{{ 1.5|round(10**9, 'ceil') }}
{{ (1).to_bytes(10**9, 'big')|length }}
{{ ('x'.encode() * 10**9)|length }}
{{ '%1000000000d' % 1 }}
{{ '%.1000000000f' % 1 }}
{{ '%1000000000d'|format(1) }}
{{ '%*d'|format(10**9, 1) }}
{{ '{:>1000000000}'.format(1) }}
{{ '{:{}}'.format(1, 10**9) }}
{{ ('{0:>999}' * 1000000).format(1)|length }}
{{ ('{0}' * 1000000).format('x' * 9999999)|length }}
{{ ('{x}' * 1000000).format_map({'x': 'x' * 9999999})|length }}
{{ ('%(x)s' * 1000000) % {'x': 'x' * 999999} }}
{{ (['%999d'] * 999999)|map('format', 1)|list|length }}
{{ 'x'|center(10**9) }}
{{ 'x'.center(width=10**9) }}
{{ 'x'.ljust(10**9, 'y') }}
{{ 'x'.zfill(10**9) }}
{{ '\t'.expandtabs(tabsize=10**9) }}
{{ ('x'|escape).center(10**9) }}
{{ 'x\nx'|indent(10**9) }}
{{ ('x\n' * 99999)|indent('y' * 9999) }}
{{ ('x' * 9999)|replace('x', 'y' * 9999) }}
{{ ('x' * 99999).replace('', 'y' * 9999)|length }}
{{ ('x' * 99999).join(['y'] * 99999)|length }}
{{ (range(99999)|list)|map('string')|join('x' * 9999) }}
{{ ('x ' * 99999)|wordwrap(1, wrapstring='x' * 9999) }}
{{ items|map('string')|map('indent', 10**9)|list }}
{{ [1]|batch(10**9, 'x')|list }}
{{ [1]|slice(10**9)|list }}
{{ nested|tojson(indent=10**9) }}
{{ nested|tojson(indent='x' * 9999999) }}
{{ [['"' * 9999999] * 99]|csv|length }}
{{ ([[1] * 1000] * 9000)|sum(start=[])|length }}
{{ dict.fromkeys(range(10**9)) }}
{{ ('<!---->' * 1000000)|striptags|length }}
{{ ('((((((((((' * 100000)|urlize|length }}
{{ (' \t' * 4999999 ~ 'x')|dedent|length }}
{{ ('a' * 9999999)|truncate_tokens(3) }}
{% for i in range(99999) %}{{ long|title|length }}{{ long|urlize|length }}{{ long|wordcount }}{% endfor %}
{% for i in range(999999) %}{% if 'zzzz' in long %}x{% endif %}{% endfor %}
{% set l = range(99999)|list %}{% for i in range(999999) %}{% if 100000 in l %}{% endif %}{% endfor %}
{% set l = range(99999)|list %}{% for i in range(999999) %}{% if l == l[0:] %}{% endif %}{% endfor %}
{% set l = range(99999)|list %}{% for i in range(99999) %}{{ l.index(99998) }}{% endfor %}
{% set l = range(99999)|list %}{% for i in range(99999) %}{{ l.copy()|length }}{% endfor %}
{% set l = range(99999)|list %}{% for i in range(99999) %}{{ l|select('odd')|list|length }}{% endfor %}
{% set l = range(99999)|list %}{% for i in range(99999) %}{{ l|map(attribute='real')|list|length }}{% endfor %}
{% set l = range(99999)|list %}{% for i in range(99999) %}{{ l|sort|length }}{{ l|unique|list|length }}{% endfor %}
{% set l = range(99999)|list %}{% macro m() %}{{ varargs|length }}{% endmacro %}{% for i in range(99999) %}{{ m(*l) }}{% endfor %}
{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}
{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor %}{% endfor %}{% endfor %}
{% for a in range(99999) %}{{ range(99999)|list|length }}{% endfor %}
{% for a in range(99999) %}{{ range(99999)|sum }}{% endfor %}
{{ 'x' * 10**9 }}
{{ 10**9 * 'x' }}
{{ ('x' * 9999999) * 9999999 }}
{{ 9**9**9**9 }}
{{ 10 ** 100000 }}
{% set ns = namespace(x=7) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}
{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}
{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}
{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x|replace('x', ns.x) %}{% endfor %}{{ ns.x }}
{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('x', ns.x) %}{% endfor %}{{ ns.x }}
{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}{{ ns.x }}
{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x.join([ns.x, ns.x, ns.x]) %}{% endfor %}{{ ns.x }}
{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}{{ ns.x }}
{% set ns = namespace(x=[1, 1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}
{% set ns = namespace(x=[1, 1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}
{% set ns = namespace(x=[1, 1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|string }}
{% set ns = namespace(x=[1, 1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ 'a' ~ ns.x }}
{% set ns = namespace(x=[1, 1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}
{% set b = 'x' * 9999999 %}{% for i in range(99999) %}{{ b }}{% endfor %}
{% set b = 'x' * 9999999 %}{{ ([b] * 1000)|join }}
{{ 'x'.center(10**9) }}
{{ 'x'.ljust(10**9) }}
{{ '\t'.expandtabs(10**9) }}
{{ '{:1000000000}'.format(1) }}
{{ 'a\nb'|indent(10**9) }}
{{ nested|tojson(10**9) }}
{{ ('a ' * 99999)|wordwrap(1, wrapstring='x' * 9999) }}
{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}
{% for a in items recursive %}{{ loop(items) }}{{ loop(items) }}{% endfor %}
{% for i in range(99999) %}{{ ('x' * 99999)|upper|length }}{% endfor %}
{% for i in range(99999) %}{{ ('x' * 99999).upper()|length }}{% endfor %}
{{ (range(99999)|list) | map('string') | join('x' * 9999) }}
{{ '%500000000d' is odd }}
{{ '%500000000d' is even }}
{{ '%500000000d' is divisibleby 3 }}
{{ ([[1, 2]] * 300000)|sum(start=[])|length }}
{{ ('x' * 4000000)|wordwrap(1)|length }}
{{ ('-' * 4000000)|wordwrap(50)|length }}
{{ (' ' * 4000000)|wordwrap(5)|length }}
{{ ('a-' * 2400000)|title|length }}
{{ ('y' * 1000000)|trim('x' * 1000000 ~ 'y')|length }}
{{ ('y' * 1000000).strip('x' * 1000000 ~ 'y')|length }}
{{ ('a' * 2000000).rfind('ab' ~ 'a' * 1000000) }}
{{ ('a' * 2000000).rsplit('ab' ~ 'a' * 1000000)|length }}
{{ (('<!---->' * 1000000)|safe).striptags()|length }}
{% set l = range(99999)|list %}{% for i in l recursive %}{% if loop.first %}{{ loop(l) }}{% endif %}{% endfor %}
{{ (range(99999)|list)|sort(attribute='real,' * 100000 ~ 'real')|length }}
{{ (range(99999)|list)|map(attribute='real.' * 100000 ~ 'real')|list|length }}
{{ range(99999)|map(attribute='real.' * 100000 ~ 'real')|list|length }}
{% for i in range(300000) %}{% if 'zzzz' is in(long) %}x{% endif %}{% endfor %}
"""

DOUBLED = (
    "{% set ns = namespace(x=[], y=[]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}"
    "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{% set x, y = ns.x, ns.y %}"
)
"""Two lists of more entries than there are atoms, made of two hundred; whatever goes through them runs for ever."""
THROUGH = r"""
{{ x }}
{{ x == y }}
{{ x < y }}
{{ x in [y] }}
{{ [y].index(x) }}
{{ [y].count(x) }}
{{ {'a': x}.items() == {'a': y}.items() }}
{{ x is eq(y) }}
{{ [x]|select('eq', y)|list }}
{{ [x, y]|max }}
{{ [x, y]|sort }}
{{ [[x, 1], [y, 2]]|groupby(0) }}
{{ {'a': x, 'b': y}|dictsort(by='value') }}
{{ 'a' ~ x }}
{{ '%s' % [x] }}
{{ '%s'|format(x) }}
{{ '{}'.format(x) }}
{{ '{0[x]}'.format({'x': x}) }}
{{ [x]|map('string')|list|length }}
{{ x|string }}
{{ x|upper }}
{{ x|escape }}
{{ x|trim }}
{{ x|wordwrap }}
{{ x|pprint }}
{{ x|tojson }}
{{ x|xml_escape }}
{{ x|truncate_tokens(3) }}
{{ [[x]]|csv }}
{{ x|join }}
{{ [1, 2]|join(x) }}
{{ 'a'|replace('a', x) }}
{{ x|replace('a', 'b') }}
{{ {'a': x}|xmlattr }}
{{ {'a': x}|urlencode }}
{{ x|int }}
{{ {}[x] }}
{{ row|attr(x) }}
{% include x %}
{% for i in [x, y] %}{{ loop.changed(i) }}{% endfor %}
{{ [x, y]|select|sort|list }}
{{ [x, y]|select|max }}
{{ [x, y]|map('first')|sort|length }}
{{ {'a': x, 'b': y}.values()|sort }}
{{ [x]|select|urlencode }}
{{ (','|safe).join([x]) }}
{{ ('a'|safe).replace('a', x) }}
{{ x is lower }}
{{ [x]|select('upper')|list }}
{{ '%s' is divisibleby(x) }}
"""
TUPLES = "{% set ns = namespace(x=(1, 1)) %}{% for i in range(99) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{% set x = ns.x %}"
HASHED = r"""
{{ {x: 1}|length }}
{{ {}[x] }}
{{ nested.get(x) }}
{{ dict.fromkeys([x])|length }}
{{ [x]|unique|list|length }}
{{ x in nested }}
{{ x is filter }}
{{ x is test }}
{{ [x]|select|unique|list|length }}
{{ [x]|select|groupby(0)|length }}
"""


def lines(text: str) -> list[str]:
    return text.strip("\n").split("\n")


@pytest.mark.parametrize("text", lines(ESCAPES))
def test_known_escapes_reach_nothing(prison: Prison, text: str) -> None:
    assert prison.render(text).startswith("error: ")


@pytest.mark.parametrize("text", sampled(lines(BOMBS), 30))
def test_what_runs_on_or_grows_is_stopped(prison: Prison, text: str) -> None:
    assert prison.render(text).startswith("error: ")


@pytest.mark.parametrize("text", sampled(lines(THROUGH), 15))
def test_lists_that_hold_one_another_are_not_gone_through(prison: Prison, text: str) -> None:
    assert prison.render(DOUBLED + text).startswith("error: ")


@pytest.mark.parametrize("text", lines(HASHED))
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
