"""Request logging on a running server: TFRecord files of PredictionLog, as tf.data and a version's warm-up read them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from serving.client.errors import ClientError
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.local import local_server
from tests.serving.deadlines import wait_for
from tests.serving.refusals import refusal
from tests.serving.test_metrics import read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from serving.local import LocalServer

ROWS = {"features": np.linspace(0, 1, 60, dtype=np.float32).reshape(2, 30)}
LOGS = ":tensorflow:serving:request_log_count"


def logging_config(prefix: Path | str, rate: float = 1.0, collector: str = "tfrecord") -> str:
    return (
        f'logging_config {{ log_collector_config {{ type: "{collector}" filename_prefix: "{prefix}" }} '
        f"sampling_config {{ sampling_rate: {rate} }} }}"
    )


def config_of(name: str, base: Path, more: str) -> str:
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more} }}'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


@pytest.fixture
def logged(serve: Callable[..., LocalServer], add_version: Callable[..., Path], root: Path, tmp_path: Path) -> Any:
    """``logged(more)``: the mlp with metrics and a request log below ``root``."""
    add_version(1)
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")

    def start(more: str) -> LocalServer:
        flags = (f"--monitoring_config_file={monitoring}", f"--request_log_root={root}")
        return serve("all {}", *flags, more=more)

    return start


def predictions(running: LocalServer, number: int = 1) -> None:
    with GrpcClient(running.grpc_address) as grpc:
        for _ in range(number):
            grpc.predict("mlp", ROWS)


def counted(running: LocalServer, code: str = "OK") -> float:
    return read(running).value(LOGS, model_name="mlp", status_code=code)


def count_records(file: Path) -> int:
    """The records of a file, which must all be whole."""
    content, position, number = file.read_bytes(), 0, 0
    while position < len(content):
        position += 16 + int.from_bytes(content[position : position + 8], "little")
        number += 1
    assert position == len(content)
    return number


def stop(running: LocalServer) -> None:
    running.process.terminate()
    assert running.process.wait(15) == 0


# ---------------------------------------------------------------- what is written


@pytest.fixture(scope="module")
def all_kinds(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """By model, the records of one request of each kind by each protocol, in the order they were sent; with TensorFlow."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    folder = tmp_path_factory.mktemp("kinds")
    configs = [config_of(name, repository_folder / name, logging_config(folder / "log")) for name in ("mlp", "lstm")]
    (folder / "models.config").write_text(f"model_config_list {{ {' '.join(configs)} }}")
    features = {"features": ROWS["features"]}
    series = {"series": np.full((1, 52), 400.0, np.float32)}
    flags = (f"--request_log_root={folder}",)
    with local_server(folder / "models.config", engine="tensorflow", flags=flags) as running:
        with GrpcClient(running.grpc_address) as grpc, RestClient(running.rest_address) as rest:
            for client in (grpc, rest):
                client.predict("mlp", ROWS)
                client.classify("mlp", features, signature="classify")
                client.regress("lstm", series, signature="regress")
            with pytest.raises(ClientError):
                grpc.predict("mlp", {"nosuch": ROWS["features"]})  # not logged: it has no answer
            grpc.multi_inference("mlp", features, {"classify": "classify"})
        stop(running)
    found = {}
    for name in ("mlp", "lstm"):
        (file,) = folder.glob(f"log-{name}-*.tfrecord")
        records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        found[name] = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    return found


@pytest.mark.slow
def test_every_kind_is_read_by_tf_data_and_the_official_messages(all_kinds):
    kinds = {name: [log.WhichOneof("log_type") for log in logs] for name, logs in all_kinds.items()}
    assert kinds["mlp"] == ["predict_log", "classify_log", "predict_log", "classify_log", "multi_inference_log"]
    assert kinds["lstm"] == ["regress_log", "regress_log"]
    for name, logs in all_kinds.items():
        for log in logs:
            assert (log.log_metadata.model_spec.name, log.log_metadata.model_spec.version.value) == (name, 2)
            assert log.log_metadata.sampling_config.sampling_rate == 1
            assert log.log_metadata.timestamp_secs > 1_700_000_000


