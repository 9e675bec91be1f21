"""``reports/lite.html``: the report as one file that opens without network, in the dress of ``reports/index.html``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare import report
from compare.quantization import tables
from compare.quantization.recommend import timing
from models.artifacts import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compare.charts.canvas import Chart


def write(folder: Path, document: dict[str, Any]) -> Path:
    """Render into ``folder/lite.html``, with its charts in ``folder/lite-charts``, and have the comparison's report beside
    it link here; the path."""
    from compare.charts import canvas  # matplotlib takes a second or more, which only a page is worth
    from compare.quantization import charts

    drawn = charts.draw(document)
    canvas.write(folder / "lite-charts", drawn.values())
    path = folder / "lite.html"
    with write_whole(path) as temporary:
        temporary.write_text(render(document, drawn, comparison=(folder / "index.html").is_file()))
    report.write_again(folder)
    return path


def render(document: dict[str, Any], drawn: Mapping[str, Chart], *, comparison: bool = False) -> str:
    """``drawn``: the charts by name. ``comparison``: whether there is a reports/index.html to link to."""
    environment = report.templates(Path(__file__).parent)
    environment.filters["percent"] = tables.percent
    return environment.get_template("lite.html.j2").render(
        document=document,
        own=[model for model in document["models"] if not model["stand_in"]],
        comparison=comparison,
        drawn=drawn,
        tables=tables,
        timing=timing,
        headline=headline(document["bars"]),
        signs=report.SIGNS,
    )


def headline(bars: list[dict[str, Any]]) -> str:
    """The first sentence: whether the promises of speed hold here."""
    promised = [bar for bar in bars if bar["holds"] is not None]
    held = sum(bar["holds"] for bar in promised)
    if not promised:
        return "What each .tflite variant costs"
    if held == len(promised):
        return f"All {held} promises of speed hold on this machine"
    return f"{held} of {len(promised)} promises of speed hold on this machine"
