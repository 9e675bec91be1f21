"""``python -m compare.check`` on SavedModels as users have them; called in this process, which saves a start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from compare.check import _soften, main
from compare.comparison import Outcome
from compare.rows import Row
from compare.verdict import Verdict
from lite.variants import DEPLOYED
from tests.commands import run_command
from tests.conftest import is_gone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """two_in_two_out, words, fixed_batch and broken."""
    from tests.compare.make_models import save_all

    folder = tmp_path_factory.mktemp("models")
    save_all(folder)
    return folder


@pytest.fixture(scope="module")
def brought(models, tmp_path_factory):
    """What a check keeps of ``two_in_two_out``, which is not converted yet, and of the others, whose lite files are.

    TensorFlow is started once for all of them; each of a check's own processes would start it for itself.
    """
    from export.bring import bring
    from lite.build import build

    folder = tmp_path_factory.mktemp("brought")
    own_inputs = folder / "inputs.npz"
    np.savez(own_inputs, x=np.random.default_rng(5).normal(size=(8, 6)).astype(np.float32))
    kept = folder / "artifacts" / "check"
    bring(models / "two_in_two_out", name="two_in_two_out", root=kept / "two_in_two_out")
    together = folder / "together"
    bring(models / "words", name="words", root=together)
    bring(models / "fixed_batch", name="fixed_batch", root=together, inputs_npz=own_inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARTIFACTS", str(together))
        build(variants=DEPLOYED)
    for name, other in (("words", "fixed_batch"), ("fixed_batch", "words")):
        shutil.copytree(together, kept / name, ignore=shutil.ignore_patterns(other))
    return folder


@pytest.fixture
def check(tmp_path):
    """``check(path, …, artifacts=None)`` → (exit code, summary or None, output)."""

    def run(path, *options, artifacts=None):
        reports = tmp_path / "reports"
        where = {"ARTIFACTS": str(artifacts or tmp_path / "artifacts"), "REPORTS": str(reports), "MODELS": ""}
        done = run_command(main, path, *options, **where)
        summary = reports / "check" / path.name / "summary.json"
        found = json.loads(summary.read_text()) if summary.is_file() else None
        return done.returncode, found, done.stdout + done.stderr

    return run


def rows_of(summary):
    return {row["target"]: row for row in summary["rows"]}


ONE_OF_EACH_KIND = (
    "keras,savedmodel,serving-rest,serving-grpc,lite-float32,lite-float16,lite-int8,lite-dynamic,edge-http,"
    "tfjs-wasm,litertjs-wasm,node-wasm"
)


@pytest.mark.parametrize(
    "targets",
    [pytest.param(ONE_OF_EACH_KIND, id="one-of-each-kind"), pytest.param("", id="all", marks=pytest.mark.ci)],
)
def test_check_of_several_inputs_and_outputs_passes_on_every_float_target(check, models, targets):
    code, summary, output = check(models / "two_in_two_out", "--targets", targets)
    assert code == 0, output
    rows = rows_of(summary)
    assert {o["name"] for o in rows["savedmodel"]["outputs"]} == {"score", "total"}
    for target in ("savedmodel", "serving-rest", "serving-grpc", "lite-float32", "lite-float16"):
        assert rows[target]["verdict"] == "pass", rows[target]
        assert all(o["n"] >= 4 for o in rows[target]["outputs"])
    for target in ("lite-int8", "lite-dynamic", "edge-http"):
        assert rows[target]["verdict"] == "info", rows[target]
    assert rows["keras"]["verdict"] == "skipped"
    assert all(row["reason"] for row in summary["rows"] if row["verdict"] == "skipped")
    assert "INPUTS=file.npz" in output


def test_quantized_row_informs_and_a_float_one_fails_even_where_the_runtime_broke(linear_export):
    broken = Verdict("fail", "the runtime crashed (SIGSEGV)", "Run it alone.")
    rows = [Row(linear_export, f"lite-{name}", name, name, broken) for name in ("int8", "float32")]
    _soften(Outcome(rows), linear_export)
    assert [(row.verdict.verdict, row.verdict.reason) for row in rows] == [
        ("info", broken.reason),
        ("fail", broken.reason),
    ]


def test_check_of_strings_runs_where_strings_run(check, models, brought):
    code, summary, output = check(
        models / "words", "--targets", "savedmodel,lite-float32,edge-http", artifacts=brought / "artifacts"
    )
    assert code == 0, output
    rows = rows_of(summary)
    assert rows["savedmodel"]["verdict"] == "pass"
    for target in ("lite-float32", "edge-http"):
        assert rows[target]["verdict"] == "skipped"
        assert "string" in rows[target]["reason"].lower()


def test_check_of_a_fixed_batch_with_inputs_of_ones_own(check, models, brought):
    chosen = ("--inputs", brought / "inputs.npz", "--targets", "savedmodel,lite-float32,lite-int8,serving-rest")
    code, summary, output = check(models / "fixed_batch", *chosen, artifacts=brought / "artifacts")
    assert code == 0, output
    rows = rows_of(summary)
    assert rows["savedmodel"]["verdict"] == "pass"
    assert rows["savedmodel"]["outputs"][0]["batches"] == [2]
    assert rows["savedmodel"]["outputs"][0]["n"] == 8
    assert "made up" not in output


@pytest.mark.parametrize("name", ["broken", "absent"])
def test_check_of_what_is_no_model_is_one_sentence(check, models, name):
    code, summary, output = check(models / name)
    assert code == 2
    assert summary is None
    errors = [line for line in output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert str(models / name) in errors[0]
    assert "Traceback" not in output


@pytest.mark.ci  # tests/export/test_bring.py has the sentence; that a check passes one on, the broken model shows
def test_check_with_inputs_that_do_not_fit_is_one_sentence(check, models, tmp_path):
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, y=np.zeros((4, 6), np.float32))
    code, _, output = check(models / "fixed_batch", "--inputs", inputs)
    assert code == 2
    assert "the model's inputs are ['x']" in output
    assert "Traceback" not in output


def test_check_that_is_interrupted_leaves_no_process(models, brought, tmp_path, repository):
    kept = Path("check") / "two_in_two_out"
    shutil.copytree(brought / "artifacts" / kept, tmp_path / "artifacts" / kept)
    folders = {"ARTIFACTS": str(tmp_path / "artifacts"), "REPORTS": str(tmp_path / "reports")}
    process = subprocess.Popen(
        [sys.executable, "-m", "compare.check", str(models / "two_in_two_out")],
        cwd=repository,
        env={**os.environ, **folders},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    try:
        for line in process.stdout:
            if line.startswith("converting: "):
                break
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    deadline = time.monotonic() + 60
    while alive := [member for member in family if not is_gone(member)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)
