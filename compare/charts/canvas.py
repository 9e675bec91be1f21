"""A chart's sheet: sizes, colours and axes, and how a drawing becomes SVG text in the page's colours, and a PNG."""

from __future__ import annotations

import functools
import io
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Affine2D

from compare.charts import scales
from models.artifacts import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # the first start says that it looks for fonts

WIDTH = 440  # px; a column of the page has 360 on a phone and 540 on a screen
LINE = 19  # px, the height of a row
LABEL, TICK = 11, 10  # px, the sizes of text
LETTER = 0.61  # of the size: the width of a letter of the widest font that a page may take
PER_INCH = 72  # px; matplotlib counts in inches and points
PNG_SCALE = 2

PALETTE = Path(__file__).parent.parent / "palette.css"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'
STYLE: Any = {  # of the parameters that matplotlib names
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a $ in a name is a $
    "font.family": "DejaVu Sans",  # matplotlib's own, so that a PNG is the same everywhere
    "font.size": LABEL,
    "savefig.transparent": False,
}


def colours() -> dict[str, str]:
    """Name → "#rrggbb" on a light page, from ``palette.css``."""
    light = PALETTE.read_text().partition("@media")[0]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light))


INK, SOFT, GRID, PAPER, ACCENT = (colours()[name] for name in ("ink", "soft", "line", "paper", "accent"))


@dataclass(frozen=True)
class Chart:
    """``svg`` is for a page that has the palette; ``file`` is complete on its own."""

    name: str
    svg: Markup
    file: str
    png: bytes


class Canvas:
    """A figure of ``WIDTH`` × ``height`` px and one plot in it, within the margins (px)."""

    def __init__(self, height: float, *, left: float, right: float = 14, top: float = 8, bottom: float = 24) -> None:
        self.height, self.left, self.right, self.top, self.bottom = height, left, right, top, bottom
        self.figure = Figure(figsize=(WIDTH / PER_INCH, height / PER_INCH), dpi=PER_INCH)
        self.pixels = Affine2D().scale(1 / PER_INCH) + self.figure.dpi_scale_trans  # from the lower left corner
        self.axes = self.plot(top, height - bottom)

    def plot(self, top: float, bottom: float) -> Axes:
        """Axes between these heights (px from above), bare of everything: matplotlib's own ticks cost half of the time."""
        h = self.height
        axes = self.figure.add_axes(
            (self.left / WIDTH, 1 - bottom / h, (WIDTH - self.left - self.right) / WIDTH, (bottom - top) / h)
        )
        axes.set_axis_off()
        return axes

    def across(
        self, low: float, high: float, text: Callable[[float], str], *, log: bool, axes: Axes | None = None
    ) -> None:
        """The horizontal axis: its range, its grid and its figures."""
        axes = axes or self.axes
        axes.set_xscale("log" if log else "linear")
        axes.set_xlim(low, high)
        letters = max(len(text(low)), len(text(high))) + 2
        room = (WIDTH - self.left - self.right) / (letters * TICK * LETTER)
        values = scales.ticks(low, high, log=log, at_most=min(6, int(room)))
        axes.vlines(values, 0, 1, transform=axes.get_xaxis_transform(), color=GRID, linewidth=1, zorder=0)
        bottom = axes.get_position().y0 * self.height
        for value in values:
            x, _ = axes.transData.transform((value, axes.get_ylim()[0]))
            self.text(float(x), bottom - 6, text(value), colour=SOFT, size=TICK, ha="center", va="top")

    def up(self, low: float, high: float, text: Callable[[float], str], *, log: bool) -> None:
        """The vertical axis: its range, its grid and its figures."""
        axes = self.axes
        axes.set_yscale("log" if log else "linear")
        axes.set_ylim(low, high)
        values = scales.ticks(low, high, log=log, at_most=5)
        axes.hlines(values, 0, 1, transform=axes.get_yaxis_transform(), color=GRID, linewidth=1, zorder=0)
        for value in values:
            _, y = axes.transData.transform((axes.get_xlim()[0], value))
            self.text(self.left - 6, float(y), text(value), colour=SOFT, size=TICK, ha="right", va="center_baseline")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Of a point in data's units: px from the lower left corner."""
        px, py = self.axes.transData.transform((x, y))
        return float(px), float(py)

    def text(self, x: float, y: float, words: str, *, colour: str = INK, size: float = LABEL, **options: Any) -> None:
        """At px from the lower left corner."""
        self.figure.text(x, y, words, transform=self.pixels, color=colour, fontsize=size, **options)

    def leader(self, x: float, y: float, end: float, level: float) -> None:
        """A thin line between two places, px from the lower left corner."""
        self.figure.add_artist(Line2D([x, end], [y, level], transform=self.pixels, color=SOFT, linewidth=0.7))

    def legend(self, entries: Iterable[tuple[dict[str, Any], str]]) -> None:
        """One line above the plot: a marker (``scatter``'s options) and its meaning, entry by entry."""
        x, y = 6.0, self.height - LABEL
        for marker, words in entries:
            self.figure.add_artist(Line2D([x], [y], transform=self.pixels, linestyle="", **marker))
            self.text(x + 8, y, words, colour=SOFT, size=TICK, va="center_baseline")
            x += 8 + width(words, TICK) + 14

    def finish(self, name: str, title: str) -> Chart:
        """The chart, the same bytes for the same data. ``title`` says to those who cannot see it what it shows."""
        with matplotlib.rc_context({"svg.hashsalt": name}):
            drawn, png = io.StringIO(), io.BytesIO()
            self.figure.patch.set_visible(False)
            self.figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
            self.figure.patch.set_visible(True)
            self.figure.savefig(
                png,
                format="png",
                dpi=PNG_SCALE * PER_INCH,
                facecolor=PAPER,
                metadata={"Software": None},
                pil_kwargs={"compress_level": 4},
            )
        inner = dress(drawn.getvalue())
        head = f'viewBox="0 0 {WIDTH} {self.height:g}" role="img" aria-label="{escape(title)}"'
        style = f"{PALETTE.read_text()}text {{ font-family: {FONT}; font-variant-numeric: tabular-nums; }}"
        return Chart(
            name,
            Markup(f'<svg class="chart" {head}>{inner}</svg>'),
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{WIDTH}" '
            f'height="{self.height:g}" {head}><style>{style}</style>'
            f'<rect width="100%" height="100%" style="fill: var(--paper)"/>{inner}</svg>\n',
            png.getvalue(),
        )


