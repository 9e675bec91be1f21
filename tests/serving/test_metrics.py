"""Metrics of a running server: TF Serving's names, labels, buckets and rules of counting, and our own per version."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from serving.client.errors import ClientError
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.local import local_server
from tests.serving import prometheus
from tests.serving.deadlines import wait_for
from tests.serving.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving.local import LocalServer
    from tests.serving.prometheus import Page

PATH = "/monitoring/prometheus/metrics"
REQUESTS = ":tensorflow:serving:request_count"
LATENCY = ":tensorflow:serving:request_latency"
ROWS = {"features": np.ones((3, 30), np.float32)}


@pytest.fixture(scope="module")
def monitored(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Both versions of the mlp, with metrics."""
    folder = tmp_path_factory.mktemp("monitored")
    models = folder / "models.config"
    models.write_text(
        f'model_config_list {{ config {{ name: "mlp" base_path: "{repository_folder / "mlp"}" '
        'model_platform: "tensorflow" model_version_policy { all {} } } }'
    )
    config = folder / "monitoring.config"
    config.write_text("prometheus_config { enable: true }")
    with local_server(models, engine="litert", flags=(f"--monitoring_config_file={config}",)) as running:
        yield running


def ask(running: LocalServer, path: str = PATH, method: str = "GET") -> httpx.Response:
    return httpx.request(method, f"http://{running.rest_address}{path}")


