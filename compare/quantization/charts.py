"""The quantization report's own charts, on the sheet of ``compare/charts``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compare import units
from compare.charts import comparison, scales
from compare.charts.canvas import ACCENT, INK, SOFT, TICK, WIDTH, Canvas, Chart, chart, width
from compare.quantization.recommend import invoke_us
from compare.quantization.tables import by_source, short, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_ERROR = 1e-5  # standard deviations: where a tensor without any error stands on the logarithmic axis
FEW = 40  # tensors, up to which each has a dot


def draw(document: dict[str, Any]) -> dict[str, Chart]:
    """Every chart of the report by its name: ``latency-<model>``, ``size-``, ``calibration-``, ``graph-<model>-<variant>``."""
    found: list[Chart | None] = []
    for model in document["models"]:
        m = model["model"]
        timed = [(r["variant"], t) for r in model["variants"] for t in r["latency"] if t["call"] == "predict"]
        timed += [(f"TF, {'all cores' if t['threads'] is None else '1 thread'}", t) for t in model["tensorflow"]]
        times = [(name, {"p50_ms": t["p50_us"] / 1e3, "p95_ms": t["p95_us"] / 1e3}) for name, t in timed if t["p50_us"]]
        found.append(comparison.latency(times, name=f"latency-{m}", title=f"{m}: predict() of every variant"))
        sizes = [(r["variant"], float(r["bytes"]), invoke_us(r)) for r in model["variants"] if r["bytes"]]
        sizes = [(variant, size, time) for variant, size, time in sizes if time is not None]
        title = f"{m}: file size against the time of one invocation"
        found.append(comparison.size_against_time(sizes, units.microseconds, name=f"size-{m}", title=title))
        title = f"{m}: error over the number of calibration rows"
        found.append(calibration(model["calibration"] or [], name=f"calibration-{m}", title=title))
        for layers in model["layers"]:
            title = f"{m} {layers['variant']}: error of each tensor in the order of execution"
            found.append(along_the_graph(layers, name=f"graph-{m}-{layers['variant']}", title=title))
    return {drawn.name: drawn for drawn in found if drawn}


@chart
def calibration(points: Sequence[dict[str, Any]]) -> Canvas | None:
    """Error in steps of the output (up) over the rows that int8 was calibrated with (across), both logarithmic.

    Rows of another source than the curve's stand beside it, with their name.
    """
    measured = [point for point in points if point["error_in_scales"]]
    right, wrong = by_source(measured) if measured else ([], [])
    if len(right) < 2:
        return None
    canvas = Canvas(190, left=62, top=20)
    canvas.across(*scales.log_range([point["rows"] for point in measured]), "{:g}".format, log=True)
    canvas.up(*scales.log_range([point["error_in_scales"] for point in measured]), "{:.3g}".format, log=True)
    canvas.axes.plot([p["rows"] for p in right], [p["error_in_scales"] for p in right], color=ACCENT, linewidth=1.5)
    at = [(p["rows"], p["error_in_scales"]) for p in measured]
    canvas.axes.plot(*zip(*at, strict=True), linestyle="", clip_on=False, **comparison.DOT)
    for point in measured:
        x, y = canvas.place(point["rows"], point["error_in_scales"])
        if point in wrong:
            told = f"{point['source']}: {steps(point['error_in_scales'])}"
            canvas.text(x - 9, y, told, ha="right", va="center_baseline")
        else:
            canvas.text(x, y + 8, steps(point["error_in_scales"]), ha="center")
    return canvas


@chart
def along_the_graph(found: dict[str, Any]) -> Canvas | None:
    """The error of every tensor in the order of execution, the first jump marked."""
    tensors = found["tensors"]
    if len(tensors) < 2:
        return None
    errors = [max(t["error"], NO_ERROR) for t in tensors]
    canvas = Canvas(190, left=62, right=20, top=20, bottom=40)
    canvas.up(*scales.log_range(errors), lambda v: f"{100 * v:g} %", log=True)
    canvas.axes.set_xlim(-0.15, len(tensors) - 0.85)
    marker: dict[str, Any] = {"marker": "o", "markersize": 4.5} if len(tensors) <= FEW else {}
    canvas.axes.plot(range(len(tensors)), errors, color=ACCENT, linewidth=1.5, clip_on=False, **marker)
    if (jump := found["first_jump"]) is not None:
        canvas.axes.axvline(jump, color=INK, linewidth=1)
    for rank, number in enumerate(found["ranking"][:3], 1):
        x, y = canvas.place(number, errors[number])
        canvas.axes.plot([number], [errors[number]], linestyle="", clip_on=False, **comparison.DOT)
        canvas.text(x, y + 7, str(rank), ha="center")
    first, last = short(tensors[0]), short(tensors[-1])
    apart = width(first, TICK) + width(last, TICK) + 12 < WIDTH - canvas.left - canvas.right
    canvas.text(canvas.left, 22, first, colour=SOFT, size=TICK)
    canvas.text(WIDTH - canvas.right, 22 if apart else 8, last, colour=SOFT, size=TICK, ha="right")
    return canvas
