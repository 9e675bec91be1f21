"""Versions that come, break, go and are published anew while the server runs."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import DeployError
from serving.client.errors import Refused
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from tests.serving.configs import model
from tests.serving.deadlines import wait_for


def states(client: RestClient | GrpcClient, name: str = "mlp") -> dict[int, str]:
    return {row["version"]: row["state"] for row in client.status(name)}


def test_version_added_while_running_takes_over_and_latest_lets_the_old_one_go(serve, add_version, exports):
    add_version(1)
    running = serve("latest { num_versions: 1 }")
    case = exports["mlp", 2].evidence.cases("serving_default")[0]
    with GrpcClient(running.grpc_address) as client:
        assert states(client) == {1: "AVAILABLE"}
        add_version(2)
        wait_for(lambda: states(client) == {2: "AVAILABLE", 1: "END"}, "version 2 available, version 1 unloaded")
        answer = client.predict("mlp", case.inputs)["probability"]
        np.testing.assert_allclose(answer, case.outputs["probability"], rtol=1e-5, atol=1e-5)
        with pytest.raises(Refused, match="Specific"):
            client.predict("mlp", case.inputs, version=1)


def test_policies_choose_what_is_served(serve, base, add_version):
    for version, of in ((1, 1), (2, 2), (5, 1)):
        add_version(version, of=of)
    others = (model("latest", base, "latest { num_versions: 2 }"), model("all", base, "all {}"))
    running = serve("specific { versions: 1 versions: 5 }", more="} " + " ".join(others).removesuffix("}"))
    with RestClient(running.rest_address) as client:
        assert states(client) == {5: "AVAILABLE", 1: "AVAILABLE"}
        assert states(client, "latest") == {5: "AVAILABLE", 2: "AVAILABLE"}
        assert states(client, "all") == {5: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"}


@pytest.mark.parametrize("damage", ["model.tflite", "saved_model.pb"])
def test_broken_version_is_reported_and_never_replaces_a_good_one(damage, serve, base, add_version, exports):
    add_version(1)
    running = serve("latest { num_versions: 1 }")
    staged = add_version(2).rename(base.parent / "broken")
    broken = staged / damage
    broken.unlink()  # a hard link may be shared with the repository
    broken.write_bytes(b"\x08\xff\xffnot a model" * 50)
    staged.rename(base / "2")
    case = exports["mlp", 1].evidence.cases("serving_default")[0]
    with RestClient(running.rest_address) as client:
        wait_for(lambda: states(client).get(2) == "END", "the broken version ends")
        rows = {row["version"]: row for row in client.status("mlp")}
        assert rows[1]["state"] == "AVAILABLE"
        assert rows[2]["error_code"] != "OK"
        assert damage in rows[2]["error_message"]
        answer = client.predict("mlp", case.inputs)["probability"]
        np.testing.assert_allclose(answer, case.outputs["probability"], rtol=1e-5, atol=1e-5)


def test_removed_version_is_unloaded_and_may_come_back(serve, base, add_version):
    add_version(1)
    second = add_version(2)
    running = serve("all {}")
    with GrpcClient(running.grpc_address) as client:
        away = second.rename(base.parent / "away")
        wait_for(lambda: states(client) == {2: "END", 1: "AVAILABLE"}, "version 2 unloaded")
        away.rename(base / "2")
        wait_for(lambda: states(client) == {2: "AVAILABLE", 1: "AVAILABLE"}, "version 2 back")


def test_base_path_that_vanishes_takes_nothing_away(serve, base, add_version):
    add_version(1)
    running = serve("all {}")
    with GrpcClient(running.grpc_address) as client:
        away = base.rename(base.parent / "away")
        with pytest.raises(AssertionError, match="never"):
            wait_for(lambda: states(client) != {1: "AVAILABLE"}, "never", seconds=1.0)
        away.rename(base)
        add_version(2)
        wait_for(lambda: states(client) == {2: "AVAILABLE", 1: "AVAILABLE"}, "version 2 found again")


def test_version_published_anew_is_loaded_again(serve, base, add_version, exports):
    first = add_version(1)
    running = serve("all {}")
    cases = {version: exports["mlp", version].evidence.cases("serving_default")[0] for version in (1, 2)}
    with GrpcClient(running.grpc_address) as client:

        def answers_as(version: int) -> bool:
            answer = client.predict("mlp", cases[version].inputs)["probability"]
            return np.allclose(answer, cases[version].outputs["probability"], rtol=1e-5, atol=1e-5)

        assert answers_as(1)
        first.rename(base.parent / "old")
        add_version(1, of=2)
        wait_for(lambda: answers_as(2), "the new content of version 1")


@pytest.mark.slow
def test_ports_open_only_when_a_version_is_loaded(serve, base, add_version, spawn, free_port, tmp_path):
    from serving.local import start, wait_until_open

    config = tmp_path / "waiting.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "mlp" base_path: "{base}" model_platform: "tensorflow" }} }}'
    )
    grpc_port, rest_port = free_port(), free_port()
    log = tmp_path / "log"
    process = start(config, grpc_port=grpc_port, rest_port=rest_port, engine="litert", log=log)
    try:
        wait_for(lambda: "waiting for a version of mlp" in log.read_text(), "the server says what it waits for")
        with pytest.raises(DeployError, match="was not ready within"):
            wait_until_open(process, grpc_port, log, limit=0.5)
        add_version(1)
        wait_until_open(process, grpc_port, log)
        with RestClient(f"127.0.0.1:{rest_port}") as client:
            assert states(client) == {1: "AVAILABLE"}
    finally:
        process.terminate()
        process.wait(15)


@pytest.mark.slow
def test_signal_while_it_waits_for_a_labelled_version_is_no_error(base, free_port, tmp_path):
    from serving.local import start

    config = tmp_path / "waiting.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "mlp" base_path: "{base}" model_platform: "tensorflow" '
        'version_labels { key: "stable" value: 1 } } }'
    )
    log = tmp_path / "log"
    process = start(config, grpc_port=free_port(), rest_port=free_port(), engine="litert", log=log)
    wait_for(lambda: "waiting for a version of mlp" in log.read_text(), "the server says what it waits for")
    process.terminate()
    assert process.wait(15) == 0
    assert "error" not in log.read_text()


def test_label_to_a_version_that_is_not_there_stops_the_start(serve, add_version):
    add_version(1)
    label = 'version_labels { key: "canary" value: 7 }'
    with pytest.raises(DeployError, match="assign label to version 7 of model mlp"):
        serve("all {}", more=label)
    running = serve("all {}", "--allow_version_labels_for_unavailable_models=true", more=label)
    with RestClient(running.rest_address) as client, pytest.raises(Refused, match=r"Specific\(mlp, 7\)"):
        client.predict("mlp", {"features": np.ones((1, 30), np.float32)}, version=7)


def test_version_that_cannot_be_loaded_stops_the_start(serve, base):
    (base / "1").mkdir()
    with pytest.raises(
        DeployError,
        match=r"did not become available: \{\{\{name: mlp version: 1\} due to error: NOT_FOUND: Specified file path does not",
    ):
        serve("all {}")