def read(running: LocalServer, path: str = PATH) -> Page:
    answer = ask(running, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return prometheus.parse(answer.text)


def predict(running: LocalServer, **which: int) -> None:
    """Once by gRPC and once by REST."""
    with GrpcClient(running.grpc_address) as grpc, RestClient(running.rest_address) as rest:
        grpc.predict("mlp", ROWS, **which)
        rest.predict("mlp", ROWS, **which)


def test_page_has_tf_servings_series_labels_and_buckets(monitored):
    predict(monitored)
    page = read(monitored)
    assert page[LATENCY].kind == "histogram"
    samples = [dict(labels) for name, labels in page[LATENCY].samples if name == f"{LATENCY}_bucket"]
    series = [labels for labels in samples if (labels["API"], labels["entrypoint"]) == ("Predict", "GRPC")]
    assert series[0].keys() == {"model_name", "API", "entrypoint", "le"}
    assert [labels["le"] for labels in series] == [*(f"{10 * 1.8**n:g}" for n in range(33)), "+Inf"]
    assert page.value(f"{LATENCY}_count", model_name="mlp", API="predict", entrypoint="REST") >= 1
    runtime = ":tensorflow:serving:runtime_latency"
    assert page.value(f"{runtime}_count", model_name="mlp", API="Predict", runtime="TF1") >= 2
    assert 0 < page.value(f"{runtime}_sum") <= page.value(f"{LATENCY}_sum")
    assert page.value(":tensorflow:core:graph_runs") >= 2
    assert page.value(":tensorflow:core:graph_run_time_usecs") > 0
    warm_up = ":tensorflow:serving:model_warmup_latency"
    assert page.value(f"{warm_up}_count", status="OK") == 2
    assert {path.rsplit("/", 1)[1] for path in page.label_values(warm_up, "model_path")} == {"1", "2"}
    assert page.value(":tensorflow:cc:saved_model:load_attempt_count", status="success") == 2


def test_requests_are_counted_by_the_name_of_their_code(monitored):
    before = read(monitored)
    with GrpcClient(monitored.grpc_address) as grpc:
        for model, signature in (("nosuch", ""), ("mlp", "nosuch")):
            with pytest.raises(ClientError):
                grpc.predict(model, ROWS, signature=signature)
    url = f"http://{monitored.rest_address}/v1/models"
    assert httpx.post(f"{url}/nosuch:predict", content=b'{"instances": [1]}').status_code == 404
    assert httpx.post(f"{url}/mlp:predict", content=b"{").status_code == 400
    assert httpx.post(f"{url}/mlp:nosuch", content=b"{}").status_code == 400
    after = read(monitored)

    def more(**labels: str) -> float:
        return after.value(REQUESTS, **labels) - before.value(REQUESTS, **labels)

    assert more(model_name="nosuch", status="NOT_FOUND") == 2
    assert more(model_name="mlp", status="FAILED_PRECONDITION") == 1
    assert more(model_name="mlp", status="INVALID_ARGUMENT") == 1
    assert more(model_name="", status="INVALID_ARGUMENT") == 1
    assert after.value(f"{LATENCY}_count", model_name="nosuch") == 0  # only what was answered has a latency
    ours = "model_server_requests_total"
    assert after.value(ours, model="nosuch", version="", code="NOT_FOUND", protocol="rest") >= 1
    assert after.value(ours, model="mlp", version="2", code="FAILED_PRECONDITION") == 0  # found no signature to run
    assert after.value(ours, model="mlp", code="FAILED_PRECONDITION", protocol="grpc") >= 1


def test_status_counts_by_rest_and_not_by_grpc(monitored):
    with GrpcClient(monitored.grpc_address) as grpc, RestClient(monitored.rest_address) as rest:
        before = read(monitored)
        grpc.status("mlp")
        grpc.metadata("mlp")
        between = read(monitored)
        rest.status("mlp")
        after = read(monitored)
    ok = {"model_name": "mlp", "status": "OK"}
    assert between.value(REQUESTS, **ok) == before.value(REQUESTS, **ok)
    assert after.value(REQUESTS, **ok) == before.value(REQUESTS, **ok) + 1
    by_rest = {"model_name": "mlp", "API": "", "entrypoint": "REST"}
    assert after.value(f"{LATENCY}_count", **by_rest) == before.value(f"{LATENCY}_count", **by_rest) + 1


def test_our_metrics_name_the_version_and_divide_its_time(monitored):
    before = read(monitored)
    for _ in range(3):
        predict(monitored, version=1)
    after = read(monitored)
    for protocol in ("grpc", "rest"):
        labels = {"model": "mlp", "version": "1", "code": "OK", "protocol": protocol}
        name = "model_server_requests_total"
        assert after.value(name, **labels) - before.value(name, **labels) == 3
    seconds, which = "model_server_request_seconds", {"model": "mlp", "version": "1", "signature": "serving_default"}
    parts = {phase: after.value(f"{seconds}_sum", phase=phase, **which) for phase in ("total", "queue", "compute")}
    assert parts["compute"] > 0
    assert parts["queue"] + parts["compute"] < parts["total"]
    assert after.value("model_server_loaded_versions", model="mlp", engine="litert") == 2
    assert after.value("model_server_in_flight") == 0
    assert after.value("process_resident_memory_bytes") > 10 << 20
    assert after.value("process_cpu_seconds_total") > 0


@pytest.mark.slow
def test_no_request_of_many_threads_is_missed(monitored):
    before = read(monitored)

    def work() -> None:
        for _ in range(20):
            predict(monitored)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = read(monitored)
    for labels in ({"API": "Predict", "entrypoint": "GRPC"}, {"API": "predict", "entrypoint": "REST"}):
        name = f"{LATENCY}_count"
        assert after.value(name, model_name="mlp", **labels) - before.value(name, model_name="mlp", **labels) == 120
    seconds = "model_server_request_seconds_count"
    assert after.value(seconds, version="2", phase="queue") - before.value(seconds, version="2", phase="queue") == 240


@pytest.mark.slow
def test_batches_are_runs_and_their_requests_queue(repository_folder, tmp_path):
    monitoring, batching = tmp_path / "monitoring.config", tmp_path / "batching.config"
    monitoring.write_text("prometheus_config { enable: true }")
    batching.write_text("max_batch_size { value: 4 } batch_timeout_micros { value: 2000 } allowed_batch_sizes: 4")
    flags = ("--enable_batching", f"--batching_parameters_file={batching}", f"--monitoring_config_file={monitoring}")
    with local_server(repository_folder / "models.config", engine="litert", flags=flags) as running:
        predict(running)  # one after the other: three rows and one of padding each
        page = read(running)
    session = ":tensorflow:serving:batching_session:"
    assert page.value(f"{session}wrapped_run_count") == page.value(":tensorflow:core:graph_runs") == 2
    assert page.value(f"{session}input_batch_size_sum") == 6
    assert page.value(f"{session}processed_batch_size_sum") == 8
    assert page.value(f"{session}padding_size_sum", execution_batch_size="4") == 2
    assert page.value(f"{session}queuing_latency_count") == 2
    assert page.value(f"{session}queuing_latency_sum") >= 4000  # microseconds
    assert page.value("model_server_request_seconds_sum", model="mlp", phase="queue") >= 0.004
    assert page.value(":tensorflow:core:graph_run_time_usecs") > 0


def test_names_from_clients_are_escaped_and_do_not_fill_the_memory(monitored):
    odd = 'a"b\\c\nd{},é'
    with GrpcClient(monitored.grpc_address) as grpc:
        for name in (odd, *(f"unknown-{number}" for number in range(150))):
            with pytest.raises(ClientError):
                grpc.predict(name, ROWS)
    page = read(monitored)
    names = page.label_values(REQUESTS, "model_name")
    assert odd in names
    assert 100 <= len(names) <= 103
    assert page.value(REQUESTS, model_name="(other)", status="NOT_FOUND") >= 50
    predict(monitored)
    assert read(monitored).value(REQUESTS, model_name="mlp", status="OK") > page.value(
        REQUESTS, model_name="mlp", status="OK"
    )


def test_page_is_there_for_post_and_not_with_a_query(monitored):
    assert ask(monitored, method="POST").text.startswith("# HELP :tensorflow:")
    refused = ask(monitored, f"{PATH}?x=1")
    assert (refused.status_code, refused.text) == (400, f"Unexpected path: {PATH}?x=1. Should be {PATH}")


def test_path_is_the_configs_and_series_of_an_unloaded_version_go(serve, add_version, base, tmp_path):
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config { enable: true path: "/metrics" }')
    add_version(1)
    running = serve("latest { num_versions: 1 }", f"--monitoring_config_file={config}")
    assert ask(running).status_code == 404
    predict(running)
    assert read(running, "/metrics").value("model_server_request_seconds_count", version="1", phase="total") == 2
    add_version(2)
    wait_for(
        lambda: read(running, "/metrics").value("model_server_loaded_versions", version="1") == 0, "version 1 unloaded"
    )
    predict(running)
    page = read(running, "/metrics")
    assert page.value("model_server_loaded_versions", model="mlp", version="2") == 1
    assert page.label_values("model_server_request_seconds", "version") == {"2"}
    assert page.value(REQUESTS, model_name="mlp", status="OK") >= 4  # TF Serving's have no version, and stay
    broken = base / "3"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no model")
    failed = ":tensorflow:cc:saved_model:load_attempt_count"
    wait_for(lambda: read(running, "/metrics").value(failed, status="fail") >= 1, "a failed load")


def test_without_metrics_there_is_no_page(server, serve, add_version, tmp_path):
    assert ask(server).status_code == 404
    config = tmp_path / "monitoring.config"
    config.write_text("prometheus_config { enable: false }")
    add_version(1)
    assert ask(serve("all {}", f"--monitoring_config_file={config}")).status_code == 404


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read: No such file or directory; check the path"),
        ("prometheus_config { nope", "is no MonitoringConfig in text format"),
        ('prometheus_config { enable: true path: "metrics" }', "the path 'metrics' cannot be asked for"),
    ],
)
def test_bad_config_is_one_sentence(text, sentence, base, tmp_path):
    config = tmp_path / "monitoring.config"
    if text is not None:
        config.write_text(text)
    line = refusal(f"--model_base_path={base}", "--rest_api_port=1", f"--monitoring_config_file={config}")
    assert line.startswith("error: ")
    assert sentence in line
