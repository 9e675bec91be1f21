"""Two versions on live traffic: what is told, for whom it speaks, and what a mistake is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from compare.__main__ import main
from compare.versions import Side, Traffic, compare_versions
from models.artifacts import REPOSITORY, artifacts_root
from models.errors import ModelError, TargetError
from serving.local import LocalServer, local_server
from serving.models_config import config_text
from tests.commands import run_command

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = {"mlp": {"stable": 1, "canary": 2}, "cnn": {"stable": 2, "canary": 2}}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server of its own, whatever has been promoted in the deployment.

    Both versions of mlp and lstm as they are; the cnn's version 2 under both numbers; a transformer whose version 2 takes
    other inputs than its evidence has.
    """
    base = tmp_path_factory.mktemp("repository")
    repository = artifacts_root() / "repository"
    for model, version, of in (
        ("mlp", 1, "mlp/1"), ("mlp", 2, "mlp/2"), ("mlp", 3, "mlp/1"), ("lstm", 1, "lstm/1"), ("lstm", 2, "lstm/2"),
        ("cnn", 1, "cnn/2"), ("cnn", 2, "cnn/2"), ("transformer", 1, "transformer/1"), ("transformer", 2, "cnn/2"),
    ):  # fmt: skip
        shutil.copytree(repository / of, base / model / str(version))
        shutil.rmtree(base / model / str(version) / "assets.extra")  # warm-up requests name their model
    config = base / "models.config"
    models = {"mlp": [1, 2, 3], "cnn": [1, 2], "lstm": [1, 2], "transformer": [1, 2]}
    config.write_text(config_text(models, base, LABELS))
    with local_server(config, engine="litert") as running:
        yield running


def addresses(live: LocalServer) -> dict[str, str]:
    return {"grpc_address": live.grpc_address, "rest_address": live.rest_address}


def test_better_version_is_to_be_promoted(live, exports):
    found = compare_versions("mlp", seconds=0, **addresses(live))
    assert found["verdict"] == "better"
    assert found["sentence"].startswith("canary (version 2) is better: roc_auc ")
    assert found["next"] == "promote it: `python -m serving.publish promote mlp --to 2`"
    rows = exports["mlp", 2].evidence.case("serving_default", "test").rows
    for side, version in zip(found["sides"], (1, 2), strict=True):
        assert side["version"] == version
        assert [row["protocol"] for row in side["traffic"]] == ["grpc", "rest"]
        assert sum(row["requests"] for row in side["traffic"]) >= rows
        for row in side["traffic"]:
            assert row["errors"] == {}
            assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert found["shift"]["n"] == rows
    assert 0.5 < found["shift"]["agreement"] < 1
    assert found["difference"][0] > 0


def test_worse_version_is_not_to_be_promoted_a_regression_too(live):
    for model, metric in (("mlp", "roc_auc"), ("lstm", "mae")):
        found = compare_versions(model, "2", "1", seconds=0, **addresses(live))
        assert found["verdict"] == "worse"
        assert found["sentence"].startswith(f"version 1 is worse: {metric} ")
        assert found["next"].startswith("do not promote it; `python -m serving.publish rollback")
    assert found["shift"]["agreement"] is None


def test_version_that_answers_the_same_is_no_better(live):
    found = compare_versions("cnn", "1", "2", seconds=0, **addresses(live))
    assert found["verdict"] == "same"
    assert found["sentence"].startswith("no clear difference: ")
    assert found["shift"]["agreement"] == 1
    assert found["difference"] == (0, 0)


def test_version_that_fails_is_worse(live, exports):
    found = compare_versions("transformer", "1", "2", seconds=0, **addresses(live))
    assert found["verdict"] == "worse"
    assert "fails" in found["sentence"]
    assert "not found in request" in found["sentence"]
    assert found["shift"] is None
    rows = exports["transformer", 2].evidence.case("serving_default", "test").rows
    old, new = (sum(sum(row["errors"].values()) for row in side["traffic"]) for side in found["sides"])
    assert old == 0
    assert new >= rows


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("cnn",), ModelError, "stable and canary of cnn are both version 2; name two that differ"),
        (("mlp", "1", "9"), TargetError, "has no 9 of mlp .*Specific.mlp, 9.*serving.publish status"),
        (("mlp", "stable", "beta"), TargetError, "has no beta of mlp .*Unrecognized servable version label: beta"),
        (("mlp", "1", "3"), ModelError, "no labelled test rows of mlp version 3"),
        (("nothing",), TargetError, "has no stable of nothing"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(arguments, error, words, live):
    with pytest.raises(error, match=words):
        compare_versions(*arguments, seconds=0, **addresses(live))


def test_server_that_is_not_there_is_one_sentence(free_port):
    with pytest.raises(TargetError, match=r"no server answers at .*make deploy-all"):
        compare_versions("mlp", grpc_address=f"127.0.0.1:{free_port()}")


def test_command_prints_a_table_or_json_and_its_exit_code_is_the_verdict(live):
    where = ["--grpc-address", live.grpc_address, "--rest-address", live.rest_address, "--seconds", "0.2"]

    told = run_command(main, "versions", "mlp", *where)
    assert told.returncode == 0, told.stderr
    for words in ("mlp on live traffic", "1 (stable)", "2 (canary)", "p99", "agreement", "better", "next: promote it"):
        assert words in told.stdout
    asked = run_command(main, "versions", "mlp", "2", "1", "--json", *where)
    assert asked.returncode == 1
    assert json.loads(asked.stdout)["verdict"] == "worse"
    refused = run_command(main, "versions", "cnn", *where)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: stable and canary of cnn")
    assert len(refused.stderr.splitlines()) == 1


def test_time_that_is_none_is_refused():
    done = run_command(main, "versions", "mlp", "--seconds", "nan")
    assert done.returncode == 2
    assert "--seconds=nan is no time; give a number of seconds" in done.stderr


def test_command_in_a_process_of_its_own_ends_without_a_traceback(free_port):
    command = [sys.executable, "-m", "compare", "versions", "mlp", "--grpc-address", f"127.0.0.1:{free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no server answers at ")
    assert "Traceback" not in done.stderr


class OneOutput:
    """A client of versions with the one output ``name``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def predict(self, model, inputs, **which):
        return {self._name: np.zeros((1, 1), np.float32)}


def test_version_without_the_deciding_output_is_an_error_of_its_requests(exports):
    export = exports["mlp", 2]
    case = export.evidence.case("serving_default", "test")
    traffic = Traffic(export, case, (Side("1", 1), Side("2", 2)), {"grpc": OneOutput("other")})
    traffic.run(0)
    for which in ("old", "new"):
        (measured,) = traffic.measured[which]
        assert list(measured.errors) == ["no output probability; there are: other"]
