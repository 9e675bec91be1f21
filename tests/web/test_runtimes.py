"""The JavaScript runtimes, in the page and in Node.js: the same numbers as the reference, twice, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from compare.targets import node, page
from edge.runtime import LiteModel
from models.artifacts import REPOSITORY
from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compare.browser import Browser
    from compare.target import Session, Target
    from export.bundle import Export
    from export.evidence import Case

ROWS = 5
TARGETS = [*(target for target in page.TARGETS if target.precision == "float32"), *node.TARGETS]
BY_NAME = {target.name: target for target in (*TARGETS, *page.TARGETS)}
ENOUGH = 1e-5
INT8_STEPS = 4  # of an output; other kernels round some values the other way
GPUS = ("webgl", "webgpu")
MODELS = ("cnn", "lstm", "mlp", "transformer")


@pytest.fixture(scope="module", params=TARGETS, ids=lambda t: t.name)
def target(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Target]:
    with request.param as entered:
        entered.prepare()
        yield entered


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_backend_answers_as_the_reference_twice(
    target: Target, exports: dict[tuple[str, int], Export], model: str
) -> None:
    export = exports[model, 2]
    if (target.name, model) == ("tfjs-webgpu", "lstm"):
        assert "operations take seconds an answer" in str(target.unsupported(export, "serving_default"))
        return
    assert target.unsupported(export, "serving_default") is None
    if target.known_fault(export):
        return  # below
    with target.open(export) as session:
        for case in export.evidence.cases():
            answers_as_recorded(session, case)
        seconds = session.latencies({name: array[:1] for name, array in case.inputs.items()}, 3)
        assert seconds.shape == (3,)
        assert (seconds > 0).all()
        facts = session.facts()
    assert facts["artifact_sha256"]
    runtime, _, backend = target.name.partition("-")
    library = "LiteRT.js 2.5.3" if runtime == "litertjs" else "TF.js 4.22.0"
    assert f"{library}, {'Node.js' if runtime == 'node' else 'Chromium'}" in str(facts["runtime_version"])
    assert str(facts["accelerator"]).startswith(f"{backend}: ")
    if "wasm" in backend and runtime == "tfjs":
        assert f"{facts['threads']} thread" in str(facts["accelerator"])


def answers_as_recorded(session: Session, case: Case) -> None:
    inputs = {name: array[:ROWS] for name, array in case.inputs.items()}
    for _ in range(2):
        outputs = session.predict(inputs)
        assert outputs.keys() == case.outputs.keys()
        for name, expected in case.outputs.items():
            np.testing.assert_allclose(outputs[name], expected[:ROWS], rtol=ENOUGH, atol=ENOUGH)
            assert outputs[name].dtype == expected.dtype


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
def test_known_fault_is_still_one(exports: dict[tuple[str, int], Export]) -> None:
    """Once it is none, its sentence in the target goes."""
    export = exports["lstm", 2]
    with BY_NAME["litertjs-webgpu"] as target, target.open(export) as session:
        assert target.known_fault(export)
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            answers_as_recorded(session, export.evidence.cases()[0])


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("model", MODELS)
def test_int8_in_the_page_answers_as_the_same_file_in_this_process(
    exports: dict[tuple[str, int], Export], model: str
) -> None:
    """In raw units, though the file takes normalised ones."""
    export = exports[model, 2]
    case = export.evidence.cases()[0]
    inputs = {name: array[:ROWS] for name, array in case.inputs.items()}
    expected = LiteModel(export.lite("int8-inside")).predict(inputs)
    with BY_NAME["litertjs-wasm-int8"] as target, target.open(export) as session:
        for _ in range(2):
            for name, answer in session.predict(inputs).items():
                spread = float(np.ptp(case.outputs[name]))
                np.testing.assert_allclose(answer, expected[name], rtol=0, atol=INT8_STEPS * spread / 255)
                assert answer.dtype == case.outputs[name].dtype
        with pytest.raises(TargetError, match="there is no input 'nonsense'"):
            session.predict({"nonsense": np.zeros((1, 30), np.float32)})
        with pytest.raises(TargetError):
            session.predict({name: array[:, :3] for name, array in inputs.items()})


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    # A GPU in software takes seconds to begin; what measures it is the same for all runtimes of the page.
    [pytest.param(t, id=t.name, marks=[pytest.mark.ci] if t.name.endswith(GPUS) else []) for t in TARGETS],
    indirect=True,
    scope="module",
)
def test_cold_start_is_measured_from_the_start_of_its_page_or_process(
    target: Target, exports: dict[tuple[str, int], Export]
) -> None:
    export = exports["mlp", 2]
    seconds = target.cold_start(export, export.evidence.cases()[0].inputs)
    assert seconds is not None
    with target.open(export) as session:
        assert seconds > session.latencies(export.evidence.cases()[0].inputs, 1)[0] / 1000


@pytest.mark.slow
def test_unknown_input_and_wrong_shape_are_refused(target: Target, exports: dict[tuple[str, int], Export]) -> None:
    with target.open(exports["mlp", 2]) as session:
        with pytest.raises(TargetError, match="there is no input 'nonsense'; there are: features"):
            session.predict({"nonsense": np.zeros((1, 30), np.float32)})
        with pytest.raises(TargetError):
            session.predict({"features": np.zeros((1, 7), np.float32)})


def test_other_signature_is_unsupported(exports: dict[tuple[str, int], Export]) -> None:
    reason = BY_NAME["tfjs-cpu"].unsupported(exports["transformer", 2], "from_text")
    assert reason is not None
    assert "'static' only" in reason


def test_wrong_browser_path_is_said_with_the_remedy(
    exports: dict[tuple[str, int], Export], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(TargetError, match=r"CHROMIUM=/nowhere/chromium is no program.*apt-get install chromium"):
        TARGETS[0].open(exports["mlp", 2])


STARTS_A_BROWSER = """
from compare.targets.page import TARGETS
from models.errors import run_cli
run_cli(TARGETS[0].prepare)
"""


def test_program_that_is_no_browser_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "CHROMIUM": "/bin/false", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", STARTS_A_BROWSER]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: Chromium does not start: ")
    assert "apt-get install chromium" in sentence
    assert not list(tmp_path.glob("export-once-chromium-*"))


HOLDS_A_SESSION = """
import sys
from compare.targets.page import TARGETS
from export.bundle import find_exports
with TARGETS[0] as target:
    with target.open(find_exports(models=["mlp"], versions=[2])[0]) as session:
        print(target._browser()._profile, flush=True)
        if sys.argv[1] == "fail":
            raise RuntimeError("on purpose")
        session.predict({"features": __import__("numpy").zeros((100_000_000, 30), "float32")})
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["fail", "interrupt"])
def test_nothing_is_left_behind_when_the_caller_ends_early(spawn: Callable[..., subprocess.Popen], end: str) -> None:
    process = spawn(
        sys.executable, "-c", HOLDS_A_SESSION, end,
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    with process.stdout as lines:
        profile = Path(lines.readline().decode().strip())
    assert profile.name.startswith("export-once-chromium-")
    family = psutil.Process(process.pid).children(recursive=True)
    if end == "interrupt":
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to all of the group
    process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    assert not profile.exists()
