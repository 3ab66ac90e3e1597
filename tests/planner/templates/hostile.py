"""Templates that escape from other sandboxes, or make other renderers hang or run out of memory."""

from __future__ import annotations

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
