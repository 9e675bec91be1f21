"""HandleReloadConfigRequest: whole or not at all, at once for requests, and in nobody's way while it waits."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from serving.client.errors import ClientError, Refused
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.local import LocalServer, local_server
from tests.serving.configs import model, models
from tests.serving.deadlines import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROW = {"features": np.ones((1, 30), np.float32)}


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[LocalServer]:
    """A server that starts with nothing; every test begins by telling it what to serve."""
    config = tmp_path_factory.mktemp("reload") / "models.config"
    config.write_text(models())
    with local_server(config, engine="litert", flags=("--file_system_poll_wait_seconds=0.1",)) as server:
        yield server


@pytest.fixture
def client(running: LocalServer) -> Iterator[GrpcClient]:
    with GrpcClient(running.grpc_address, timeout=20) as client:
        yield client
        client.reload_config(models())


@pytest.fixture
def mlp(repository_folder: Path) -> Path:
    return repository_folder / "mlp"


def states(client: GrpcClient | RestClient, name: str = "mlp") -> dict[int, str]:
    return {row["version"]: row["state"] for row in client.status(name)}


def served(client: GrpcClient, name: str = "mlp") -> set[int]:
    return {version for version, state in states(client, name).items() if state == "AVAILABLE"}


def served_or_none(client: GrpcClient, name: str) -> set[int]:
    try:
        return served(client, name)
    except Refused:
        return set()


def publish(source: Path, target: Path) -> None:
    """Copy and rename, so that the server never sees a part."""
    staged = target.parent.parent / f"staged-{target.name}"
    shutil.copytree(source, staged)
    staged.rename(target)


def test_added_model_answers_when_the_call_returns(client, mlp, repository_folder):
    client.reload_config(models(model("mlp", mlp)))
    assert client.predict("mlp", ROW)["probability"].shape == (1, 1)
    client.reload_config(models(model("mlp", mlp), model("cnn", repository_folder / "cnn", "all {}")))
    assert served(client, "cnn") == {1, 2}


def test_model_left_out_is_gone_at_once_and_its_status_ends(client, mlp):
    client.reload_config(models(model("mlp", mlp), model("other", mlp, "specific { versions: 1 }")))
    client.reload_config(models(model("mlp", mlp)))
    with pytest.raises(Refused, match=r"Servable not found for request: Latest\(other\)"):
        client.predict("other", ROW)
    wait_for(lambda: states(client, "other") == {1: "END"}, "its version ends")
    client.reload_config(models(model("other", mlp)))
    assert served(client, "other") == {2}


NO_PLATFORM = (
    "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
    "model name is new"
)
OTHER_PLATFORM = (
    "Illegal to change a model's platform. For model mlp platform was tensorflow and new platform requested is caffe"
)
REFUSED = [
    ("nothing", lambda path: "", "INVALID_ARGUMENT", "Only ModelConfigList is currently supported"),
    (
        "same name twice", lambda path: models(model("mlp", path), model("mlp", path)),
        "INVALID_ARGUMENT", "Illegal to list model mlp multiple times in config list",
    ),
    (
        "relative path", lambda path: models(model("r", "some/where")),
        "INVALID_ARGUMENT", "Expected model r to have an absolute path or URI; got base_path()=some/where",
    ),
    ("no name", lambda path: models(model("", path)), "INVALID_ARGUMENT", "a model has no name"),
    (
        "no platform", lambda path: models(model("mlp", path), model("new", path, platform="")),
        "INVALID_ARGUMENT", NO_PLATFORM,
    ),
    ("another platform", lambda path: models(model("mlp", path, platform="caffe")), "INVALID_ARGUMENT", OTHER_PLATFORM),
    (
        "unknown platform", lambda path: models(model("new", path, platform="caffe")),
        "INVALID_ARGUMENT", "Model new has the unsupported platform caffe",
    ),
    (
        "label of a version that is not there", lambda path: models(model("mlp", path, labels={"stable": 9})),
        "FAILED_PRECONDITION",
        "Request to assign label to version 9 of model mlp, which is not currently available for inference",
    ),
    (
        "label of a model that is new",
        lambda path: models(model("mlp", path), model("new", path, labels={"stable": 2})),
        "FAILED_PRECONDITION",
        "Request to assign label to version 2 of model new, which is not currently available for inference",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("case", "config", "code", "message"), REFUSED, ids=[case for case, *_ in REFUSED])
def test_refused_config_changes_nothing(case, config, code, message, client, mlp):
    client.reload_config(models(model("mlp", mlp, "all {}")))
    client.reload_config(models(model("mlp", mlp, "all {}", labels={"stable": 1})))
    with pytest.raises(Refused) as error:
        client.reload_config(config(mlp))
    assert error.value.code == code
    assert message in error.value.message
    assert served(client) == {1, 2}
    client.predict("mlp", ROW, label="stable")
    with pytest.raises(Refused, match="Servable not found"):
        client.predict("new", ROW)


def test_labels_move_with_the_call_and_versions_with_the_policy(client, mlp, exports):
    cases = {version: exports["mlp", version].evidence.cases("serving_default")[0] for version in (1, 2)}

    def answers_as(version: int, label: str | None = None) -> bool:
        answer = client.predict("mlp", cases[version].inputs, label=label)["probability"]
        return np.allclose(answer, cases[version].outputs["probability"], rtol=1e-5, atol=1e-5)

    client.reload_config(models(model("mlp", mlp, "all {}")))
    client.reload_config(models(model("mlp", mlp, "all {}", labels={"stable": 1, "canary": 2})))
    assert answers_as(1, "stable")
    assert answers_as(2, "canary")
    client.reload_config(models(model("mlp", mlp, "all {}", labels={"stable": 2})))
    assert answers_as(2, "stable")
    with pytest.raises(Refused, match="Unrecognized servable version label: canary"):
        client.predict("mlp", ROW, label="canary")
    client.reload_config(models(model("mlp", mlp, "specific { versions: 1 }")))
    wait_for(lambda: answers_as(1), "back on version 1")
    wait_for(lambda: states(client) == {1: "AVAILABLE", 2: "END"}, "version 2 ends")


def test_other_base_path_is_served_but_loads_no_version_anew(client, mlp, tmp_path, exports):
    case = exports["mlp", 1].evidence.cases("serving_default")[0]
    moved = tmp_path / "moved"
    shutil.copytree(mlp / "2", moved / "1")
    client.reload_config(models(model("mlp", mlp, "specific { versions: 1 }")))
    client.reload_config(models(model("mlp", moved)))
    publish(mlp / "2", moved / "3")
    wait_for(lambda: served(client) == {3}, "the new place is looked at")
    moved_back = models(model("mlp", mlp, "specific { versions: 1 }"))
    client.reload_config(moved_back)
    wait_for(lambda: served(client) == {1}, "version 1 again")
    answer = client.predict("mlp", case.inputs)["probability"]
    np.testing.assert_allclose(answer, case.outputs["probability"], rtol=1e-5, atol=1e-5)


def test_model_that_cannot_be_loaded_is_told_with_its_reason(client, mlp, tmp_path):
    (tmp_path / "bad" / "1").mkdir(parents=True)
    with pytest.raises(Refused) as error:
        client.reload_config(models(model("mlp", mlp), model("bad", tmp_path / "bad")))
    assert error.value.code == "UNKNOWN"
    assert error.value.message.startswith(
        "1 servable(s) did not become available: {{{name: bad version: 1} due to error: NOT_FOUND: Specified file path"
    )
    assert served(client) == {2}


def test_call_that_waits_for_a_missing_base_path_is_in_nobodys_way(client, running, mlp, tmp_path):
    later, base = tmp_path / "later", tmp_path / "mlp"
    shutil.copytree(mlp / "1", base / "1")
    outcome: list[object] = []

    def wait_for_it() -> None:
        with GrpcClient(running.grpc_address) as other:
            try:
                outcome.append(other.reload_config(models(model("mlp", base), model("later", later)), timeout=120))
            except ClientError as error:
                outcome.append(error)

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    wait_for(lambda: served_or_none(client, "mlp") == {1}, "the other model is served meanwhile")
    client.reload_config(models(model("mlp", base), model("later", later), model("more", mlp)))
    assert served(client, "more") == {2}
    publish(mlp / "2", base / "2")
    wait_for(lambda: served(client) == {2}, "a new version is found meanwhile")
    assert waiting.is_alive()
    publish(mlp, later)
    waiting.join(60)
    assert outcome == [None]
    assert served(client, "later") == {2}


def test_base_path_that_cannot_be_looked_at_is_in_nobodys_way(client, mlp, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    odd_paths = ("/a\\000b", tmp_path / "loop", "/" + "long" * 2000, "/proc/self/mem")
    for number, odd in enumerate(odd_paths):
        with pytest.raises(ClientError) as error:
            client.reload_config(models(model(f"odd{number}", odd)), timeout=0.3)
        assert error.value.code == "DEADLINE_EXCEEDED"
    client.reload_config(models(model(f"odd{number}", odd), model("mlp", mlp)))
    client.predict("mlp", ROW)


def test_call_that_waits_for_a_model_ends_when_another_takes_the_model_out(client, running, mlp, tmp_path):
    errors: list[ClientError] = []

    def wait_in_vain() -> None:
        with GrpcClient(running.grpc_address) as other:
            try:
                other.reload_config(models(model("mlp", mlp), model("never", tmp_path / "never")), timeout=60)
            except ClientError as error:
                errors.append(error)

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    wait_for(lambda: "new: mlp, never" in running.log.read_text(), "the first call is at work")
    client.reload_config(models(model("mlp", mlp)))
    waiting.join(20)
    assert [(error.code, error.message) for error in errors] == [
        ("ABORTED", "Model never was taken out by a later config")
    ]


@pytest.mark.slow
def test_no_request_fails_while_configs_change(client, running, mlp):
    client.reload_config(models(model("mlp", mlp, "all {}")))
    client.reload_config(models(model("mlp", mlp, "all {}", labels={"stable": 1})))
    failed: list[str] = []
    counts: list[int] = []
    done = threading.Event()

    def ask(make: Callable[[], GrpcClient | RestClient], label: str | None) -> None:
        count = 0
        with make() as asking:
            while not done.is_set():
                try:
                    asking.predict("mlp", ROW, label=label)
                    count += 1
                except ClientError as error:
                    failed.append(str(error))
        counts.append(count)

    kinds = (lambda: GrpcClient(running.grpc_address), lambda: RestClient(running.rest_address))
    threads = [threading.Thread(target=ask, args=(kind, label)) for kind in kinds for label in (None, "stable")]
    for thread in threads:
        thread.start()
    for round_ in range(40):
        stable = 1 + round_ % 2
        client.reload_config(models(model("mlp", mlp, "all {}", labels={"stable": stable})))
        wait_for(lambda: served(client) == {1, 2}, "both versions")
        policy = f"specific {{ versions: {stable} }}"
        client.reload_config(models(model("mlp", mlp, policy, labels={"stable": stable}), model("other", mlp)))
        wait_for(lambda: served(client) == {stable}, "one version")  # noqa: B023
        client.reload_config(models(model("mlp", mlp, "all {}", labels={"stable": stable})))
        wait_for(lambda: served(client) == {1, 2}, "both versions again")
    done.set()
    for thread in threads:
        thread.join(20)
    assert failed == []
    assert len(counts) == 4
    assert min(counts) > 20


def test_engine_is_in_the_log_and_beside_the_status(client, running, mlp):
    client.reload_config(models(model("mlp", mlp, "all {}")))
    assert "mlp version 2 is available on litert (" in running.log.read_text()
    import httpx

    answer = httpx.get(f"http://{running.rest_address}/v1/models/mlp")
    assert answer.headers["x-model-server"] == "model-server; version 2: litert; version 1: litert"


@pytest.mark.slow
def test_polled_config_file_is_applied_undoes_reloads_and_may_be_broken(repository_folder, tmp_path):
    mlp, config = repository_folder / "mlp", tmp_path / "models.config"
    config.write_text(models(model("mlp", mlp, "specific { versions: 1 }")))
    flags = ("--file_system_poll_wait_seconds=0.1", "--model_config_file_poll_wait_seconds=0.2")
    with local_server(config, engine="litert", flags=flags) as server, GrpcClient(server.grpc_address) as client:
        assert served(client) == {1}
        config.write_text(models(model("mlp", mlp, "all {}"), model("second", mlp)))
        wait_for(lambda: served(client) == {1, 2}, "the changed policy")
        wait_for(lambda: served_or_none(client, "second"), "the second model")
        assert client.predict("second", ROW)
        client.reload_config(models(model("third", mlp)))
        wait_for(lambda: not served_or_none(client, "third"), "the reload is undone")
        wait_for(lambda: served_or_none(client, "mlp") == {1, 2}, "what the file says")
        config.write_text("model_config_list { nonsense }")
        wait_for(lambda: "the config stays as it was" in server.log.read_text(), "the broken file is reported")
        config.unlink()
        wait_for(lambda: "the config file cannot be read" in server.log.read_text(), "the missing file is reported")
        assert served(client) == {1, 2}
        assert server.log.read_text().count("nonsense") <= 2


@pytest.mark.slow
def test_nothing_is_loaded_from_outside_of_the_model_roots(repository_folder, tmp_path):
    mlp = repository_folder / "mlp"
    inside = tmp_path / "inside"
    (inside / "mixed").mkdir(parents=True)
    shutil.copytree(mlp / "1", inside / "mlp" / "1")
    (inside / "link").symlink_to(mlp)
    (inside / "loop").symlink_to(inside / "loop")
    config = tmp_path / "models.config"
    config.write_text(models(model("mlp", inside / "mlp")))
    flags = (f"--model_roots={tmp_path / 'inside'}", "--file_system_poll_wait_seconds=0.1")
    with local_server(config, engine="litert", flags=flags) as server, GrpcClient(server.grpc_address) as client:
        for outside in (mlp, inside / "link", inside / ".." / "elsewhere", inside / "loop", "/"):
            with pytest.raises(Refused, match="of model new is outside of --model_roots") as error:
                client.reload_config(models(model("mlp", inside / "mlp"), model("new", outside)))
            assert error.value.code == "INVALID_ARGUMENT"
        (inside / "mixed" / "1").symlink_to(inside / "mlp" / "1")
        client.reload_config(models(model("mixed", inside / "mixed", "all {}")))
        (inside / "mixed" / "2").symlink_to(mlp / "2")
        wait_for(
            lambda: states(client, "mixed") == {1: "AVAILABLE", 2: "END"}, "the link that leads outside is refused"
        )
        (row,) = client.status("mixed", version=2)
        assert row["error_code"] == "INVALID_ARGUMENT"
        assert "outside of --model_roots" in row["error_message"]


def test_call_that_waits_does_not_keep_a_server_from_stopping(serve, add_version, base, tmp_path):
    add_version(1)
    running = serve()
    errors: list[ClientError] = []

    def wait_in_vain() -> None:
        with GrpcClient(running.grpc_address) as other:
            try:
                other.reload_config(models(model("mlp", base), model("never", tmp_path / "never")), timeout=60)
            except ClientError as error:
                errors.append(error)

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    wait_for(lambda: "new: never" in running.log.read_text(), "the call is at work")
    running.process.terminate()
    waiting.join(20)
    assert [error.code for error in errors] == ["UNAVAILABLE"]
    assert running.process.wait(15) == 0