@pytest.mark.slow
def test_rest_is_logged_as_the_request_that_grpc_would_have_been(all_kinds):
    import tensorflow as tf

    by_grpc, by_rest = all_kinds["mlp"][0].predict_log, all_kinds["mlp"][2].predict_log
    for log in (by_grpc, by_rest):
        np.testing.assert_array_equal(tf.make_ndarray(log.request.inputs["features"]), ROWS["features"])
    answers = [tf.make_ndarray(log.response.outputs["probability"]) for log in (by_grpc, by_rest)]
    np.testing.assert_allclose(*answers, rtol=1e-6)
    for log in (by_grpc, by_rest):
        assert log.response.model_spec.version.value == 2
    assert by_rest.request.model_spec.signature_name == "serving_default"
    by_grpc, by_rest = all_kinds["mlp"][1].classify_log, all_kinds["mlp"][3].classify_log
    examples = [log.request.input.example_list.examples for log in (by_rest, by_grpc)]
    values = [[row.features.feature["features"].float_list.value for row in rows] for rows in examples]
    np.testing.assert_allclose(*values, rtol=1e-6)
    assert by_rest.response.result == by_grpc.response.result
    by_grpc, by_rest = (log.regress_log for log in all_kinds["lstm"])
    assert by_rest.response.result.regressions[0].value == pytest.approx(by_grpc.response.result.regressions[0].value)


def test_log_is_another_versions_warm_up(logged, add_version, base, root):
    running = logged(logging_config(root / "mlp"))
    predictions(running, 7)
    wait_for(lambda: counted(running) == 7, "seven records")
    (file,) = root.glob("mlp-mlp-*.tfrecord")
    staged = base.parent / "staged-2"
    shutil.copytree(base / "1", staged)
    shutil.copy(file, staged / "assets.extra" / "tf_serving_warmup_requests")  # while the server goes on writing
    staged.rename(base / "2")
    wait_for(lambda: "version 2 is available" in running.log.read_text(), "version 2")
    assert "7 warm-up requests" in running.log.read_text().split("version 2 is available")[1].splitlines()[0]


def test_damaged_record_is_no_warm_up(logged, base, root):
    running = logged(logging_config(root / "mlp"))
    predictions(running)
    wait_for(lambda: counted(running) == 1, "a record")
    (file,) = root.glob("*.tfrecord")
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    staged = base.parent / "staged-2"
    shutil.copytree(base / "1", staged)
    (staged / "assets.extra" / "tf_serving_warmup_requests").write_bytes(content)
    staged.rename(base / "2")
    wait_for(lambda: "version 2 cannot be loaded" in running.log.read_text(), "the reason")
    assert "corrupted record at 0" in running.log.read_text()


# ---------------------------------------------------------------- how it is written


def test_sampling_takes_about_its_rate_and_a_reload_changes_it(logged, base, root):
    running = logged(logging_config(root / "half", rate=0.5))
    predictions(running, 200)
    with GrpcClient(running.grpc_address) as grpc:

        def reload(more: str) -> None:
            more = f"model_version_policy {{ all {{}} }} {more}"
            grpc.reload_config(f"model_config_list {{ {config_of('mlp', base, more)} }}")

        reload(logging_config(root / "new" / "all"))
        predictions(running, 10)
        reload("")
        predictions(running, 10)
        for elsewhere in ("/etc/model", f"{root}/../elsewhere"):
            with pytest.raises(ClientError, match="names no file below --request_log_root"):
                reload(logging_config(elsewhere))
    stop(running)
    assert 50 < sum(map(count_records, root.glob("half-mlp-*.tfrecord"))) < 150  # chance: less than one in 10^12
    assert sum(map(count_records, root.glob("new/all-mlp-*.tfrecord"))) == 10


