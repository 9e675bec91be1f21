"""The start: what stops it, and with which words; what does not; and a server that was killed while it loaded."""

from __future__ import annotations

import os
import shutil
import signal
import threading

import numpy as np
import pytest

from deploy.ports import free_ports
from models.errors import DeployError
from serving.client.errors import Refused
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.local import local_server, start, wait_until_open
from tests.serving.configs import model, models
from tests.serving.deadlines import wait_for
from tests.serving.refusals import refusal

ROW = {"features": np.ones((1, 30), np.float32)}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--model_base_path and --model_config_file are empty; give --model_base_path=/folder/of/the/model"),
        (("--model_base_path=models/mlp",), "to have an absolute path or URI; got base_path()=models/mlp; write the"),
        (("--model_config_file=/none.config",), "/none.config: the config file cannot be read: No such file"),
        (("--port=abc",), "--port=abc is no number; write for example --port=8500"),
        (("--port=70000", "--model_base_path=/m"), "port 70000 on 127.0.0.1 is no port; use a number from 1 to 65535"),
        (("--port=0", "--model_base_path=/m"), "port 0 on 127.0.0.1 is no port; use a number from 1 to 65535"),
        (("--bind_address=localhost", "--model_base_path=/m"), "--bind_address=localhost is no IP address; write for"),
        (("--bind_address=", "--model_base_path=/m"), "--bind_address= is no IP address; write for example"),
        (("--drain_seconds=nan",), "--drain_seconds=nan is no number; write for example --drain_seconds=10.0"),
        (("--request_idle_seconds=0",), "is too small; write --request_idle_seconds=0.001 or more"),
        (("--max_request_bytes=-1",), "--max_request_bytes=-1 is too small; write --max_request_bytes=1 or more"),
        (("--model_base_path=/m", "--enable_batching", "--batching_parameters_file=/tmp"),
         "--batching_parameters_file=/tmp cannot be read: Is a directory; check the path"),
        (("--enable_model_warmup=maybe",), "is neither true nor false; write --enable_model_warmup=true"),
        (
            ("--tensorflow_session_parallelism=2", "--tensorflow_intra_op_parallelism=2",
             "--tensorflow_inter_op_parallelism=2"),
            "You cannot configure all; leave one of them out",
        ),
        (
            ("--model_base_path=/m", "--model_roots=relative"),
            "--model_roots=relative names 'relative', which is no absolute path of a folder that exists",
        ),
        (("--model_base_path=/m", "--model_roots=/tmp"), "base_path /m of model default is outside of --model_roots (/tmp)"),
    ],
)  # fmt: skip
def test_wrong_flag_is_one_sentence_and_exit_code_1(flags, message):
    line = refusal(*flags)
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the config file is empty; write model_config_list {} to serve nothing yet"),
        ("nonsense", "this is no ModelServerConfig in text format: 1:1 : Message type"),
        (
            models(model("m", "/m", platform="caffe")),
            "Model m has the unsupported platform caffe; write model_platform",
        ),
        (
            models(model("m", "/m", platform="")),
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor",
        ),
        (
            models(model("m", "/m"), model("m", "/n")),
            "Illegal to list model m multiple times in config list; give each",
        ),
        (
            models(model("m", "/m", "specific {}")),
            "Model m asks for specific versions, but names none; add versions: 1",
        ),
        (
            "custom_model_config {}",
            "It is only legal to transition from one ModelConfigList to another.; write model_con",
        ),
    ],
)
def test_wrong_config_file_is_named_with_what_is_wrong(text, message, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(text)
    line = refusal(f"--model_config_file={config}")
    assert line.startswith(f"error: {config}: ")
    assert message in line


@pytest.mark.slow
def test_one_broken_model_of_two_stops_the_start(repository_folder, tmp_path):
    (tmp_path / "bad" / "1").mkdir(parents=True)
    config = tmp_path / "models.config"
    config.write_text(models(model("mlp", repository_folder / "mlp"), model("bad", tmp_path / "bad")))
    with (
        pytest.raises(
            DeployError, match=r"1 servable\(s\) did not become available: \{\{\{name: bad version: 1\} due to"
        ),
        local_server(config, engine="litert"),
    ):
        pass


def test_older_version_that_is_broken_does_not_stop_the_start(serve, base, add_version):
    (base / "1").mkdir()
    add_version(2)
    with RestClient(serve("all {}").rest_address) as client:
        assert {row["version"]: row["state"] for row in client.status("mlp")} == {2: "AVAILABLE", 1: "END"}


def test_flag_leaves_model_tflite_alone(serve, add_version):
    """The light server has no other engine."""
    add_version(1)
    with pytest.raises(DeployError, match="so it needs TensorFlow"):
        serve("all {}", "--prefer_tflite_model=false")


@pytest.mark.slow
def test_nothing_to_serve_yet_is_no_error(repository_folder, tmp_path):
    config = tmp_path / "models.config"
    config.write_text("# later\n")
    with local_server(config, engine="litert") as running, GrpcClient(running.grpc_address) as client:
        with pytest.raises(Refused, match=r"Servable not found for request: Latest\(mlp\)"):
            client.predict("mlp", ROW)
        client.reload_config(models(model("mlp", repository_folder / "mlp")))
        client.predict("mlp", ROW)


@pytest.mark.slow
def test_equal_ports_leave_rest_out(repository_folder, tmp_path):
    (port,) = free_ports(1)
    config = tmp_path / "models.config"
    config.write_text(models(model("mlp", repository_folder / "mlp")))
    log = tmp_path / "log"
    process = start(config, grpc_port=port, rest_port=port, engine="litert", log=log)
    try:
        wait_until_open(process, port, log)
        with GrpcClient(f"127.0.0.1:{port}") as client:
            client.predict("mlp", ROW)
        assert f"port {port} is gRPC's: no REST" in log.read_text()
    finally:
        process.terminate()
        process.wait(15)


def test_failed_load_is_tried_again_and_is_loading_meanwhile(serve, base, add_version):
    add_version(1)
    running = serve("latest { num_versions: 1 }", "--max_num_load_retries=200", "--load_retry_interval_micros=100000")
    broken = add_version(2) / "model.tflite"
    staged = base.parent / "broken"
    (base / "2").rename(staged)
    good = broken.with_name("good")
    (staged / "model.tflite").rename(staged / "good")
    (staged / "model.tflite").write_bytes(b"not a model" * 100)
    with RestClient(running.rest_address) as client:
        wait_for(lambda: {r["version"] for r in client.status("mlp")} >= {1}, "the server")
        staged.rename(base / "2")
        wait_for(lambda: state(client, 2) == "LOADING", "version 2 is tried")
        wait_for(lambda: "attempts left" in running.log.read_text(), "an attempt failed")
        assert state(client, 2) == "LOADING"
        assert state(client, 1) == "AVAILABLE"
        good.rename(broken)
        wait_for(lambda: state(client, 2) == "AVAILABLE", "the repaired version")


def test_replaced_version_that_is_repaired_in_place_is_loaded(serve, base, add_version):
    first = add_version(1)
    running = serve("all {}", "--max_num_load_retries=200", "--load_retry_interval_micros=100000")
    staged = add_version(2).rename(base.parent / "staged")
    model = staged / "model.tflite"
    good = model.rename(staged / "good")
    model.write_bytes(b"not a model" * 100)
    first.rename(base.parent / "old")
    staged.rename(base / "1")
    broken, loaded = "was replaced on disk, but cannot be loaded", "mlp version 1 is available"
    wait_for(lambda: broken in running.log.read_text(), "the attempt")
    with RestClient(running.rest_address) as client:
        client.predict("mlp", ROW)
    (base / "1" / good.name).rename(base / "1" / model.name)
    wait_for(lambda: running.log.read_text().count(loaded) == 2, "the repaired version", seconds=10.0)


def state(client: RestClient, version: int) -> str | None:
    return {row["version"]: row["state"] for row in client.status("mlp")}.get(version)


def test_version_is_loading_while_it_warms_up_and_the_old_one_answers(serve, add_version):
    add_version(1)
    running = serve("latest { num_versions: 1 }", "--num_request_iterations_for_warmup=8000")
    with RestClient(running.rest_address) as client:
        add_version(2)
        wait_for(lambda: state(client, 2) == "LOADING", "version 2 warms up")
        client.predict("mlp", ROW, version=1)
        wait_for(lambda: state(client, 2) == "AVAILABLE", "version 2 is warm")


def test_request_in_flight_finishes_on_the_version_that_goes(serve, base, add_version):
    add_version(1)
    running = serve("latest { num_versions: 1 }")
    rows = {"features": np.ones((200_000, 30), np.float32)}
    shapes: list[tuple[int, ...]] = []
    with GrpcClient(running.grpc_address, timeout=60) as client, GrpcClient(running.grpc_address) as other:
        asking = threading.Thread(target=lambda: shapes.append(client.predict("mlp", rows)["probability"].shape))
        asking.start()
        add_version(2)
        wait_for(lambda: {r["version"]: r["state"] for r in other.status("mlp")} == {2: "AVAILABLE", 1: "END"}, "swap")
        asking.join(60)
    assert shapes == [(200_000, 1)]


@pytest.mark.slow
def test_killed_while_it_loads_it_starts_again(serve, base, add_version, tmp_path):
    add_version(1)
    config = tmp_path / "models.config"
    config.write_text(models(model("mlp", base)))
    grpc_port, rest_port = free_ports(2)
    log = tmp_path / "log"
    slow = ("--num_request_iterations_for_warmup=10000000",)
    process = start(config, grpc_port=grpc_port, rest_port=rest_port, engine="litert", log=log, flags=slow)
    try:
        wait_for(lambda: "loading mlp version 1" in log.read_text(), "the load has begun")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    process = start(config, grpc_port=grpc_port, rest_port=rest_port, engine="litert", log=log)
    try:
        wait_until_open(process, grpc_port, log)
        with RestClient(f"127.0.0.1:{rest_port}") as client:
            client.predict("mlp", ROW)
    finally:
        process.terminate()
        process.wait(15)


def test_folder_that_vanishes_takes_its_version_and_nothing_else(serve, base, add_version, repository_folder):
    add_version(1)
    other = f'}} config {{ name: "other" base_path: "{repository_folder / "mlp"}" model_platform: "tensorflow"'
    running = serve("all {}", more=other)
    gone = add_version(2)
    with RestClient(running.rest_address) as client:
        wait_for(lambda: state(client, 2) == "AVAILABLE", "version 2")
        shutil.rmtree(gone)
        wait_for(lambda: state(client, 2) == "END", "version 2 ends")
        shutil.rmtree(base)
        client.predict("mlp", ROW)
        client.predict("other", ROW)