def chart(draw: Callable[..., Canvas | None]) -> Callable[..., Chart | None]:
    """Of a function that draws, one that is also given ``name`` and ``title``, and gives a Chart; None: nothing to draw."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, name: str, title: str, **options: Any) -> Chart | None:
        with matplotlib.rc_context(STYLE):
            canvas = draw(*arguments, **options)
            return canvas.finish(name, title) if canvas else None

    return drawn


def rows(labels: Sequence[str], columns: Mapping[str, Sequence[str]], *, legend: bool = False) -> Canvas:
    """A canvas with a row for each label, the first on top, and columns of figures on its right under their names."""
    left = max(70.0, width(max(labels, key=len), LABEL) + 14)
    widths = [max(width(word, LABEL) for word in (name, *words)) + 12 for name, words in columns.items()]
    top = 6 + (LINE if legend else 0) + (LINE if any(columns) else 0)
    height = top + LINE * len(labels) + 24
    canvas = Canvas(height, left=left, right=sum(widths) + 6, top=top)
    canvas.axes.set_ylim(len(labels) - 0.5, -0.5)
    for i, label in enumerate(labels):
        canvas.text(left - 10, height - top - LINE * (i + 0.5), label, ha="right", va="center_baseline")
    x = WIDTH - canvas.right
    for (name, words), room in zip(columns.items(), widths, strict=True):
        x += room
        canvas.text(x, height - top + LINE / 2, name, colour=SOFT, size=TICK, ha="right", va="center_baseline")
        for i, word in enumerate(words):
            y = height - top - LINE * (i + 0.5)
            canvas.text(x, y, word, ha="right", va="center_baseline")
    return canvas


def width(words: str, size: float) -> float:
    """px that a text takes at most."""
    return len(words) * size * LETTER


def dress(drawn: str) -> str:
    """What matplotlib wrote, without its head, its fonts and what is only a name; its colours as those of the palette."""
    inner = drawn[drawn.index("<svg") :].partition(">")[2].rpartition("</svg>")[0]
    for useless in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style.*?</style>", r"<defs>\s*</defs>"):
        inner = re.sub(useless, "", inner, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', inner))
    variables = {value: f"var(--{name})" for name, value in colours().items()}

    def tag(found: re.Match[str]) -> str:
        text = re.sub(r' id="([^"]*)"', lambda m: m.group() if m.group(1) in used else "", found.group())
        text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
        text = re.sub(r"#[0-9a-f]{6}", lambda m: variables.get(m.group(), m.group()), text)
        text = re.sub(r"(\.\d\d)\d+", r"\1", text)
        return re.sub(r"\s+", " ", text)

    return re.sub(r">\s+<", "><", re.sub(r"<[^>]*>", tag, inner)).strip()


def write(folder: Path, charts: Iterable[Chart]) -> None:
    """Every chart as ``<name>.svg`` and ``<name>.png``; the folder holds these and nothing else."""
    with write_whole(folder) as temporary:
        temporary.mkdir()
        for drawn in charts:
            (temporary / f"{drawn.name}.svg").write_text(drawn.file)
            (temporary / f"{drawn.name}.png").write_bytes(drawn.png)
