"""``lite-int8@tflite-runtime``: the same file in another environment, asked over pipes; it may crash or be missing."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from compare.target import find_target
from compare.targets import lite_tflite_runtime
from compare.targets.lite_tflite_runtime import ENVIRONMENT, Child, Refused, TfliteRuntime
from models.errors import ArtifactError, TargetError
from tests.compare.test_lite_and_edge_targets import copied, some_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from export.bundle import Export


@pytest.fixture
def target() -> Iterator[TfliteRuntime]:
    if reason := TfliteRuntime().unavailable():
        pytest.skip(reason)
    with TfliteRuntime() as target:
        target.prepare()
        yield target


def test_session_answers_in_raw_units_and_states_what_it_ran(
    exports: dict[tuple[str, int], Export], target: TfliteRuntime
):
    cnn, lstm = exports["cnn", 2], exports["lstm", 2]
    with target.open(cnn) as session, target.open(lstm) as beside, find_target("lite-int8").open(cnn) as litert:
        answers = session.predict(some_rows(cnn, 5))["probabilities"]
        assert beside.predict(some_rows(lstm))["next_week"].mean() > 300  # ppm
        facts = session.facts()
        expected = litert.facts()
    reference = cnn.evidence.cases()[0].outputs["probabilities"][:5]
    np.testing.assert_array_equal(answers.argmax(1), reference.argmax(1))
    assert facts["runtime_version"] == "tflite-runtime 2.14.0"
    for fact in ("artifact_sha256", "artifact_bytes", "threads"):
        assert facts[fact] == expected[fact]
    assert facts["pid"] != os.getpid()
    assert isinstance(facts["rss_bytes"], int)
    assert facts["rss_bytes"] > 10e6
    assert psutil.pid_exists(facts["pid"])  # type: ignore[arg-type]
    target.__exit__(None, None, None)
    assert not psutil.pid_exists(facts["pid"])  # type: ignore[arg-type]


def test_latencies_are_measured_where_the_model_is(
    exports: dict[tuple[str, int], Export], target: TfliteRuntime, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    ask = Child.ask
    monkeypatch.setattr(
        Child, "ask", lambda child, do, *rest, **options: asked.append(do) or ask(child, do, *rest, **options)
    )
    with target.open(exports["mlp", 2]) as session:
        seconds = session.latencies(some_rows(exports["mlp", 2], 1), 200)
    assert asked == ["load", "time", "close"]  # 200 requests, one message: no pipe is in the figures
    assert seconds.shape == (200,)
    assert seconds.dtype == np.float64
    assert (seconds > 0).all()


def test_cold_start_holds_the_start_of_a_process(exports: dict[tuple[str, int], Export], target: TfliteRuntime):
    seconds = target.cold_start(exports["cnn", 2], some_rows(exports["cnn", 2], 1))
    assert seconds is not None
    assert seconds > 0.03  # no Python starts and imports NumPy faster


def test_crash_costs_its_session_and_the_next_one_starts_afresh(
    exports: dict[tuple[str, int], Export], target: TfliteRuntime
):
    export = exports["cnn", 2]
    session = target.open(export)
    os.kill(session.facts()["pid"], signal.SIGSEGV)  # type: ignore[arg-type]
    with pytest.raises(TargetError, match=r"tflite-runtime crashed \(SIGSEGV\)"):
        session.predict(some_rows(export))
    session.close()
    with target.open(export) as another:
        assert another.predict(some_rows(export))["probabilities"].shape == (3, 10)


def test_input_that_does_not_fit_is_refused_and_the_session_lives_on(
    exports: dict[tuple[str, int], Export], target: TfliteRuntime
):
    with target.open(exports["cnn", 2]) as session:
        with pytest.raises(TargetError, match="holds NaN or infinity"):
            session.predict({"image": np.full((1, 8, 8, 1), np.nan, np.float32)})
        session.predict(some_rows(exports["cnn", 2]))


def test_file_that_the_runtime_refuses_is_skipped_in_its_own_words(
    exports: dict[tuple[str, int], Export], target: TfliteRuntime, tmp_path: Path
):
    """No int8 file of today is one; a dynamic one in its place is."""
    assert target.unsupported(exports["cnn", 2], "serving_default") is None
    export = copied(exports["cnn", 2], tmp_path)
    for suffix in (".tflite", ".json"):
        shutil.copy(exports["cnn", 2].lite("dynamic").with_suffix(suffix), export.lite("int8").with_suffix(suffix))
    reason = target.unsupported(export, "serving_default") or ""
    assert reason.startswith("tflite-runtime 2.14.0 cannot load ")
    assert "it is older than the file and lacks version 12 of FULLY_CONNECTED" in reason


def test_damaged_or_outdated_file_is_no_fault_of_the_runtime(
    exports: dict[tuple[str, int], Export], target: TfliteRuntime, tmp_path: Path
):
    export = copied(exports["mlp", 2], tmp_path)
    export.lite("int8").write_bytes(export.lite("int8").read_bytes()[:-8])
    for ask in (target.open, lambda export: target.unsupported(export, "serving_default")):
        with pytest.raises(ArtifactError, match="truncated or exchanged"):
            ask(export)
    with Child() as child, pytest.raises(Refused, match="truncated or exchanged"):
        child.ask("load", export.lite("int8"), threads=1)  # it would crash the runtime, which verifies nothing


def test_machine_without_the_environment_says_why(
    exports: dict[tuple[str, int], Export], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    missing = replace(ENVIRONMENT, root=tmp_path)
    missing.folder.mkdir(parents=True)
    monkeypatch.setattr(lite_tflite_runtime, "ENVIRONMENT", missing)
    target = TfliteRuntime()
    assert target.unavailable() == "its environment edge/tflite-runtime/.venv is missing; run `make setup`"
    missing.reason_file.write_text("there is no Python 3.11 here; run `apt-get install python3.11`\n")
    assert target.unavailable() == (
        "its environment edge/tflite-runtime/.venv is missing: there is no Python 3.11 here; run `apt-get install python3.11`"
    )
    with pytest.raises(TargetError, match=r"no Python 3\.11 here"):
        target.open(exports["cnn", 2])
    assert target.unsupported(exports["cnn", 2], "serving_default") is None  # that is not the model's fault
    missing.reason_file.unlink()
    missing.interpreter.parent.mkdir(parents=True)
    missing.interpreter.touch()  # as on macOS, where the lock holds NumPy alone
    assert target.unavailable() == "there is no tflite-runtime for this system, only for Linux"
