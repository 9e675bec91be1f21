"""`python -m lite`: what it needs, what it leaves, and what an interruption does to it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from edge.runtime import LiteModel
from export.bundle import Export
from lite import build
from lite.variants import DEPLOYED, VARIANTS
from models.artifacts import REPOSITORY
from tests.conftest import is_gone
from tests.lite.building import description, run_lite

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lite.building import KeptWorkers


def wait_for(condition, *, seconds: float = 120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.02)
    raise AssertionError("not within the time")


def converters() -> list[psutil.Process]:
    """The workers of this process."""
    return [child for child in psutil.Process().children() if "lite.worker" in child.cmdline()]


@pytest.mark.slow
def test_build_with_a_crashing_converter_names_the_crash_and_goes_on(mlp_root: Path, workers: KeptWorkers):
    before = set(converters())

    def crash() -> None:
        (worker,) = wait_for(lambda: set(converters()) - before)  # it is loading TensorFlow for a long time yet
        worker.send_signal(signal.SIGSEGV)

    thread = threading.Thread(target=crash)
    thread.start()
    done = run_lite(mlp_root, "--variants", "float32", "float16", workers=functools.partial(workers.__call__, new=True))
    thread.join()
    assert done.returncode == 0, done.stderr
    export = Export(mlp_root, "mlp", 2)
    assert description(export, "float32")["error"] == "the TFLite converter crashed (SIGSEGV)"
    assert not export.lite("float32").exists()
    assert LiteModel(export.lite("float16")).variant == "float16"


@pytest.mark.slow
def test_build_from_the_savedmodel_alone_then_only_what_is_out_of_date(mlp_root: Path, workers: KeptWorkers):
    assert not (mlp_root / "training").exists()
    export = Export(mlp_root, "mlp", 2)
    done = run_lite(mlp_root, "--variants", "deployed", workers=workers)
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in (mlp_root / "lite").rglob("*.tflite")} == set(DEPLOYED)
    assert done.stdout.splitlines()[-1].endswith(f"result in {mlp_root / 'lite'}")

    again = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from lite.build import build; from lite.variants import DEPLOYED; "
            "print(build(variants=DEPLOYED), 'tensorflow' in sys.modules)",
        ],
        cwd=REPOSITORY,
        env={**os.environ, "ARTIFACTS": str(mlp_root)},
        capture_output=True,
        text=True,
    )
    assert again.stdout.strip() == f"([], {len(DEPLOYED)}) False"

    export.lite("float16").write_bytes(export.lite("float16").read_bytes()[:-1])
    export.lite("server").unlink()
    described = json.loads(export.evidence_json.read_text())
    described["evidence"]["sha256"] = "other samples"
    export.evidence_json.write_text(json.dumps(described))
    done = run_lite(mlp_root, "--variants", "deployed", workers=workers)
    assert "4 files converted, 0 cannot be, 2 up to date" in done.stdout  # the damaged, the missing, two calibrated
    assert LiteModel(export.lite("float16")).predict(export.evidence.cases()[0].inputs)


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from lite import build

moment, made = sys.argv[1], Path(sys.argv[2])
rename = os.replace

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Ready(build.Worker):
    def ask(self, request, name):
        shutil.copy(made / f"{request['variant']}.tflite", request["output"])
        if moment == "file half written" and request["variant"] == "float16":
            Path(request["output"]).write_bytes(Path(request["output"]).read_bytes()[:1000])
            die()
        return {"has_recurrent": False, "calibration": None, "compression": None}

def replace(source, target):
    if moment == "json not there yet" and Path(target).name == "float16.json":
        die()
    rename(source, target)

build.Worker, os.replace = Ready, replace
build.build(variants=["float32", "float16"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["file half written", "json not there yet"])
def test_build_killed_at_the_worst_moment_is_taken_up_again(
    mlp_root: Path, exports: dict[tuple[str, int], Export], workers: KeptWorkers, moment: str
):
    """The files that are written were converted before, so that the process that is killed needs no TensorFlow."""
    made = exports["mlp", 2].lite("float32").parent
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, moment, made], cwd=REPOSITORY, env={**os.environ, "ARTIFACTS": str(mlp_root)}
    )
    assert killed.returncode == -signal.SIGKILL
    folder = mlp_root / "lite" / "mlp" / "2"
    assert {path.name for path in folder.glob("[!.]*.json")} == {"float32.json"}
    assert LiteModel(folder / "float32.tflite").sha256
    assert (folder / "float16.tflite").exists() == (moment == "json not there yet")
    assert list(folder.glob(".tmp-*"))
    done = run_lite(mlp_root, "--variants", "float32", "float16", workers=workers)
    assert "1 files converted, 0 cannot be, 1 up to date" in done.stdout, done.stdout + done.stderr
    assert not list(folder.glob(".tmp-*"))
    assert {LiteModel(path).variant for path in folder.glob("*.tflite")} == {"float32", "float16"}


@pytest.mark.slow
@pytest.mark.parametrize("end", [pytest.param("kill", marks=pytest.mark.exhaustive), "Ctrl-C"])
def test_build_interrupted_leaves_nothing_half_written_and_the_next_one_recovers(
    mlp_root: Path, workers: KeptWorkers, end: str
):
    folder = mlp_root / "lite" / "mlp" / "2"
    variants = ("float32", "float16", "int8")
    process = subprocess.Popen(
        [sys.executable, "-m", "lite", "--variants", *variants],
        cwd=REPOSITORY,
        env={**os.environ, "ARTIFACTS": str(mlp_root), "MODELS": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: set(folder.glob("*")))
        family = psutil.Process(process.pid).children(recursive=True)
        if end == "Ctrl-C":  # reaches the workers as well
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(120) == 130
    finally:
        process.kill()
        process.wait()
    for described in folder.glob("[!.]*.json"):  # what is being written has a name of its own
        assert LiteModel(described.with_suffix(".tflite")).sha256
    wait_for(lambda: all(map(is_gone, family)))
    done = run_lite(mlp_root, "--variants", *variants, workers=workers)
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob(".tmp-*"))
    assert {LiteModel(path).variant for path in folder.glob("*.tflite")} == set(variants)


def test_two_models_are_converted_at_a_time(
    tmp_path: Path, exports: dict[tuple[str, int], Export], monkeypatch: pytest.MonkeyPatch
):
    """The files were converted before: each worker waits here until the other one has been asked too."""
    both, asked = threading.Barrier(2), []

    class Ready(build.Worker):
        def ask(self, request: dict, name: str) -> dict:
            asked.append(self)
            both.wait(60)
            shutil.copy(exports[request["model"], request["version"]].lite(request["variant"]), request["output"])
            return {"has_recurrent": False, "calibration": None, "compression": None}

    for model in ("mlp", "cnn"):
        for part in ("savedmodels", "evidence"):
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / part / model).symlink_to(exports[model, 2].root / part / model)
    monkeypatch.setattr(build, "Worker", Ready)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    variants = ["float32", "float16"]
    results, current = build.build(tmp_path, variants=variants)
    assert (len(results), current) == (8, 0)  # two models, two versions, two variants
    assert not [result.error for result in results if result.error]
    assert len(set(map(id, asked))) == 2
    assert build.build(tmp_path, variants=variants) == ([], 8)


@pytest.mark.slow
def test_build_of_a_damaged_savedmodel_says_so_in_each_json(mlp_root: Path, workers: KeptWorkers):
    path = mlp_root / "savedmodels" / "mlp" / "2" / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:1000])
    done = run_lite(mlp_root, "--variants", "float32", workers=workers)
    assert done.returncode == 0, done.stderr
    error = description(Export(mlp_root, "mlp", 2), "float32")["error"]
    assert error == f"{path} is damaged; delete its folder and export it again"
    path.unlink()
    done = run_lite(mlp_root)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path} is missing")


def test_build_with_a_wrong_setting_is_one_sentence(mlp_root: Path, tmp_path_factory: pytest.TempPathFactory):
    done = run_lite(mlp_root, "--variants", "int4")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: there is no variant named 'int4'; choose among {', '.join(VARIANTS)}, or deployed alone\n"
    )
    done = run_lite(tmp_path_factory.mktemp("empty"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is nothing to convert")


@pytest.mark.slow
@pytest.mark.parametrize("variant", [*DEPLOYED, "weight-only"])
@pytest.mark.parametrize("model", ["two", "fixed"])
def test_user_model_with_several_or_fixed_inputs_is_converted(user_root: Path, model: str, variant: str):
    export = Export(user_root, model, 1)
    (case,) = export.evidence.cases()
    answers = LiteModel(export.lite(variant)).predict(case.inputs)
    assert set(answers) == set(case.outputs)
    bound = {"float32": 1e-6, "server": 1e-6, "float16": 1e-2}.get(variant, 0.1 if variant == "int8" else 0.05)
    for name, reference in case.outputs.items():
        assert answers[name].dtype == reference.dtype
        np.testing.assert_allclose(answers[name], reference, atol=bound)


@pytest.mark.slow
def test_user_model_with_negation_and_mask_is_full_integer(user_root: Path):
    described = description(Export(user_root, "two", 1), "int8")
    assert described["float_islands"] == {}
    assert "NEG" in description(Export(user_root, "two", 1), "float32")["ops"]


@pytest.mark.slow
def test_user_model_with_integers_has_no_int16x8_and_says_which_tensor_it_is(user_root: Path):
    error = description(Export(user_root, "two", 1), "int16x8")["error"]
    assert error.startswith("int16x8 needs a range for every tensor, and the calibrator records none for 'Sum'")
    assert description(Export(user_root, "fixed", 1), "int16x8")["error"] is None


@pytest.mark.slow
def test_user_model_with_strings_fails_with_a_plain_reason(user_root: Path):
    export = Export(user_root, "text", 1)
    for variant in DEPLOYED:
        assert description(export, variant)["error"] == (
            "TFLite has no built-in operator for UnicodeDecode; a server with TensorFlow can run this model"
        )
        assert not export.lite(variant).exists()


@pytest.mark.slow
def test_user_model_with_strings_that_the_converter_takes_has_no_file(user_root: Path):
    export = Export(user_root, "word", 1)
    for variant in DEPLOYED:
        assert "'word' holds strings" in description(export, variant)["error"]
        assert not export.lite(variant).exists()
