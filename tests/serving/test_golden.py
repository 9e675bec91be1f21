"""What the real tensorflow_model_server answered, asked again of ours: ``pytest -k 'golden and rest_predict'``.

The recordings and their README are in ``golden/``, the models that they speak of in ``golden_models.py``.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from serving.launch import ENVIRONMENTS
from serving.local import local_server
from tests.serving.deadlines import wait_for
from tests.serving.golden_replay import WAIT_SECONDS, Connection, Recording, read_recordings, replay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ENVIRONMENTS["tensorflow"] / "bin" / "model-server").is_file(),
        reason="needs the environment with TensorFlow: make serving/server/.venv-tensorflow",
    ),
]

# Where our server answers otherwise, and why. A case whose difference is gone fails, so that it leaves this table.
DELIBERATE: dict[str, str] = {
    "rest_predict.rank_error": "a shape that the signature does not have is refused before the graph runs: some kernels end "
    "the process at a rank that they do not expect",
    "versions.no_variables_folder": "a version without its variables is refused and the old one goes on serving; there it "
    "takes over and fails request by request",
}

SHARED_MODELS = (
    "half", "half_tf2", "multi", "strs", "dtypes", "nonfinite", "counter", "slow", "big", "matrix", "probe", "classes",
    "warm_counter", "padded_version",
)  # fmt: skip


def _model(name: str, folder: str, more: str = "") -> str:
    return f'config {{ name: "{name}" base_path: "<MODELS>/{folder}" model_platform: "tensorflow" {more} }}'


SHARED_CONFIG = "\n".join(
    [
        *(_model(name, name) for name in SHARED_MODELS),
        _model("odd name+1", "half"),
        _model("modèle", "half"),
        _model(
            "triple",
            "triple",
            'model_version_policy { all {} } version_labels { key: "stable" value: 1 } '
            'version_labels { key: "canary" value: 3 } version_labels { key: "missing" value: 99 }',
        ),
    ]
)
# Each server's models at the start and its flags. Recordings that change what is served begin with a configuration of
# their own, so few servers do for all of them.
SERVERS = {
    "shared": (
        SHARED_CONFIG,
        ("--allow_version_labels_for_unavailable_models=true", "--enable_model_warmup=false", "--grpc_max_threads=300",
         "--grpc_socket_path=<TMP>/grpc.sock"),
    ),
    "changing": (
        _model("half", "half"),
        ("--enable_batching=true", "--enable_per_model_batching_parameters=true"),
    ),
    "labels": (
        _model("half", "half"),
        ("--allow_version_labels_for_unavailable_models=true", "--num_request_iterations_for_warmup=3"),
    ),
    "content": (
        _model("half", "half") + _model("slow", "slow"),
        ("--enable_serialization_as_tensor_content=true", "--rest_api_timeout_in_ms=1000"),
    ),
}  # fmt: skip
FLAGS = ("--file_system_poll_wait_seconds=0.1", "--max_num_load_retries=0")


@pytest.fixture(scope="module")
def connections(
    request: pytest.FixtureRequest, golden_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Connection]]:
    """A connection to each of SERVERS that a chosen test needs. They start side by side: most of it is TensorFlow's import."""
    tests = [i for i in request.session.items if isinstance(i, pytest.Function) and i.module is request.module]
    chosen = [test.callspec.params["recording"] for test in tests]
    needed = {recording.server for recording in chosen if isinstance(recording, Recording)}
    folders = {name: tmp_path_factory.mktemp(name) for name in sorted(needed)}

    def start(name: str) -> Connection:
        models, flags = SERVERS[name]
        config = folders[name] / "models.config"
        config.write_text(f"model_config_list {{ {models} }}".replace("<MODELS>", str(golden_models)), "utf-8")
        flags = tuple(flag.replace("<TMP>", str(folders[name])) for flag in (*FLAGS, *flags))
        server = stack.enter_context(local_server(config, engine="tensorflow", flags=flags))
        return stack.enter_context(Connection(server, folders[name] / "grpc.sock"))

    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        yield dict(zip(folders, pool.map(start, folders), strict=True))


def _set_up(recording: Recording, connection: Connection, models: Path, folder: Path) -> None:
    """Put the recording's files in place and have the server serve its configuration."""
    connection.paths = {"<MODELS>": str(models), "<TMP>": str(folder)}
    for path, content in recording.files.items():
        target = folder / path
        if target.suffix:
            target.write_text(content)
        else:
            _publish(models / content, target)
    if recording.config:
        connection.reload("model_config_list {}")
        wait_for(lambda: _all_ended(connection), "every model is unloaded")
        connection.reload(recording.config)


def _all_ended(connection: Connection) -> bool:
    """Whether none of the models that recordings change is served."""
    return all(set(connection.states(model)) <= {"END"} for model in ("half", "tri", "m", "probe", "warm_counter"))


def _publish(source: Path, target: Path) -> None:
    """Appear in one step, as a careful publisher does it."""
    staged = target.parent.parent / f"staged-{target.parent.name}-{target.name}"
    shutil.copytree(source, staged)
    target.parent.mkdir(exist_ok=True)
    staged.rename(target)


@pytest.mark.parametrize("recording", read_recordings(), ids=lambda recording: recording.name)
def test_golden(recording: Recording, connections, golden_models: Path, tmp_path: Path) -> None:
    connection = connections[recording.server]
    _set_up(recording, connection, golden_models, tmp_path)
    found = ""
    patience = 1.0 if recording.name in DELIBERATE else WAIT_SECONDS
    for step in recording.steps:
        if "publish" in step:
            _publish(golden_models / step["publish"], tmp_path / step["as"])
        else:
            found = found or replay(connection, step, patience=patience)
    if recording.name in DELIBERATE:
        assert found, f"no difference any more; take it out of DELIBERATE: {DELIBERATE[recording.name]}"
    else:
        assert not found, found