def test_file_is_closed_when_it_is_full_and_begun_anew_when_it_is_removed(logged, root):
    running = logged(logging_config(root / "mlp"))
    large = {"features": np.zeros((300_000, 30), np.float32)}  # 36 MB
    with GrpcClient(running.grpc_address) as grpc:
        for number in (1, 2):
            grpc.predict("mlp", large)
            wait_for(lambda number=number: counted(running) == number, "the large record")
        grpc.predict("mlp", ROWS)
        wait_for(lambda: counted(running) == 3, "a third record")
        first, second = sorted(root.iterdir())
        assert [file.name.rsplit("-", 1)[1] for file in (first, second)] == ["00000.tfrecord", "00001.tfrecord"]
        assert second.stat().st_size < 10_000 < 64 << 20 < first.stat().st_size
        second.unlink()
        grpc.predict("mlp", ROWS)
        wait_for(lambda: len(list(root.iterdir())) == 2, "a new file")


def test_records_that_wait_are_written_at_sigterm(logged, root):
    running = logged(logging_config(root / "mlp"))
    predictions(running, 25)
    stop(running)
    (file,) = root.iterdir()
    assert count_records(file) == 25


def test_folder_that_cannot_be_written_loses_records_and_no_requests(logged, root):
    """A file where the folder should be: for root, permissions are no obstacle."""
    (root / "sub").write_text("in the way")
    running = logged(logging_config(root / "sub" / "mlp"))
    predictions(running, 5)
    wait_for(lambda: counted(running, "UNAVAILABLE") == 5, "the lost records counted")
    assert running.log.read_text().count("cannot be logged to") == 1
    (root / "sub").unlink()
    predictions(running)
    wait_for(lambda: counted(running) == 1, "a record")
    assert "are logged to" in running.log.read_text()
    assert "5 were not" in running.log.read_text()


@pytest.mark.slow
def test_full_disk_loses_records_and_no_requests(add_version, base, root, repository_folder):
    """No file may grow beyond 4 kB (RLIMIT_FSIZE, inherited by the server): a write is cut short, as on a full disk."""
    import resource

    add_version(1)
    config = base.parent / "models.config"
    config.write_text(f"model_config_list {{ {config_of('mlp', base, logging_config(root / 'mlp'))} }}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        context = local_server(config, engine="litert", flags=(f"--request_log_root={root}",))
        running = context.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    try:
        predictions(running, 30)
        wait_for(lambda: "cannot be logged to" in running.log.read_text(), "the reason")
        predictions(running)
        assert running.process.poll() is None
    finally:
        context.__exit__(None, None, None)
    for file in root.iterdir():
        count_records(file)


# ---------------------------------------------------------------- configs


@pytest.mark.parametrize(
    ("more", "flag", "sentence"),
    [
        (logging_config("{root}/a"), False, "start the server with --request_log_root="),
        (logging_config("{root}/a", collector="mysql"), True, "a log collector of the unknown type 'mysql'"),
        (logging_config("{root}/a", rate=1.5), True, "the sampling_rate 1.5; write a number from 0"),
        (logging_config(""), True, "the filename_prefix '', which names no file below --request_log_root"),
        (logging_config("{root}/"), True, "which names no file below --request_log_root"),
        (logging_config("a"), True, "which names no file below --request_log_root"),
        (logging_config("{root}/link/a"), True, "which names no file below --request_log_root"),
    ],
)
def test_bad_logging_config_is_one_sentence(more, flag, sentence, base, root):
    os.symlink("/tmp", root / "link")
    config = base.parent / "models.config"
    config.write_text(f"model_config_list {{ {config_of('mlp', base, more.replace('{root}', str(root)))} }}")
    flags = [f"--request_log_root={root}"] if flag else []
    line = refusal(f"--model_config_file={config}", *flags)
    assert line.startswith("error: ")
    assert sentence in line


def test_request_log_root_must_be_a_folder(base, tmp_path):
    line = refusal(f"--model_base_path={base}", f"--request_log_root={tmp_path / 'nosuch'}")
    assert "is no absolute path of a folder that exists" in line
