"""``/metrics``, as Prometheus reads it, from the running service."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.bundle import Export
    from tests.edge.service import Service

ROW = [1.0] * 30
LINE = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)")


def series(service: Service) -> dict[tuple[str, str], float]:
    """(name, labels) → value."""
    answer = service.client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {}
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            found[match[1], match[2] or ""] = float(match[3])
    return found


def growth(before: dict, after: dict) -> dict:
    return {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}


def test_predictions_are_counted_by_model_version_and_status(service: Service):
    before = series(service)
    path = "/v1/models/mlp:predict"
    for rows in (1, 3):
        assert service.client.post(path, json={"instances": [ROW] * rows}).status_code == 200
    assert service.client.post(path, json={"instances": [[1.0]]}).status_code == 400
    content = iter([json.dumps({"instances": [ROW]}).encode()])  # chunked: the way through Flask
    assert service.client.post(path, content=content).status_code == 200
    grown = growth(before, series(service))
    labels = 'method="predict",model="mlp"'
    assert grown["edge_requests_total", f'{labels},status="200",version="2"'] == 3
    assert grown["edge_requests_total", f'{labels},status="400",version="2"'] == 1
    assert grown["edge_request_duration_seconds_count", f'{labels},version="2"'] == 4
    assert grown["edge_request_duration_seconds_sum", f'{labels},version="2"'] > 0
    assert grown["edge_inference_duration_seconds_count", 'model="mlp",version="2"'] == 3
    assert grown["edge_rows_total", 'model="mlp",version="2"'] == 5
    assert grown["edge_interpreter_cpu_seconds_total", 'model="mlp",version="2"'] > 0


def test_request_for_what_is_not_there_makes_no_series_of_its_own(service: Service):
    for name in ("nope", "never", "not"):
        service.client.post(f"/v1/models/{name}:predict", json={})
        service.client.get(f"/{name}")
    text = service.client.get("/metrics").text
    assert not re.search(r"nope|never|\"not\"", text)
    assert 'edge_requests_total{method="none",model="",status="404",version=""}' in text


def test_models_are_told_with_their_digests(service: Service, exports: dict[tuple[str, int], Export]):
    found = {labels for name, labels in series(service) if name == "edge_model_info"}
    assert len(found) == len(exports)
    for (model, version), export in exports.items():
        sha256 = json.loads(export.lite("int8").with_suffix(".json").read_text())["sha256"]
        assert any(f'model="{model}"' in f and f'version="{version}"' in f and sha256 in f for f in found)


def test_process_and_runtime_are_told(service: Service):
    found = series(service)
    assert 10e6 < found["process_resident_memory_bytes", ""] < 1e9
    assert found["process_cpu_seconds_total", ""] > 0
    assert ("edge_model_reloads_total", 'result="failed"') in found
    assert any(name == "edge_runtime_info" and "ai-edge-litert" in labels for name, labels in found)
