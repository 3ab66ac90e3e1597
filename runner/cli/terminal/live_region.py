"""A picture at a terminal's end, redrawn in place. Printed text appears above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.base.visible import visible
from runner.cli.terminal.printing import write_drawn

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_ERASE_BELOW = "\x1b[J"


class LiveRegion:
    """The picture. It fits the window and is erased whole, even after a resize.

    The cursor stays visible below it, so a process that ends at once leaves a working terminal.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._widths: list[int] = []
        self._drawn = ""

    def show(self, picture: RenderableType) -> None:
        """Draw a picture in place of the last one."""
        from rich.segment import Segment, SegmentLines  # noqa: PLC0415

        lines = self.console.render_lines(picture, pad=False)[: max(1, self.console.height - 1)]
        with self.console.capture() as drawn:
            self.console.print(SegmentLines(lines, new_lines=True), end="")
        self._write(self._erased() + drawn.get(), [Segment.get_line_length(line) for line in lines], drawn.get())

    def print(self, text: str) -> None:
        """Print text above the picture, for good."""
        self._write(f"{self._erased()}{visible(text)}\n{self._drawn}", self._widths, self._drawn)

    def clear(self) -> None:
        """Erase the picture."""
        self._write(self._erased(), [], "")

    def _erased(self) -> str:
        """Return the codes that erase the picture. A narrower window has wrapped its lines."""
        width = max(1, self.console.width)
        lines = sum(max(1, -(-cells // width)) for cells in self._widths)
        return f"\r\x1b[{lines}A{_ERASE_BELOW}" if lines else ""

    def _write(self, text: str, widths: list[int], drawn: str) -> None:
        """Write, and record the picture's widths even if Ctrl-C interrupts."""
        try:
            write_drawn(self.console.file, text)
        finally:
            self._widths, self._drawn = widths, drawn
