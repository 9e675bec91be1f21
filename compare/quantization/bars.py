"""The ratios that are promised of speed, each against its bar: printed and drawn, never asserted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compare.quantization.recommend import times_as_long, timing

if TYPE_CHECKING:
    from collections.abc import Sequence

TENSORFLOW_BAR = 5.0  # times: float32 on LiteRT against the TensorFlow call, raw units in and out
INT8_BAR = 1.0  # times: int8 against float32, the bare invoke() …
INT8_MODELS = ("cnn", "mobilenet_v2")  # … of the models whose work is mostly convolutions
SERVICE_BAR_US = 400.0  # CPU time of the edge service per request beyond the interpreter's own


def bars(models: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """``[{"model", "what", "value", "unit", "bar", "holds"}]``; ``bar`` and ``holds`` None where nothing is promised."""
    found = []
    for model in models:
        rows = {row["variant"]: row for row in model["variants"]}
        float32, int8 = (rows.get(name, {"latency": []}) for name in ("float32", "int8"))
        tensorflow = min((t for t in model["tensorflow"] if t["p50_us"]), key=lambda t: t["p50_us"], default=None)
        found += [
            _at_least(
                model,
                "float32 against TensorFlow",
                times_as_long(tensorflow, timing(float32, "predict")),
                None
                if model["stand_in"]
                else TENSORFLOW_BAR,  # where arithmetic is all, a runtime's fixed costs do not show
            ),
            _at_least(model, "int8 against TensorFlow", times_as_long(tensorflow, timing(int8, "predict")), None),
            _at_least(
                model,
                "int8 against float32",
                times_as_long(timing(float32, "invoke"), timing(int8, "invoke")),
                INT8_BAR if model["model"] in INT8_MODELS else None,
            ),
        ]
        if service := model["service"]:
            own = service["own_cpu_us"]
            holds = None if own is None else own <= SERVICE_BAR_US
            found.append(_bar(model, "edge service beyond the interpreter's own", own, "µs", SERVICE_BAR_US, holds))
            least = service["least_own_cpu_us"]
            found.append(_bar(model, "edge service beyond the interpreter's own, least", least, "µs", None, None))
    return [bar for bar in found if bar["value"] is not None]


def _at_least(model: dict[str, Any], what: str, value: float | None, bar: float | None) -> dict[str, Any]:
    return _bar(model, what, value, "×", bar, None if bar is None or value is None else round(value, 2) >= bar)


def _bar(
    model: dict[str, Any], what: str, value: float | None, unit: str, bar: float | None, holds: bool | None
) -> dict[str, Any]:
    return {"model": model["model"], "what": what, "value": value, "unit": unit, "bar": bar, "holds": holds}
