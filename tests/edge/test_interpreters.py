"""The three runtimes, each where it is installed: alike in their answers, and clear about what they cannot do."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from compare.targets.lite_tflite_runtime import TARGETS
from deploy.environments import load_environments
from edge.errors import ModelFileError, SettingError
from edge.interpreters import installed_runtimes, load_interpreter
from edge.runtime import LiteModel
from models.artifacts import REPOSITORY
from tests.edge import runtime_answers
from tests.edge.runtime_answers import MODELS, ROWS, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from export.bundle import Export

    Answers = dict[str, np.ndarray]

INTERPRETERS = {e.name: e.interpreter for e in load_environments()}
WHERE = {"ai-edge-litert": "edge", "tflite-runtime": "edge/tflite-runtime", "tensorflow": "."}
OTHERS = ["tflite-runtime", pytest.param("tensorflow", marks=pytest.mark.slow)]  # TensorFlow takes up to 20 s to import


@pytest.fixture(scope="session")
def answers_of(
    exports: dict[tuple[str, int], Export], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Answers]:
    """``answers_of(runtime)``: what it answers in its own environment; each is asked once."""

    @cache
    def ask(runtime: str) -> Answers:
        if runtime == "tflite-runtime" and (reason := TARGETS[0].unavailable()):
            pytest.skip(reason)
        root = next(iter(exports.values())).root
        if runtime == "tensorflow":  # of this environment, and most of these seconds are its import
            return runtime_answers.answers(runtime, root)
        out = tmp_path_factory.mktemp("answers") / f"{runtime}.npz"
        command = [INTERPRETERS[WHERE[runtime]], "-m", "tests.edge.runtime_answers", runtime, root, out]
        done = subprocess.run([str(c) for c in command], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with np.load(out) as found:
            return dict(found)

    return ask


@pytest.mark.parametrize("runtime", ["ai-edge-litert", *OTHERS])
def test_second_answer_of_a_runtime_equals_its_first(answers_of: Callable[[str], Answers], runtime: str):
    """The fused LSTM among them, whose state survives an invocation that nobody resets."""
    answers = answers_of(runtime)
    firsts = [key for key in answers if key.endswith("/first")]
    assert "lstm/int8/xnnpack/first" in firsts
    for key in firsts:
        np.testing.assert_array_equal(answers[key.replace("/first", "/again")], answers[key], err_msg=key)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("runtime", OTHERS)
def test_float_answers_are_those_of_litert(answers_of: Callable[[str], Answers], runtime: str, model: str):
    expected, answers = answers_of("ai-edge-litert"), answers_of(runtime)
    for delegate in ("xnnpack", "none"):
        key = f"{model}/float32/{delegate}/first"
        np.testing.assert_allclose(answers[key], expected[key], rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("runtime", OTHERS)
def test_int8_answers_of_the_built_in_kernels_are_alike(answers_of: Callable[[str], Answers], runtime: str, model: str):
    """XNNPACK rounds in its own way, which tflite-runtime does not have for int8."""
    expected, answers = answers_of("ai-edge-litert"), answers_of(runtime)
    key = f"{model}/int8/none"
    if runtime == "tflite-runtime":
        np.testing.assert_array_equal(answers[f"{model}/int8/xnnpack/first"], answers[f"{key}/first"])
    assert answers[f"{key}/first"].dtype == np.int8
    steps = np.abs(answers[f"{key}/first"].astype(int) - expected[f"{key}/first"]).max()
    # Both others' kernels are older than LiteRT 2.3's, and one that only the Transformer uses was changed since.
    assert steps <= (16 if model == "transformer" else 0)


def test_file_that_is_newer_than_its_runtime_is_refused_with_the_remedy(answers_of: Callable[[str], Answers]):
    answers = answers_of("tflite-runtime")
    reason = str(answers["cnn/dynamic/xnnpack/error"])
    assert reason.startswith("tflite-runtime 2.14.0 cannot load ")
    assert "it is older than the file and lacks version 12 of FULLY_CONNECTED; take a newer runtime" in reason
    assert "\n" not in reason


def test_litert_runs_every_variant(answers_of: Callable[[str], Answers]):
    answers = answers_of("ai-edge-litert")
    assert not [str(value) for key, value in answers.items() if key.endswith("/error")]
    assert len(answers) == len(MODELS) * len(VARIANTS) * 2 * 2
    assert all(len(value) == ROWS for value in answers.values())


def test_fused_lstm_goes_on_from_the_row_before_unless_it_is_reset(exports: dict[tuple[str, int], Export]):
    model = LiteModel(exports["lstm", 2].lite("int8"))
    (series,) = (case.inputs["series"][:1] for case in exports["lstm", 2].evidence.cases()[:1])
    prepared = model.prepare({"series": series})
    right = model.invoke(prepared)["next_week"]
    interpreter = load_interpreter(model.path.read_bytes())
    runner = interpreter.get_signature_runner()
    answers = [runner(**prepared)["next_week"] for _ in range(2)]
    np.testing.assert_array_equal(answers[0], right)
    assert not np.array_equal(answers[1], right)


def test_finding_out_what_is_installed_imports_nothing():
    code = "import sys; from edge.interpreters import installed_runtimes as i; print(*i(), *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = done.stdout.split()
    assert found[:2] == ["ai-edge-litert", "tensorflow"]
    assert not {"tensorflow", "ai_edge_litert", "tflite_runtime"} & set(found[2:])


def test_edge_runs_beside_numpy_1():
    if reason := TARGETS[0].unavailable():
        pytest.skip(reason)
    code = "import numpy; from edge import bench, json_tensors, library, runtime, tensors; print(numpy.__version__)"
    python = INTERPRETERS["edge/tflite-runtime"]
    done = subprocess.run([python, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1.26.")


def test_runtime_that_is_unknown_or_missing_names_those_there_are():
    assert "tflite-runtime" not in installed_runtimes()  # it cannot be installed beside NumPy 2
    with pytest.raises(
        SettingError, match=r"no runtime 'tflite'; there are ai-edge-litert, tflite-runtime, tensorflow"
    ):
        load_interpreter(b"", runtime="tflite")
    with pytest.raises(
        SettingError,
        match=r"'tflite-runtime' is not installed here; installed: ai-edge-litert 2\.\S+, tensorflow 2\.\S+; pip install",
    ):
        load_interpreter(b"", runtime="tflite-runtime")


def test_environment_without_a_runtime_says_what_to_install(tmp_path: Path):
    code = "import edge.interpreters as i\ntry: i.choose_runtime()\nexcept i.SettingError as e: print(e)"
    web = INTERPRETERS["web"]  # the page's environment: no runtime in it
    done = subprocess.run([web, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "a runtime for .tflite files is not installed here; installed: none; pip install ai-edge-litert"
    )


def test_runtime_that_cannot_be_imported_is_told_in_a_sentence(tmp_path: Path):
    """As tflite-runtime beside NumPy 2: the package is there, its library was built for another."""
    (tmp_path / "tflite_runtime").mkdir()
    (tmp_path / "tflite_runtime" / "interpreter.py").write_text("raise ImportError('numpy.core.multiarray failed')")
    (tmp_path / "tflite_runtime-2.14.0.dist-info").mkdir()
    (tmp_path / "tflite_runtime-2.14.0.dist-info" / "METADATA").write_text("Name: tflite-runtime\nVersion: 2.14.0\n")
    code = (
        "import edge.interpreters as i\ntry: i.import_runtime('tflite-runtime')\nexcept i.SettingError as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == (
        "tflite-runtime 2.14.0 is installed but cannot be imported (numpy.core.multiarray failed); install it again"
    )


def test_settings_that_cannot_be_are_refused(exports: dict[tuple[str, int], Export]):
    path = exports["mlp", 2].lite("int8")
    with pytest.raises(SettingError, match="0 threads cannot run anything; use 1 or more"):
        LiteModel(path, threads=0)
    with pytest.raises(SettingError, match="a pool of 0 interpreters cannot answer anything"):
        LiteModel(path, interpreters=0)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
def test_truncated_content_is_refused_by_the_runtime_itself(exports: dict[tuple[str, int], Export], kept: float):
    """Where no digest stands before it."""
    content = exports["cnn", 2].lite("int8").read_bytes()
    with pytest.raises(ModelFileError, match=r"ai-edge-litert \S+ cannot load the file: \S"):
        load_interpreter(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
