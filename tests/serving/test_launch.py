"""``python -m serving.launch`` becomes the server that can run what is published."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from deploy.ports import free_ports
from serving.launch import choose_engine, main
from serving.local import answers, wait_until_open
from tests.commands import run_command


@pytest.fixture
def config(exports, tmp_path):
    """A repository of one published model, and its config file."""
    version = tmp_path / "mlp" / "2"
    shutil.copytree(exports["mlp", 2].published, version)
    file = tmp_path / "models.config"
    file.write_text(
        f'model_config_list {{ config {{ name: "mlp" base_path: "{version.parent}" model_platform: "tensorflow" }} }}'
    )
    return file


def test_engine_is_tensorflow_only_where_a_version_has_no_tflite(config):
    assert choose_engine(config) == "litert"
    (config.parent / "mlp" / "2" / "model.tflite").unlink()
    assert choose_engine(config) == "tensorflow"


@pytest.mark.slow
@pytest.mark.parametrize("lite", [True, False])
def test_launched_server_answers(config, spawn, tmp_path, repository, lite):
    if not lite:
        (config.parent / "mlp" / "2" / "model.tflite").unlink()
    grpc_port, rest_port = free_ports(2)
    log = tmp_path / "server.log"
    flags = [f"--port={grpc_port}", f"--rest_api_port={rest_port}", f"--model_config_file={config}"]
    with log.open("wb") as output:
        process = spawn(
            sys.executable, "-m", "serving.launch", *flags, cwd=repository, stdout=output, stderr=subprocess.STDOUT
        )
    wait_until_open(process, grpc_port, log)
    assert answers(f"127.0.0.1:{rest_port}", "mlp")


def test_launch_without_a_config_is_one_sentence():
    done = run_command(main, "--model_config_file=/nowhere/models.config")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --model_config_file")
    assert len(done.stderr.splitlines()) == 1
