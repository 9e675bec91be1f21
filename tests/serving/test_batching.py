"""Requests that run as one: each model here has batching parameters of its own in ``batching_params.pbtxt``."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.request import urlopen

import numpy as np
import pytest
from model_server.batch_tensors import merged

from deploy.ports import free_ports
from models.errors import DeployError
from serving.client.errors import Refused, TimedOut
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.launch import ENVIRONMENTS
from serving.local import local_server
from tests.serving.configs import model, models
from tests.serving.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from serving.local import LocalServer

needs_tensorflow = pytest.mark.skipif(
    not (ENVIRONMENTS["tensorflow"] / "bin" / "model-server").is_file(),
    reason="needs the environment with TensorFlow: make serving/server/.venv-tensorflow",
)
FOUR = "max_batch_size { value: 4 } batch_timeout_micros { value: 20000000 } max_enqueued_batches { value: 100 }"
# "probe" tells each row with how many others it ran. A model without parameters is not batched.
PARAMETERS = {
    "four": FOUR,
    "padding_rows": "max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 8",
    "splitting": "max_batch_size { value: 100 } max_execution_batch_size { value: 4 } "
    "enable_large_batch_splitting { value: true }",
    "two": "max_batch_size { value: 2 } batch_timeout_micros { value: 20000000 } max_enqueued_batches { value: 1 }",
    "padding_columns": "max_batch_size { value: 2 } batch_timeout_micros { value: 20000000 } "
    "pad_variable_length_inputs: true",
    "apart": "max_batch_size { value: 8 } batch_timeout_micros { value: 200000 }",
    "alone": None,
}


def column(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array([[value] for value in values], np.float32)}


def together(*calls: Callable) -> list:
    """Their results, or the error of each, in order; all are under way at the same time."""

    def run(call: Callable) -> object:
        try:
            return call()
        except Refused as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.fixture(scope="module")
def running(golden_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("batching")
    for name, parameters in PARAMETERS.items():
        shutil.copytree(golden_models / "probe" / "1", folder / name / "1")
        if parameters is not None:
            (folder / name / "1" / "batching_params.pbtxt").write_text(parameters)
    (folder / "models.config").write_text(models(*(model(name, folder / name) for name in PARAMETERS)))
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    flags = (
        "--enable_batching",
        "--enable_per_model_batching_parameters",
        f"--monitoring_config_file={folder / 'monitoring.config'}",
    )
    with local_server(folder / "models.config", engine="tensorflow", flags=flags) as server:
        yield server


@pytest.fixture(scope="module")
def clients(running: LocalServer) -> Iterator[tuple[GrpcClient, RestClient]]:
    with GrpcClient(running.grpc_address) as grpc, RestClient(running.rest_address) as rest:
        yield grpc, rest


@needs_tensorflow
@pytest.mark.slow
class TestOnTensorFlow:
    def test_requests_of_both_protocols_share_a_batch(self, clients) -> None:
        calls = [lambda i=i, client=client: client.predict("four", column(i)) for i, client in enumerate(clients * 2)]
        for i, answer in enumerate(together(*calls)):
            assert answer["y"].tolist() == [[2.0 * i]]
            assert answer["rows"].tolist() == [4]

    def test_rows_of_an_allowed_size_run_and_those_that_were_sent_come_back(self, clients) -> None:
        answer = clients[0].predict("padding_rows", column(1, 2, 3))
        assert answer["y"].tolist() == [[2.0], [4.0], [6.0]]
        assert answer["rows"].tolist() == [4, 4, 4]

    def test_large_request_is_split(self, clients) -> None:
        answer = clients[0].predict("splitting", column(*range(10)))
        assert answer["y"].ravel().tolist() == [2.0 * i for i in range(10)]
        assert max(answer["rows"]) <= 4

    def test_signatures_are_not_mixed(self, clients) -> None:
        grpc, _ = clients
        pair = {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
        first, second, *_ = together(
            lambda: grpc.predict("apart", column(1)), lambda: grpc.predict("apart", pair, signature="two")
        )
        assert first["rows"].tolist() == [1]
        assert second["sb"].tolist() == [3.0]

    def test_shorter_rows_are_filled_up_with_their_first_value(self, clients) -> None:
        grpc, _ = clients
        short, long = np.array([[1, 2]], np.float32), np.array([[5, 6, 7]], np.float32)
        answers = together(*(lambda x=x: grpc.predict("padding_columns", {"x": x}) for x in (short, long)))
        assert [answer["y"].tolist() for answer in answers] == [[[2, 4, 2]], [[10, 12, 14]]]

    def test_rows_of_different_width_fail_together(self, clients) -> None:
        grpc, _ = clients
        rows = [np.ones((2, width), np.float32) for width in (2, 3)]
        for error in together(*(lambda x=x: grpc.predict("four", {"x": x}) for x in rows)):
            assert isinstance(error, Refused)
            assert error.code == "FAILED_PRECONDITION"
            assert "have different shapes and padding is turned off" in str(error)

    def test_other_outputs_and_models_without_parameters_run_by_themselves(self, clients) -> None:
        grpc, _ = clients
        assert grpc.predict("four", column(1), outputs=["rows"])["rows"].tolist() == [1]
        for client in clients:
            assert client.predict("alone", column(1))["rows"].tolist() == [1]

    def test_full_queue_refuses_and_a_deadline_ends_the_wait(self, clients) -> None:
        grpc, _ = clients

        def wait() -> object:
            try:
                return grpc.predict("two", column(1), timeout=2)
            except TimedOut as error:
                return error

        def refusal() -> Refused | None:
            try:
                grpc.predict("two", column(1, 2))
            except Refused as error:
                return error
            return None

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(wait)
            while (error := refusal()) is None:  # the other one is not in the queue yet
                assert not waiting.done()
            assert error.code == "UNAVAILABLE"
            assert "currently 1 batches enqueued and max_enqueued_batches is 1" in str(error)
            assert isinstance(waiting.result(), TimedOut)

    @pytest.mark.parametrize(
        ("inputs", "signature", "code", "message"),
        [
            (column(1, 2, 3, 4, 5), None, "INVALID_ARGUMENT",
             "Task size 5 is larger than maximum input batch size 4"),
            ({"x": np.float32(1)}, "scalar", "INVALID_ARGUMENT",
             "Batching Run() input tensors must have at least one dimension"),
            ({"a": np.ones(1, np.float32), "b": np.ones(2, np.float32)}, "two", "INVALID_ARGUMENT",
             "Batching Run() input tensors must have equal 0th-dimension size"),
            ({"x": np.ones(4, np.float32)}, "total", "FAILED_PRECONDITION", "Batched output tensor has 0 dimensions"),
        ],
    )  # fmt: skip
    def test_refuses(self, clients, inputs, signature, code, message) -> None:
        with pytest.raises(Refused, match=message.replace("(", r"\(").replace(")", r"\)")) as refused:
            clients[0].predict("four", inputs, signature=signature)
        assert refused.value.code == code

    def test_metrics_count_batches(self, running, clients) -> None:
        clients[0].predict("padding_rows", column(1))
        with urlopen(f"http://{running.rest_address}/monitoring/prometheus/metrics") as answer:
            page = answer.read().decode()
        name = ":tensorflow:serving:batching_session:"
        for series in ("queuing_latency", "wrapped_run_count", "input_batch_size", "processed_batch_size"):
            assert f"\n{name}{series}" in page
        assert f'{name}padding_size_count{{execution_batch_size="4"}}' in page


@pytest.mark.parametrize("columns", [2, 1])
def test_request_without_rows_leaves_its_batch_whole(columns) -> None:
    some, none = {"x": np.ones((3, 2), np.float32)}, {"x": np.empty((0, columns), np.float32)}
    assert merged([some, none], 1, pads=True, tensor=str)["x"].tolist() == [[1, 1]] * 4


@pytest.mark.slow
def test_batches_on_litert_give_the_same_answers(repository_folder, tmp_path, exports) -> None:
    file = tmp_path / "batching.txt"
    file.write_text("max_batch_size { value: 16 } batch_timeout_micros { value: 3000 } num_batch_threads { value: 2 }")
    flags = ("--enable_batching", f"--batching_parameters_file={file}")
    with ExitStack() as stack:
        server = stack.enter_context(local_server(repository_folder / "models.config", engine="litert", flags=flags))
        clients = [
            stack.enter_context(GrpcClient(server.grpc_address)),
            stack.enter_context(RestClient(server.rest_address)),
        ]
        case = exports["mlp", 2].evidence.cases("serving_default")[0]
        rows = [{name: array[i : i + 1] for name, array in case.inputs.items()} for i in range(12)]
        calls = [lambda row=row, i=i: clients[i % 2].predict("mlp", row) for i, row in enumerate(rows)]
        answers = together(*calls)
        for client in clients:
            np.testing.assert_allclose(
                client.predict("mlp", rows[0], signature="static")["probability"], answers[0]["probability"], rtol=1e-5
            )
        found = np.concatenate([answer["probability"] for answer in answers])
        np.testing.assert_allclose(found, case.outputs["probability"][:12], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "flags", "reason"),
    [
        ("max_batch_size { value: 4 }", (), "set without setting enable_batching to true"),
        ("max_batch_size 4", ("--enable_batching",), "is no BatchingParameters"),
        ("num_batch_threads { value: 0 }", ("--enable_batching",), "num_batch_threads must be positive; was 0"),
    ],
)
def test_parameters_that_do_not_fit_stop_the_start(repository_folder, tmp_path, parameters, flags, reason) -> None:
    file = tmp_path / "batching.txt"
    file.write_text(parameters)
    ports = free_ports(2)
    line = refusal(
        f"--port={ports[0]}", f"--rest_api_port={ports[1]}", "--model_name=mlp",
        f"--model_base_path={repository_folder / 'mlp'}", "--max_num_load_retries=0",
        f"--batching_parameters_file={file}", *flags,
    )  # fmt: skip
    assert line.startswith("error: ")
    assert reason in line


@pytest.mark.slow
def test_allowed_sizes_that_do_not_fit_stop_the_start(repository_folder, tmp_path) -> None:
    """A model's own parameters are looked at when it is loaded."""
    config, file = tmp_path / "models.config", tmp_path / "batching.txt"
    config.write_text(models(model("mlp", repository_folder / "mlp")))
    file.write_text("max_batch_size { value: 8 } allowed_batch_sizes: 4")
    reason = "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8"
    flags = ("--enable_batching", f"--batching_parameters_file={file}")
    with pytest.raises(DeployError, match=reason), local_server(config, engine="litert", flags=flags):
        pass
