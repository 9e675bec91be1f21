"""The running service: its answers, its errors, its start and stop."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import psutil
import pytest

from edge.runtime import LiteModel
from tests.conftest import is_gone, pick_free_port
from tests.edge.service import COMMAND, Service, call_edge, run_edge, start_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from export.bundle import Export

MODELS = ["mlp", "cnn", "lstm", "transformer"]
LIMIT = 16 << 20  # bytes of a body


def first_rows(export: Export, rows: int) -> dict[str, np.ndarray]:
    return {name: values[:rows] for name, values in export.evidence.cases()[0].inputs.items()}


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("model", MODELS)
def test_predict_in_both_formats_gives_the_file_s_own_answers(
    service: Service, exports: dict[tuple[str, int], Export], model: str, rows: int
):
    export = exports[model, 2]
    inputs = first_rows(export, rows)
    expected = LiteModel(export.lite("int8")).predict(inputs)
    ((name, values),) = inputs.items()
    ((output, answers),) = expected.items()
    path = f"/v1/models/{model}:predict"
    for _ in range(2):
        by_row = service.client.post(path, json={"instances": values.tolist()}).json()
        np.testing.assert_array_equal(np.asarray(by_row["predictions"], np.float32), answers)
    named = service.client.post(path, json={"instances": [{name: row} for row in values.tolist()]}).json()
    assert named == by_row
    by_column = service.client.post(path, json={"inputs": {name: values.tolist()}}).json()
    assert by_column == {"outputs": by_row["predictions"]}
    assert service.client.post(path, json={"inputs": values.tolist()}).json() == by_column
    assert output == exports[model, 2].spec.outputs[0].name


def test_predict_of_a_named_version_answers_from_that_file(service: Service, exports: dict[tuple[str, int], Export]):
    inputs = first_rows(exports["cnn", 2], 3)
    body = {"inputs": {name: values.tolist() for name, values in inputs.items()}}
    answers = {}
    for version in (1, 2):
        answer = service.client.post(f"/v1/models/cnn/versions/{version}:predict", json=body).json()["outputs"]
        (expected,) = LiteModel(exports["cnn", version].lite("int8")).predict(inputs).values()
        np.testing.assert_array_equal(np.asarray(answer, np.float32), expected)
        answers[version] = answer
    assert service.client.post("/v1/models/cnn:predict", json=body).json()["outputs"] == answers[2] != answers[1]


def test_listing_names_every_model_version_and_file(service: Service, exports: dict[tuple[str, int], Export]):
    listed = {entry["name"]: entry for entry in service.client.get("/v1/models").json()["models"]}
    assert {(name, v["version"]) for name, entry in listed.items() for v in entry["versions"]} == set(exports)
    for (name, version), export in exports.items():
        assert listed[name]["variant"] == "int8"
        assert listed[name]["default_version"] == max(v for n, v in exports if n == name)
        (found,) = (v for v in listed[name]["versions"] if v["version"] == version)
        described = json.loads(export.lite("int8").with_suffix(".json").read_text())
        assert (found["sha256"], found["bytes"]) == (described["sha256"], described["bytes"])
        # Raw units and dtypes, as the SavedModel's own signature.
        for side, tensors in (("inputs", export.spec.inputs), ("outputs", export.spec.outputs)):
            assert [(t["name"], t["dtype"], t["shape"]) for t in found[side]] == [
                (t.name, t.dtype, list(t.shape)) for t in tensors
            ]


def test_health_and_status_in_tf_serving_s_form(service: Service):
    health = service.client.get("/healthz").json()
    assert (health["status"], health["broken_versions"]) == ("ok", 0)
    assert health["runtime"].startswith("ai-edge-litert ")
    states = service.client.get("/v1/models/mlp").json()["model_version_status"]
    assert [(s["version"], s["state"], s["status"]["error_code"]) for s in states] == [
        ("2", "AVAILABLE", "OK"),
        ("1", "AVAILABLE", "OK"),
    ]


IMAGE = json.dumps([[[0.0]] * 8] * 8)
BAD_BODIES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "JSON Parse error: The document is empty"),
    "no JSON": ("{", "JSON Parse error: "),
    "no UTF-8": (b"\xff\xfe", "JSON Parse error: not UTF-8"),
    "too deep": ("[" * 100_000, "JSON Parse error: "),
    "a list": ("[1]", "the document is a list"),
    "no key": ("{}", "Missing 'inputs' or 'instances' key"),
    "both keys": ('{"instances": [1], "inputs": [1]}', "only one of 'inputs' or 'instances' keys"),
    "no instances": ('{"instances": []}', "'instances' is an empty list"),
    "ragged": ('{"instances": [[1], [1, 2]]}', "Encountered list at unexpected size"),
    "wrong rank": ('{"instances": [[1, 2]]}', "has shape [1, 2]; the model takes [any, 8, 8, 1]"),
    "a string": ('{"instances": ["a"]}', "holds a string; expected type: float32"),
    "null": ('{"inputs": null}', "holds null"),
    "wrong name": ('{"instances": [{"picture": 1}]}', "Sent extra: {picture}. Missing but required: {image}."),
    "wrong column": ('{"inputs": {"picture": 1}}', "Missing but required: {image}"),
    "mixed rows": ('{"instances": [{"image": 1}, 2]}', "element 1 of 'instances' is not an object"),
    "signature": ('{"signature_name": "core", "inputs": [1]}', 'Serving signature name: "core" not found'),
    "NaN": (f'{{"instances": [{IMAGE.replace("0.0", "NaN", 1)}]}}', "holds NaN or infinity"),
    "too large": (f'{{"instances": [{IMAGE.replace("0.0", "1e39", 1)}]}}', "holds NaN or infinity"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_predict_with_a_bad_body_is_400_with_one_sentence(service: Service, case: str):
    body, message = BAD_BODIES[case]
    answer = service.client.post("/v1/models/cnn:predict", content=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1.0] * 40], "holds a number with a fraction; expected type: int32"),
        ([[2**31] * 40], "too large for int32"),
        ([[2**70] * 40], "holds null, an object or a huge number"),
        ([[True] * 40], "holds a boolean"),
    ],
)
def test_predict_with_a_wrong_integer_is_400(service: Service, tokens: list, message: str):
    answer = service.client.post("/v1/models/transformer:predict", json={"instances": tokens})
    assert answer.status_code == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("POST", "/v1/models/nope:predict", "Servable not found for request: Latest(nope)"),
        ("POST", "/v1/models/cnn/versions/9:predict", "Servable not found for request: Specific(cnn, 9)"),
        ("GET", "/v1/models/nope", "Could not find any versions of model nope"),
        ("GET", "/v2", "Malformed request: GET /v2"),
    ],
)
def test_request_for_what_is_not_there_is_404(service: Service, method: str, path: str, message: str):
    answer = service.client.request(method, path, content="{}")
    assert answer.status_code == 404
    assert message in answer.json()["error"]


def test_wrong_method_is_405_with_json(service: Service):
    answer = service.client.put("/v1/models")
    assert answer.status_code == 405
    assert answer.json()["error"].startswith("Malformed request: PUT /v1/models")


@pytest.mark.parametrize("chunked", [False, True])
def test_body_over_the_limit_is_413(service: Service, chunked: bool):
    def pieces() -> Iterator[bytes]:
        for _ in range(LIMIT // (1 << 20) + 1):
            yield b" " * (1 << 20)

    content = pieces() if chunked else b" " * (LIMIT + 1)
    answer = service.client.post("/v1/models/cnn:predict", content=content)
    assert answer.status_code == 413
    assert str(LIMIT) in answer.json()["error"]


def test_predict_from_many_threads_at_once_mixes_nothing_up(service: Service, exports: dict[tuple[str, int], Export]):
    """``lstm`` is stateful inside: a request that ran into another's would be visible."""
    export = exports["lstm", 2]
    inputs = first_rows(export, 16)
    (expected,) = LiteModel(export.lite("int8")).predict(inputs).values()
    (values,) = inputs.values()
    wrong: list[int] = []

    def ask(i: int) -> None:
        for _ in range(5):
            answer = httpx.post(
                f"http://127.0.0.1:{service.port}/v1/models/lstm:predict",
                json={"instances": values[i : i + 1].tolist()},
                timeout=60,
            )
            if np.float32(answer.json()["predictions"][0][0]) != expected[i, 0]:
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(values))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_environment_of_the_device_has_no_tensorflow(service: Service):
    python = COMMAND.with_name("python")
    code = "import edge, importlib.util as u; print(edge.__file__, [m for m in ('tensorflow', 'keras', 'jax') if u.find_spec(m)])"
    found = subprocess.run([python, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert found.stdout.strip().endswith("edge/__init__.py []")
    maps = Path(f"/proc/{service.client.get('/healthz').json()['pid']}/maps")
    if maps.exists():
        assert "tensorflow/" not in maps.read_text()


def test_service_stops_cleanly_and_answers_the_same_after_a_restart(
    lite_folder: Path, exports: dict[tuple[str, int], Export]
):
    (values,) = first_rows(exports["lstm", 2], 3).values()
    answers = []
    port = pick_free_port()
    for _ in range(2):
        with start_service(lite_folder, port=port) as service:
            answers.append(service.client.post("/v1/models/lstm:predict", json={"instances": values.tolist()}).json())
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(60) == 0
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert answers[0] == answers[1]
    assert len(answers[0]["predictions"]) == 3


@pytest.mark.parametrize("victim", ["worker", "parent"])
def test_service_killed_leaves_no_process_and_frees_the_port(lite_folder: Path, victim: str):
    with start_service(lite_folder) as service:
        worker = psutil.Process(service.client.get("/healthz").json()["pid"])
        (worker if victim == "worker" else service.process).kill()
        assert service.process.wait(60) != 0
        deadline = time.monotonic() + 60
        while not is_gone(worker):
            assert time.monotonic() < deadline, worker
            time.sleep(0.02)
        with start_service(lite_folder, port=service.port) as again:
            assert again.client.get("/healthz").status_code == 200


def test_start_on_a_taken_port_is_one_sentence(service: Service, lite_folder: Path):
    done = run_edge("serve", "--port", service.port, "--models", lite_folder)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: cannot listen on 127.0.0.1 port {service.port}: Address already in use; "
        "choose another with --port or --bind\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "/nowhere"], "there is no folder /nowhere"),
        (
            ["--variant", "int4"],
            "no model with the variant 'int4'; there are the variants ",
        ),
        (["--port", "70000"], "--port 70000 is no port"),
        (["--threads", "0"], "--threads 0 is no number of threads"),
        (["--bind", "192.0.2.1", "--allow-anonymous"], "cannot listen on 192.0.2.1"),
        (["--interpreters", "0"], "--interpreters 0 is no number of interpreters"),
        (["--poll", "-1"], "--poll -1.0 is no number of seconds"),
        (["--runtime", "tflite-runtime"], "the runtime 'tflite-runtime' is not installed here"),
        (["--max-body", "0"], "--max-body 0 is no number of bytes"),
    ],
)
def test_start_with_a_wrong_option_is_one_sentence(lite_folder: Path, options: list[str], message: str):
    done = call_edge("serve", "--port", pick_free_port(), "--models", lite_folder, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_start_with_a_delegate_that_is_missing_ends_with_the_reason(lite_folder: Path):
    done = run_edge("serve", "--port", pick_free_port(), "--models", lite_folder, "--delegate", "/nowhere/delegate.so")
    assert done.returncode != 0
    assert "error: the delegate '/nowhere/delegate.so' cannot be loaded" in done.stderr


def test_broken_version_is_left_out_and_the_others_answer(lite_folder: Path, tmp_path: Path):
    models = shutil.copytree(lite_folder, tmp_path / "models")
    truncated = models / "cnn" / "2" / "int8.tflite"
    truncated.write_bytes(truncated.read_bytes()[:1000])
    for path in (models / "mlp").glob("*/int8.tflite"):
        path.unlink()
    body = {"instances": [json.loads(IMAGE)]}
    with start_service(models) as service:
        assert service.client.get("/healthz").json()["broken_versions"] == 3
        assert service.client.post("/v1/models/cnn:predict", json=body).status_code == 200
        answer = service.client.post("/v1/models/cnn/versions/2:predict", json=body)
        assert answer.status_code == 503
        assert "truncated or exchanged" in answer.json()["error"]
        answer = service.client.post("/v1/models/mlp:predict", json=body)
        assert answer.status_code == 503
        assert "int8.tflite is missing" in answer.json()["error"]
        states = service.client.get("/v1/models/cnn").json()["model_version_status"]
        assert [(s["version"], s["state"]) for s in states] == [("2", "END"), ("1", "AVAILABLE")]


def test_start_with_nothing_but_broken_files_fails_with_their_reasons(lite_folder: Path, tmp_path: Path):
    models = shutil.copytree(lite_folder / "cnn" / "1", tmp_path / "models" / "cnn" / "1").parents[1]
    (models / "cnn" / "1" / "int8.tflite").write_bytes(b"")
    done = run_edge("serve", "--port", pick_free_port(), "--models", models)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no model of {models} can be loaded: {models}/cnn/1/int8.tflite (0 bytes")
    assert done.stderr.count("\n") == 1


def test_float_variant_answers_nan_with_nan(lite_folder: Path):
    """JSON has no NaN; TF Serving writes it bare, and so does the device."""
    options = ["--variant", "float32", "--threads", "2", "--interpreters", "2"]
    with start_service(lite_folder, *options, "--runtime", "ai-edge-litert") as service:
        body = f'{{"instances": [{IMAGE.replace("0.0", "NaN", 1)}]}}'
        answer = service.client.post("/v1/models/cnn:predict", content=body)
        assert answer.status_code == 200
        assert np.isnan(json.loads(answer.text)["predictions"]).all()
        assert service.client.get("/healthz").json()["threads"] == 2
