"""CONTRIBUTING.md, executed: its model is added to a copy of the repository, its target beside it, and the whole line runs.

``test_examples.py`` does in seconds what can be done in one process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.line.copy_of_repository import copy_repository
from tests.line.examples import write_examples

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENTS = (
    *(".venv", "edge/.venv", "edge/tflite-runtime/.venv", "serving/server/.venv", "web/.venv", "web/converter/.venv"),
    "web/demo/dist",
)


@pytest.fixture(scope="module")
def line(tmp_path_factory, repository):
    """A copy of the repository with the two files of CONTRIBUTING.md, the line run on the new model alone."""
    copy = copy_repository(repository, tmp_path_factory.mktemp("line") / "export-once", shared=ENVIRONMENTS)
    write_examples(copy)
    environment = {**os.environ, "MODELS": "wine", "TF_CPP_MIN_LOG_LEVEL": "2", **free_ports()}
    for name in ("ARTIFACTS", "REPORTS", "VERSIONS", "TARGETS"):
        environment.pop(name, None)

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=280)

    def must(*arguments: str) -> str:
        done = run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    try:
        # What `make deploy-all demo` runs.
        for step in ("models.train", "export", "lite --variants deployed", "web.convert", "serving.publish"):
            must(*step.split())
        must("deploy", "up")
        table = must("compare")
        yield copy, table, environment
    finally:
        run("deploy", "down")
        shutil.rmtree(copy, ignore_errors=True)


def free_ports() -> dict[str, str]:
    from tests.conftest import pick_free_port

    return {name: str(pick_free_port()) for name in ("GRPC_PORT", "REST_PORT", "WEB_PORT", "EDGE_PORT")}


def summary(copy: Path) -> dict:
    return json.loads((copy / "reports" / "summary.json").read_text())


pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]


def test_new_model_has_a_row_on_every_target_and_none_fails(line):
    copy, _, _ = line
    rows = [row for row in summary(copy)["rows"] if row["version"] == 2]
    found = {row["target"]: row["verdict"] for row in rows if row["model"] == "wine"}
    ours = {
        *("keras", "savedmodel", "serving-rest", "serving-grpc", "edge-http"),
        *(f"lite-{variant}" for variant in ("float32", "float16", "dynamic", "int8")),
        *(f"tfjs-{backend}" for backend in ("cpu", "wasm", "webgl", "webgpu")),
        *(
            "tfjs-wasm-float16",
            "tfjs-wasm-uint8",
            "litertjs-wasm",
            "litertjs-webgpu",
            "litertjs-wasm-int8",
            "node-wasm",
        ),
    }
    assert ours <= found.keys()
    assert "fail" not in found.values(), [row for row in rows if row["verdict"] == "fail"]
    # What is asked through an environment that a machine may lack (Python 3.11, a browser) may be skipped.
    optional = ("tfjs-", "litertjs-", "node-", "lite-int8@")
    assert all(verdict == "pass" for target, verdict in found.items() if not target.startswith(optional))


def test_new_target_is_judged_like_the_others(line):
    copy, _, _ = line
    (row,) = [row for row in summary(copy)["rows"] if row["target"] == "lite-float32-plain"]
    assert row["verdict"] == "pass"
    assert row["outputs"][0]["max_abs"] <= 1e-5
    assert row["latency"][0]["n"] > 0


def test_new_model_and_target_stand_in_the_table_and_the_report(line):
    copy, table, _ = line
    report = (copy / "reports" / "index.html").read_text()
    for text in ("wine", "lite-float32-plain"):
        assert text in table
        assert text in report


def test_new_model_is_served_by_edge_and_web(line):
    import httpx

    _, _, environment = line
    edge = httpx.get(f"http://127.0.0.1:{environment['EDGE_PORT']}/v1/models").json()
    assert [model["name"] for model in edge["models"]] == ["wine"]
    page = httpx.get(f"http://127.0.0.1:{environment['WEB_PORT']}/")
    assert page.status_code == 200


def test_older_version_can_be_asked_where_versions_are_served(line):
    copy, _, _ = line
    older = {row["target"] for row in summary(copy)["rows"] if row["version"] == 1}
    assert older == {"keras", "serving-rest", "serving-grpc"}
