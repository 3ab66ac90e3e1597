"""Charts as inline SVG, without script. The style sheet gives the colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil

_ROW = 26
_WIDTH = 640
_LABEL = 190
_VALUE = 110
_CHARACTER = 8.5
"""Width of a chart character in the style sheet's size."""


def bars(values: Sequence[tuple[str, float, str]], title: str, kind: str = "a") -> str:
    """Return horizontal bars of (label, value, value as text). `kind` is a colour: a, b or bad."""
    top = max((value for _, value, _ in values), default=0) or 1
    height = _ROW * len(values) + 6
    parts = [_open(height, title)]
    for number, (label, value, text) in enumerate(values):
        y = number * _ROW + 4
        width = (_WIDTH - _LABEL - _VALUE) * value / top
        parts.append(f'<text class="label" x="{_LABEL - 8}" y="{y + 14}" text-anchor="end">{_cut(label, 28)}</text>')
        parts.append(f'<rect class="bar {kind}" x="{_LABEL}" y="{y}" width="{max(width, 1):.1f}" height="18" rx="2"/>')
        parts.append(f'<text class="value" x="{_LABEL + max(width, 1) + 6:.1f}" y="{y + 14}">{escape(text)}</text>')
    return "".join((*parts, "</svg>"))


def columns(values: Sequence[tuple[str, float, str]], title: str, kind: str = "a") -> str:
    """Return upright columns of (label, value, value as text), in order."""
    top = max((value for _, value, _ in values), default=0) or 1
    height, floor, head = 210, 166, 26
    step = min(90.0, (_WIDTH - 10) / max(1, len(values)))
    # If columns are narrower than the longest text, only each n-th column has its text, uncut.
    widest = _CHARACTER * max((len(part) for label, _, text in values for part in (label, text)), default=0)
    each = max(1, ceil(min(widest + 8, _WIDTH / 2) / step))
    parts = [_open(height, title), f'<line class="axis" x1="0" y1="{floor}" x2="{_WIDTH}" y2="{floor}"/>']
    for number, (label, value, text) in enumerate(values):
        x = 5 + number * step
        tall = (floor - head) * value / top
        middle = x + step / 2
        parts.append(
            f'<rect class="bar {kind}" x="{x + step * 0.1:.1f}" y="{floor - tall:.1f}" width="{step * 0.8:.1f}" '
            f'height="{tall:.1f}" rx="2"><title>{escape(f"{label}: {text}")}</title></rect>'
        )
        if number % each == 0:
            parts.append(_text("label", label, middle, floor + 18))
            if value:
                nearby = values[max(0, number - each // 2) : number + each // 2 + 1]
                above = (floor - head) * max(one for _, one, _ in nearby) / top
                parts.append(_text("value", text, middle, floor - above - 6))
    return "".join((*parts, "</svg>"))


def _text(kind: str, text: str, middle: float, y: float) -> str:
    shown = _cut(text, int(_WIDTH / 2 / _CHARACTER))
    x = max(middle, len(shown) * _CHARACTER / 2)
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{shown}</text>'


def share(parts: Sequence[tuple[str, int, str]], title: str) -> str:
    """Return one bar of parts (label, count, colour kind). Each part is visible."""
    total = sum(count for _, count, _ in parts) or 1
    drawn = [_open(30, title)]
    x = 0.0
    for label, count, kind in parts:
        if not count:
            continue
        width = _WIDTH * count / total
        drawn.append(
            f'<rect class="bar {kind}" x="{x:.1f}" y="4" width="{max(width, 2):.1f}" height="22">'
            f"<title>{escape(f'{label}: {count:,}')}</title></rect>"
        )
        x += width
    return "".join((*drawn, "</svg>"))


def _open(height: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">'
    )


def _cut(text: str, length: int) -> str:
    return escape(text if len(text) <= length else f"{text[: length - 1]}…")
