"""What ``GET /metrics`` tells Prometheus: requests, what the back ends took of them, the worker's memory and CPU time.

A label is a route's name or a back end's, never text of a request, so that nobody outside can make new
series. There is one worker, so its registry is the whole server's.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds. The page's own files take 1 ms, a proxied prediction 2 to 20 ms, the proxies' limit is 10 s.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("web_requests", "Requests answered.", ("route", "status"), registry=self.registry)
        self._seconds = Histogram(
            "web_request_duration_seconds",
            "From the request's head to its answer.",
            ("route",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._back_end = Histogram(
            "web_backend_duration_seconds",
            "Waiting for the server or the device, by the status that the page was given.",
            ("backend", "status"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)  # process_resident_memory_bytes, process_cpu_seconds_total, …

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def back_end(self, name: str, status: int, seconds: float) -> None:
        self._back_end.labels(name, status).observe(seconds)

    def page(self) -> bytes:
        return generate_latest(self.registry)
