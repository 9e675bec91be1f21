"""Work that nobody waits for any more is given up: a client left, or its deadline passed. On one thread, so that a call
that went on would keep all later ones from being answered."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from serving.client.errors import TimedOut
from serving.client.grpc import AsyncGrpcClient, GrpcClient
from serving.client.rest import RestClient
from serving.launch import ENVIRONMENTS
from serving.local import local_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving.local import LocalServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ENVIRONMENTS["tensorflow"] / "bin" / "model-server").is_file(),
        reason="needs the environment with TensorFlow: make serving/server/.venv-tensorflow",
    ),
]
ENDLESS = {"n": np.array([2_000_000_000], np.int32)}
SHORT = {"n": np.array([10], np.int32)}
# Batches are run by one thread too.
PARAMETERS = {
    "slow": None,
    "counter": None,
    "batched_slow": "max_batch_size { value: 1 } max_enqueued_batches { value: 100 }",
    "batched_probe": "max_batch_size { value: 4 } batch_timeout_micros { value: 500000 }",
}


@pytest.fixture(scope="module")
def running(golden_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("cancellation")
    for name, parameters in PARAMETERS.items():
        shutil.copytree(golden_models / name.removeprefix("batched_") / "1", folder / name / "1")
        if parameters is not None:
            (folder / name / "1" / "batching_params.pbtxt").write_text(parameters)
    models = " ".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}' for name in PARAMETERS
    )
    (folder / "models.config").write_text(f"model_config_list {{ {models} }}")
    (folder / "batching.txt").write_text("num_batch_threads { value: 1 }")
    flags = (
        "--grpc_max_threads=1",
        "--rest_api_num_threads=1",
        "--enable_batching",
        "--enable_per_model_batching_parameters",
        f"--batching_parameters_file={folder / 'batching.txt'}",
    )
    with local_server(folder / "models.config", engine="tensorflow", flags=flags) as server:
        yield server


@pytest.fixture
def grpc(running: LocalServer) -> Iterator[GrpcClient]:
    with GrpcClient(running.grpc_address, timeout=60) as client:
        yield client


def cancelled(address: str, *calls: tuple, seconds: float = 0.5) -> None:
    """Make calls one after the other, without waiting for their answers; then cancel all of them."""

    async def run() -> None:
        client = AsyncGrpcClient(address)
        tasks = []
        for model, inputs, *signature in calls:
            tasks.append(
                asyncio.create_task(client.predict(model, inputs, signature=signature[0] if signature else None))
            )
            await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("model", ["slow", "batched_slow"])
def test_cancelled_call_frees_its_thread(running, grpc, model) -> None:
    cancelled(running.grpc_address, (model, ENDLESS))
    np.testing.assert_allclose(grpc.predict(model, SHORT)["y"], [1.998], rtol=1e-3)


@pytest.mark.parametrize("model", ["slow", "batched_slow"])
def test_deadline_frees_its_thread(running, grpc, model) -> None:
    with pytest.raises(TimedOut):
        grpc.predict(model, ENDLESS, timeout=0.3)
    assert grpc.predict(model, SHORT)


@pytest.mark.parametrize("model", ["slow", "batched_slow"])
def test_rest_client_that_leaves_frees_its_thread(running, model) -> None:
    connection = http.client.HTTPConnection(running.rest_address)
    connection.request("POST", f"/v1/models/{model}:predict", json.dumps({"instances": [2_000_000_000]}))
    connection.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    with RestClient(running.rest_address) as client:
        assert client.predict(model, SHORT)


def test_call_that_is_cancelled_while_it_waits_for_a_thread_never_runs(running, grpc) -> None:
    cancelled(running.grpc_address, ("slow", ENDLESS), ("counter", {}, "incr_counter"))
    assert grpc.predict("slow", SHORT)
    assert grpc.predict("counter", {}, signature="get_counter")["output"] == 0


def test_batch_drops_requests_that_were_cancelled(running, grpc) -> None:
    row = {"x": np.ones((1, 1), np.float32)}
    cancelled(running.grpc_address, ("batched_probe", row), seconds=0.1)
    assert grpc.predict("batched_probe", row)["rows"].tolist() == [1]


def test_many_stopped_calls_leave_nothing_behind(running, grpc) -> None:
    for _ in range(20):  # more than there are switches for runs (engines/tensorflow_stop.py)
        with pytest.raises(TimedOut):
            grpc.predict("slow", ENDLESS, timeout=0.05)
    assert grpc.predict("slow", SHORT)
