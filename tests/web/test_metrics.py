"""``/metrics``, as Prometheus reads it, from the running page's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.web.conftest import StartApp


def series(address: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(name, labels) → value."""
    answer = httpx.get(f"{address}/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


def test_requests_are_counted_by_route_and_back_ends_by_status(
    start_app: StartApp, back_end: Callable[[bytes, float], str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    address = start_app(rest=back_end(b"{}", 0), edge=f"http://127.0.0.1:{free_port()}", artifacts=tmp_path)
    for place, status in (("serving", 200), ("serving", 200), ("edge", 502)):
        assert httpx.post(f"{address}/api/{place}/v1/models/mlp:predict", json={}).status_code == status
    found = series(address)
    assert found["web_requests_total", labels(route="predict", status="200")] == 2
    assert found["web_requests_total", labels(route="predict", status="502")] == 1
    assert found["web_request_duration_seconds_count", labels(route="predict")] == 3
    assert found["web_backend_duration_seconds_count", labels(backend="serving", status="200")] == 2
    assert found["web_backend_duration_seconds_count", labels(backend="edge", status="502")] == 1
    assert found["process_resident_memory_bytes", labels()] > 10e6


def test_text_of_a_request_makes_no_series(start_app: StartApp, tmp_path: Path) -> None:
    address = start_app(artifacts=tmp_path)
    for path in ("never-there", "a/b/c", "assets/never-there.js", "models/never-there", "api/never-there"):
        httpx.get(f"{address}/{path}")
    httpx.post(f"{address}/api/serving/v1/models/never-there:predict", json={})
    found = series(address)
    assert not [key for key in found if "never-there" in str(key)]
    assert found["web_requests_total", labels(route="none", status="404")] == 2
    assert found["web_requests_total", labels(route="assets", status="404")] == 1
