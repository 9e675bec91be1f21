"""Model servers for the tests: one for all that only ask, and one a test for those that change what is served."""

from __future__ import annotations

import shutil
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from model_server.tensors import KINDS

from models.artifacts import artifacts_root
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.launch import ENVIRONMENTS, choose_engine
from serving.local import LocalServer, local_server
from serving.models_config import config_text, published_models
from tests.serving.plain_http import MAX_REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test with a server of its own takes a second or more, by far most of it for the server's start."""
    for item in items:
        if "serve" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def repository_folder(exports) -> Path:
    """``artifacts/repository`` with every export published, which others read too: no test writes into it."""
    published = published_models(artifacts_root())
    missing = [(model, version) for model, version in exports if version not in published.get(model, [])]
    assert not missing, f"not published: {missing}; run `make build` first"
    return artifacts_root() / "repository"


@pytest.fixture(scope="session")
def golden_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``<model>/<version>``: the small SavedModels of golden_models.py, built once.

    In this process, which other tests of the group have import TensorFlow anyway.
    """
    from tests.serving.golden_models import build

    folder = tmp_path_factory.mktemp("golden") / "models"
    build(folder)
    return folder


@pytest.fixture(scope="session")
def server(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The light server with every published model; tests only ask it. Whatever was promoted, ``stable`` is version 1."""
    models = published_models(artifacts_root())
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(config_text(models, repository_folder, _labels(models)))
    with local_server(config, engine="litert") as running:
        yield running


def _labels(models: dict[str, list[int]]) -> dict[str, dict[str, int]]:
    return {model: {"stable": versions[0], "canary": versions[-1]} for model, versions in models.items()}


@pytest.fixture(scope="session")
def tensorflow_server(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The server with TensorFlow; tests only ask it.

    It has every published model as a SavedModel alone, the transformer as published (``published``), and ``same``, which
    gives back what it gets. Nothing is warmed up: the lstm's first run on TensorFlow takes five seconds of each version
    and signature.
    """
    if not (ENVIRONMENTS["tensorflow"] / "bin" / "model-server").is_file():
        pytest.skip("needs the environment with TensorFlow: make serving/server/.venv-tensorflow")
    base = tmp_path_factory.mktemp("repository")
    models = published_models(artifacts_root())
    alone = shutil.ignore_patterns("model.tflite", "model.json", "litert.json")
    for name in models:
        shutil.copytree(repository_folder / name, base / name, ignore=alone)
    shutil.copytree(repository_folder / "transformer" / "2", base / "published" / "2")
    _save_same(base / "same" / "1")
    config = base / "models.config"
    config.write_text(config_text({**models, "published": [2], "same": [1]}, base, _labels(models)))
    assert choose_engine(config) == "tensorflow"
    with local_server(config, flags=("--enable_model_warmup=false",)) as running:
        assert running.engine == "tensorflow"
        yield running


def _save_same(folder: Path) -> None:
    """For every dtype that a tensor on the wire can have a signature of its name, x → y = x, of any shape."""
    import tensorflow as tf

    module = tf.Module()
    module.by_dtype = {  # type: ignore[attr-defined]
        kind.name: tf.function(
            lambda x: {"y": tf.identity(x)}, input_signature=[tf.TensorSpec(None, tf.as_dtype(kind.enum), "x")]
        )
        for kind in KINDS
    }
    tf.saved_model.save(module, str(folder), {**module.by_dtype, "serving_default": module.by_dtype["float"]})


@pytest.fixture
def rest(server: LocalServer) -> Iterator[RestClient]:
    with RestClient(server.rest_address) as client:
        yield client


@pytest.fixture
def grpc(server: LocalServer) -> Iterator[GrpcClient]:
    with GrpcClient(server.grpc_address) as client:
        yield client


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An empty base path of a model named ``mlp``."""
    folder = tmp_path / "models" / "mlp"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def add_version(base: Path, repository_folder: Path) -> Callable[..., Path]:
    """``add_version(2, of=1)``: version 1 of the real mlp appears as version 2, by rename."""

    def add(version: int, of: int | None = None) -> Path:
        staged = base.parent / f"staged-{version}"
        shutil.copytree(repository_folder / "mlp" / str(of or version), staged)
        return staged.rename(base / str(version))

    return add


@pytest.fixture
def serve(base: Path) -> Iterator[Callable[..., LocalServer]]:
    """``serve(policy, "--flag=…")``: a server for ``base`` that looks for new versions ten times a second."""
    with ExitStack() as stack:

        def start(policy: str = "all {}", *flags: str, more: str = "") -> LocalServer:
            config = base.parent / "models.config"
            config.write_text(
                f'model_config_list {{ config {{ name: "mlp" base_path: "{base}" model_platform: "tensorflow" '
                f"model_version_policy {{ {policy} }} {more} }} }}"
            )
            options = ("--file_system_poll_wait_seconds=0.1", *flags)
            return stack.enter_context(local_server(config, engine="litert", flags=options))

        yield start


@pytest.fixture(scope="session")
def odd(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServer, Path]]:
    """A server with all that is off by default, a small limit on requests, and a unix socket."""
    path = tmp_path_factory.mktemp("socket") / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # as a killed server leaves it
    flags = (
        "--enable_grpc_healthcheck_service",
        "--rest_api_enable_cors_support",
        "--rest_api_timeout_in_ms=50",
        f"--max_request_bytes={MAX_REQUEST}",
        f"--grpc_socket_path={path}",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2147483647,grpc.max_receive_message_length=4",
        "--request_idle_seconds=1",
    )
    with local_server(repository_folder / "models.config", engine="litert", flags=flags) as running:
        yield running, path
