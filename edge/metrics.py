"""What ``GET /metrics`` tells Prometheus: requests, inferences, models, reloads, the worker's memory and CPU time.

Names follow Prometheus's conventions: base units, ``_total`` for what only grows, one ``_info`` of labels alone. A label
is taken from a model that is loaded, never from a request, so that nobody outside can make new series.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, InfoMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge.library import ModelLibrary
    from edge.runtime import LiteModel

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds. An invocation of the models here takes 2 µs to 1 ms, of a MobileNetV2 on a small device 100 ms.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    def __init__(self, library: ModelLibrary) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "model", "version")
        self._requests = Counter("edge_requests", "Requests answered.", (*labels, "status"), registry=self.registry)
        self._seconds = Histogram(
            "edge_request_duration_seconds",
            "From the request's head to its answer.",
            labels,
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._inference = Histogram(
            "edge_inference_duration_seconds",
            "Normalise, quantize, invoke and back, for all rows of a request.",
            ("model", "version"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._rows = Counter("edge_rows", "Rows predicted.", ("model", "version"), registry=self.registry)
        self.registry.register(_Models(library))
        ProcessCollector(registry=self.registry)  # process_resident_memory_bytes, process_cpu_seconds_total, …
        self._series: dict[tuple[str | int, ...], tuple[Any, ...]] = {}  # found again without prometheus_client's lock

    def request(self, method: str, model: LiteModel | None, status: int, seconds: float) -> None:
        key = (method, model.name, model.version, status) if model else (method, "", "", status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._requests.labels(*key), self._seconds.labels(*key[:3])
        series[0].inc()
        series[1].observe(seconds)

    def inference(self, model: LiteModel, rows: int, seconds: float) -> None:
        key = (model.name, model.version)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._inference.labels(*key), self._rows.labels(*key)
        series[0].observe(seconds)
        series[1].inc(rows)

    def page(self) -> bytes:
        return generate_latest(self.registry)


class _Models:
    """What the library knows, read when it is asked for."""

    def __init__(self, library: ModelLibrary) -> None:
        self._library = library

    def collect(self) -> Iterable[Any]:
        models = InfoMetricFamily("edge_model", "The models that are loaded.")
        for model in self._library.models():
            models.add_metric([], {"model": model.name, "version": str(model.version), "variant": model.variant, "sha256": model.sha256})  # fmt: skip
        yield models
        spent = CounterMetricFamily(
            "edge_interpreter_cpu_seconds",
            "CPU time inside the interpreter, on the requests' threads; what process_cpu_seconds has beyond it is the service's.",
            labels=["model", "version"],
        )
        for model in self._library.models():
            spent.add_metric([model.name, str(model.version)], model.interpreter_cpu_seconds)
        yield spent
        reloads = CounterMetricFamily("edge_model_reloads", "New files taken over, and refused.", labels=["result"])
        for result, number in self._library.reloads.items():
            reloads.add_metric([result], number)
        yield reloads
        runtime = {"runtime": self._library.runtime, "python": platform.python_version()}
        yield InfoMetricFamily("edge_runtime", "What runs the models.", runtime)
